package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/scripted"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/events"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/event/source/calendar"
	"github.com/tiphys/tiphys/event/source/hook"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/workflow"
)

const lab = `
apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: lab, namespace: ports}
spec:
  gitlab:
    push:
      webhook: {endpoint: /push, method: POST, port: "12000", url: ""}
      projects: ["1"]
      events: [PushEvents]
      accessToken: {name: lab, key: api}
      gitlabBaseURL: https://gitlab.example
      secretToken: {name: lab, key: token}
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: main, namespace: ports}
spec:
  dependencies:
  - {name: push, eventSourceName: lab, eventName: push, filters: {data: [{path: git.branch, type: string, value: ["^main$"]}]}}
  triggers: [{template: {name: say, log: {}}}]
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: release, namespace: ports}
spec:
  dependencies:
  - {name: push, eventSourceName: lab, eventName: push, filters: {data: [{path: git.branch, type: string, value: ["^release-"]}]}}
  triggers: [{template: {name: say, log: {}}}]
`

func secretOf(token string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {name: lab, namespace: ports}\nstringData: {token: " + token + ", api: unused}\n"
}

// house is the event room over a real ledger; stop and start are a restart of the server.
type house struct {
	*testing.T
	ledger  *sqlite.Ledger
	defs    *definitions.Store
	room    *events.Controller
	scripts sensor.Scripts
	stop    func()
}

func newHouse(t *testing.T) *house {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off,
		Projections: []ledger.Projection{event.Rows{}, definitions.Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	box, err := secret.NewBox(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, ledger: l, defs: definitions.New(l, box, nil), stop: func() {}}
	h.apply(lab + "---\n" + secretOf("old"))
	h.open()
	return h
}

func (h *house) apply(text string) {
	h.Helper()
	objects, diags := manifest.Decode("lab.yaml", []byte(text))
	if manifest.Failed(diags) {
		h.Fatal(diags)
	}
	if _, err := h.defs.Apply(h.Context(), "user:ada", definitions.OriginAPI, objects); err != nil {
		h.Fatal(err)
	}
}

// open makes a room that receives; start lets it decide.
func (h *house) open() {
	h.Helper()
	r := runs.New(runs.Options{Ledger: h.ledger, Executors: executor.NewRegistry(podpolicy.New(), scripted.New(scripted.Options{}).Named()), Objects: h.defs})
	kinds, err := source.NewKinds(append(hook.Kinds(), calendar.Kind{})...)
	if err != nil {
		h.Fatal(err)
	}
	h.room = events.New(events.Options{Ledger: h.ledger, Definitions: h.defs, Runs: r, Sources: kinds, Secrets: runs.NewSecrets(h.defs), Now: time.Now,
		Scripts: h.scripts, Log: slog.New(slog.DiscardHandler)})
	if err := h.room.Start(h.Context()); err != nil {
		h.Fatal(err)
	}
}

func (h *house) start() {
	ctx, cancel := context.WithCancel(h.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.room.Run(ctx); err != nil {
			h.Error(err)
		}
	}()
	h.stop = func() { cancel(); <-done }
	h.Cleanup(h.stop)
}

// push delivers a push, a large one where the delivery's id says so, and gives the answer's status and the event's sequence.
func (h *house) push(branch, delivery, token string) (int, int64) {
	pad := ""
	if strings.HasPrefix(delivery, "large") {
		pad = strings.Repeat("x", 40_000)
	}
	body := fmt.Sprintf(`{"object_kind":"push","ref":"refs/heads/%s","after":"%040d","project":{"path_with_namespace":"o/r"},"pad":%q}`, branch, 1, pad)
	req := httptest.NewRequestWithContext(h.Context(), http.MethodPost, "/webhooks/ports/lab/push", bytes.NewReader([]byte(body)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Gitlab-Event", "Push Hook")
	req.Header.Set("X-Gitlab-Token", token)
	req.Header.Set("X-Gitlab-Event-UUID", delivery)
	w := httptest.NewRecorder()
	h.room.ServeHTTP(w, req)
	var answer struct{ Seq int64 }
	_ = json.Unmarshal(w.Body.Bytes(), &answer) // a refusal has none
	return w.Code, answer.Seq
}

// decided waits until so many events have been decided on and gives "event sequence: sensor outcome…" of each, in the order of the
// ledger.
func (h *house) decided(n int) []string {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), time.Minute)
	defer cancel()
	for {
		changed := h.ledger.Changed()
		entries, err := h.ledger.Entries(ctx, ledger.EntryQuery{Kinds: []string{event.KindDecided}, Limit: 10_000})
		if err != nil {
			h.Fatal(err)
		}
		if len(entries) >= n {
			var lines []string
			for _, e := range entries {
				d, err := ledger.Read[event.Decided](e)
				if err != nil {
					h.Fatal(err)
				}
				line := fmt.Sprint(e.Cause, ":")
				for _, one := range d.Decisions {
					line += " " + strings.TrimPrefix(one.Sensor, "ports/") + " " + one.Outcome
				}
				lines = append(lines, line)
			}
			return lines
		}
		select {
		case <-changed:
		case <-ctx.Done():
			h.Fatalf("%d decisions within a minute, want %d", len(entries), n)
		}
	}
}

// Every event is decided on once, in the order of the ledger: those of this process, those that an earlier process left, and
// those that are too large to be kept in memory.
func TestEveryEventIsDecidedOnOnceAndInOrder(t *testing.T) {
	h := newHouse(t)
	var want []string
	expect := func(branch string, seq int64) {
		outcomes := map[string]string{"main": "main fired release filtered", "release-1": "main filtered release fired"}
		want = append(want, fmt.Sprintf("%d: %s", seq, outcomes[branch]))
	}
	for i, branch := range []string{"main", "release-1", "main"} {
		code, seq := h.push(branch, fmt.Sprint("before-", i), "old")
		if code != http.StatusOK {
			t.Fatalf("status %d", code)
		}
		expect(branch, seq)
	}
	h.open() // another process: nothing of it is in memory
	h.start()
	h.decided(3)

	var mu sync.Mutex
	var wg sync.WaitGroup
	seqs := map[int64]bool{}
	for i := range 200 {
		wg.Go(func() {
			code, seq := h.push("main", fmt.Sprint([]string{"at once-", "large-"}[i%2], i), "old")
			mu.Lock()
			defer mu.Unlock()
			if seqs[seq] = true; code != http.StatusOK {
				t.Errorf("status %d", code)
			}
		})
	}
	wg.Wait()
	if len(seqs) != 200 {
		t.Errorf("200 deliveries made %d events", len(seqs))
	}
	code, first := h.push("main", "before-0", "old")
	if code != http.StatusOK || fmt.Sprintf("%d:", first) != strings.Fields(want[0])[0] {
		t.Errorf("a redelivery answers %d with event %d", code, first)
	}
	all := h.decided(203)
	h.stop()

	_, seq := h.push("release-1", "while it was down", "old")
	h.open()
	h.start()
	got := h.decided(204)
	if got[203] != fmt.Sprintf("%d: main filtered release fired", seq) {
		t.Errorf("the last decision is %s", got[203])
	}
	if strings.Join(got[:3], "\n") != strings.Join(want, "\n") {
		t.Errorf("decisions %v, want %v", got[:3], want)
	}
	var last int64
	for _, line := range got {
		var cause int64
		if _, err := fmt.Sscanf(line, "%d:", &cause); err != nil || cause <= last {
			t.Fatalf("%q comes after a decision on event %d", line, last)
		}
		last = cause
	}
	if strings.Join(all, "\n") != strings.Join(got[:203], "\n") {
		t.Error("a restart changed what was decided")
	}
}

// A delivery that is signed with a secret which was replaced is refused from the moment on in which that was acknowledged.
func TestAReplacedSecretIsWorthNothingAtOnce(t *testing.T) {
	h := newHouse(t)
	for i := range 20 {
		old, token := fmt.Sprint("token-", i), fmt.Sprint("token-", i+1)
		h.apply(secretOf(old))
		if code, _ := h.push("main", fmt.Sprint("a-", i), old); code != http.StatusOK {
			t.Fatalf("the secret: status %d", code)
		}
		h.apply(secretOf(token))
		if code, _ := h.push("main", fmt.Sprint("b-", i), old); code != http.StatusUnauthorized {
			t.Fatalf("the replaced secret: status %d", code)
		}
		if code, _ := h.push("main", fmt.Sprint("c-", i), token); code != http.StatusOK {
			t.Fatalf("the new secret: status %d", code)
		}
	}
	if _, err := h.defs.Object(t.Context(), workflow.Ref{Kind: "Secret", Namespace: "ports", Name: "lab"}); err != nil {
		t.Fatal(err)
	}
	if err := h.defs.Delete(t.Context(), "user:ada", definitions.OriginAPI, "Secret", "ports", "lab"); err != nil {
		t.Fatal(err)
	}
	if code, _ := h.push("main", "deleted", "token-20"); code != http.StatusServiceUnavailable {
		t.Errorf("without its secret the webhook answers %d", code)
	}
}
