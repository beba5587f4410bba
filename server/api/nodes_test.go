package api

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// bigRun puts a run with so many nodes into a ledger, each below the first, with a result of so many bytes.
func bigRun(t *testing.T, l ledger.Ledger, nodes, result int) {
	t.Helper()
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	put := func(tx ledger.Tx, table, key, owner string, v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return tx.Put(ledger.Row{Table: table, Key: key, Owner: owner, Time: began, Body: body})
	}
	err := l.Write(context.Background(), ledger.On("run/default/big"), func(tx ledger.Tx) error {
		if _, err := tx.Append(ledger.Draft{Actor: "test", Kind: "test", Subject: "run/default/big"}); err != nil {
			return err
		}
		if err := put(tx, "run", "default/big", "", workflow.Run{Namespace: "default", Name: "big", Phase: workflow.Running}); err != nil {
			return err
		}
		for i := range nodes {
			n := map[string]any{
				"id": fmt.Sprintf("n%06d", i), "name": fmt.Sprint("big.", i), "type": "Pod", "phase": "Running", "order": i,
				"outputs": map[string]string{"result": strings.Repeat("r", result)},
			}
			if i > 0 {
				n["parent"] = "n000000"
			} else {
				n["type"] = "DAG"
			}
			if err := put(tx, "node", fmt.Sprintf("default/big/n%06d", i), "default/big", n); err != nil {
				return err
			}
		}
		for i := range 3 {
			a := workflow.Attempt{Node: "n000001", Name: "big.1", Attempt: i, Phase: workflow.Failed}
			if err := put(tx, "attempt", fmt.Sprint("default/big/n000001/", i), "default/big", a); err != nil {
				return err
			}
		}
		return put(tx, "attempt", "default/big/n000010/0", "default/big", workflow.Attempt{Node: "n000010"})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serveAPI serves an API's routes, without the gate.
func serveAPI(t *testing.T, a *API) string {
	t.Helper()
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		mux.Handle(r.Pattern, r.Handle)
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %.300s", url, resp.Status, err, raw)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

type gotNodes struct {
	Run       *workflow.Run      `json:"run"`
	Nodes     []workflow.Node    `json:"nodes"`
	Items     []workflow.Node    `json:"items"`
	Attempts  []workflow.Attempt `json:"attempts"`
	Next      string             `json:"next"`
	Truncated bool               `json:"truncated"`
	More      bool               `json:"more"`
	Seq       int64              `json:"seq"`
}

// Every node comes, page by page; what is not in an answer is said.
func TestNodesComeInPages(t *testing.T) {
	l := streamLedger(t)
	const many = 12_345
	bigRun(t, l, many, 10)
	base := serveAPI(t, &API{Ledger: l}) + "/api/v1/runs/default/big"
	for _, brief := range []string{"0", "1"} {
		var first gotNodes
		getJSON(t, base+"?brief="+brief, &first)
		if len(first.Nodes) != usualNodes || !first.Truncated || first.Next == "" || first.Seq != 1 || first.Run.Name != "big" {
			t.Errorf("first: %d nodes, truncated %v, next %q, seq %d", len(first.Nodes), first.Truncated, first.Next, first.Seq)
		}
		ids := map[string]bool{}
		for _, n := range first.Nodes {
			ids[n.ID] = true
		}
		for next := first.Next; next != ""; {
			var p gotNodes
			getJSON(t, base+"/nodes?limit=3000&brief="+brief+"&after="+url.QueryEscape(next), &p)
			for _, n := range p.Items {
				ids[n.ID] = true
				if whole := n.Outputs != nil; whole == (brief == "1") {
					t.Fatalf("brief=%s: node %s has outputs: %v", brief, n.ID, whole)
				}
			}
			next = p.Next
		}
		if len(ids) != many {
			t.Errorf("brief=%s: %d nodes, want %d", brief, len(ids), many)
		}
	}
	var changed gotNodes
	getJSON(t, base+"/nodes?since=1", &changed)
	if len(changed.Items) != 0 || changed.More || changed.Seq != 1 {
		t.Errorf("after 1: %d nodes, more %v, seq %d", len(changed.Items), changed.More, changed.Seq)
	}
	var attempts struct{ Items []workflow.Attempt }
	getJSON(t, base+"/attempts?node=n000001", &attempts)
	var one gotNodes
	getJSON(t, base+"/nodes/n000001", &one)
	if len(attempts.Items) != 3 || len(one.Attempts) != 3 {
		t.Errorf("%d attempts in the list and %d with the node, want 3", len(attempts.Items), len(one.Attempts))
	}
}

// A run that fits into one answer has all of it, with what follows what; rows that are large make an answer end earlier.
func TestWholeRunAndBytes(t *testing.T) {
	l := streamLedger(t)
	bigRun(t, l, 20, 10)
	var run gotNodes
	getJSON(t, serveAPI(t, &API{Ledger: l})+"/api/v1/runs/default/big", &run)
	if len(run.Nodes) != 20 || run.Truncated || len(run.Nodes[0].Children) != 19 || len(run.Attempts) != 4 {
		t.Errorf("%d nodes, truncated %v, %d attempts", len(run.Nodes), run.Truncated, len(run.Attempts))
	}
	l = streamLedger(t)
	bigRun(t, l, 1500, 40_000)
	run = gotNodes{}
	getJSON(t, serveAPI(t, &API{Ledger: l})+"/api/v1/runs/default/big", &run)
	if len(run.Nodes) != nodeChunk || !run.Truncated {
		t.Errorf("%d nodes of 40 KB in one answer, truncated %v; want %d", len(run.Nodes), run.Truncated, nodeChunk)
	}
}

// JSON is compressed for those who take it, other texts and small answers are not, and there is a bound on how many at once.
func TestPacking(t *testing.T) {
	p := newPacking()
	long := strings.Repeat(`{"a":"b"}`, 1000)
	ask := func(accept, kind, body string, code int) (*http.Response, string) {
		t.Helper()
		h := p.wrap(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			for _, part := range strings.SplitAfter(body, "}") {
				_, _ = io.WriteString(w, part)
			}
		})
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		h(w, r)
		resp := w.Result()
		defer resp.Body.Close()
		var in io.Reader = resp.Body
		if resp.Header.Get("Content-Encoding") == "gzip" {
			if w.Body.Len() > len(long)/10 {
				t.Errorf("%d bytes", w.Body.Len())
			}
			z, err := gzip.NewReader(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			in = z
		}
		got, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(got)
	}
	for _, c := range []struct {
		name, accept, kind, body string
		code                     int
		packed                   bool
	}{
		{"a browser", "gzip, deflate, br", "application/json", long, 200, true},
		{"anything", "*", "application/json", long, 200, true},
		{"an error", "gzip", "application/json", long, 404, true},
		{"nothing named", "", "application/json", long, 200, false},
		{"refused", "gzip;q=0, *", "application/json", long, 200, false},
		{"small", "gzip", "application/json", `{"a":1}`, 200, false},
		{"a log", "gzip", "text/plain", long, 200, false},
		{"empty", "gzip", "application/json", "", 204, false},
	} {
		resp, got := ask(c.accept, c.kind, c.body, c.code)
		if packed := resp.Header.Get("Content-Encoding") == "gzip"; packed != c.packed || got != c.body || resp.StatusCode != c.code {
			t.Errorf("%s: packed %v, %d bytes, %d", c.name, packed, len(got), resp.StatusCode)
		}
		if resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: caches are not told", c.name)
		}
	}
	for range cap(p.places) {
		p.places <- struct{}{}
	}
	if resp, got := ask("gzip", "application/json", long, 200); resp.Header.Get("Content-Encoding") != "" || got != long {
		t.Error("compressed beyond the bound")
	}
}

// A long line is cut, and so is a long answer, at the end of a line; both say so and how to get the rest.
func TestLogsAreBounded(t *testing.T) {
	line := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name, log, want string
		most            int
		next            uint64
	}{
		{"short lines", "a\nb\n\nc", "a\nb\n\nc", 0, 3},
		{"a long line", "a\n" + line(mostLine+100) + "\nb\n", "a\n" + line(mostLine) + " [cut: 100 more bytes of this line; whole=1 gives them]\nb\n", 0, 3},
		{"exactly as long as may be", line(mostLine) + "\nb\n", line(mostLine) + "\nb\n", 0, 2},
		{"a long line without an end", line(mostLine + 7), line(mostLine) + " [cut: 7 more bytes of this line; whole=1 gives them]", 0, 0},
		{"a long answer", "aaaa\nbbbb\ncccc\n", "aaaa\nbbbb\n[cut: the log goes on; from=2 gives what comes next, whole=1 all]\n", 7, 2},
		{"an answer that is just full", "aaaa\nbbbb\n", "aaaa\nbbbb\n", 7, 2},
	} {
		for _, piece := range []int{1, 3, 64 << 10, 1 << 20} {
			w := httptest.NewRecorder()
			k := &cutter{w: w, most: c.most}
			err := copyLog(w, k, &pieces{text: c.log, size: piece})
			if got := w.Body.String(); got != c.want || (err != nil) != k.full || k.next() != c.next {
				t.Errorf("%s in pieces of %d: %.60q… (%d bytes), %v, next %d; want %.60q… (%d), next %d",
					c.name, piece, got, len(got), err, k.next(), c.want, len(c.want), c.next)
			}
		}
	}
	w := httptest.NewRecorder()
	argoLines(w, "p", strings.NewReader("a\n"+line(2<<20)+"\nb"))
	var got []string
	for d := json.NewDecoder(w.Body); d.More(); {
		var one struct{ Result struct{ Content string } }
		if err := d.Decode(&one); err != nil {
			t.Fatal(err)
		}
		got = append(got, one.Result.Content)
	}
	want := []string{"a", line(mostLine) + cutMark(2<<20-mostLine), "b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as Argo's lines: %.300s", diff)
	}
}

// pieces reads a text in pieces of a size.
type pieces struct {
	text string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b, p.text[:min(p.size, len(p.text))])
	p.text = p.text[n:]
	return n, nil
}
