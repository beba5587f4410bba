package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/cli"
)

// against runs a command line against a server that gives these answers by "METHOD path?query", and gives both outputs.
func against(t *testing.T, answers map[string]string, args ...string) (out, errs string, code int) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			t.Errorf("nobody expects %s %s", r.Method, r.URL.RequestURI())
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodPost {
			var body map[string]string
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			answer = strings.ReplaceAll(answer, "BODY", fmt.Sprint(body))
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer s.Close()
	var o, e strings.Builder
	code = cli.Main(t.Context(), append(args, "--server", s.URL), cli.IO{In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(string) string { return "" }})
	return o.String(), e.String(), code
}

// A list says of each run what a person asks next: which step failed, or waits; and where nothing is, what to do.
func TestListSaysWhatHappened(t *testing.T) {
	run := func(name, phase, more string) string {
		return `{"namespace":"default","name":"` + name + `","phase":"` + phase + `","createdAt":"2026-01-02T03:04:05Z"` + more + `}`
	}
	all := "GET /api/v1/runs?limit=50"
	out, errs, code := against(t, map[string]string{all: `{"items":[` + strings.Join([]string{
		run("own", "Failed", `,"message":"no such template"`),
		run("step", "Failed", `,"failure":{"node":"n","name":"moor","message":"exit code 3"}`),
		run("silent", "Failed", `,"failure":{"node":"n","name":"moor"}`),
		run("gate", "Running", `,"waitsFor":{"node":"n","name":"approve"}`),
		run("fine", "Succeeded", ""),
	}, ",") + `]}`}, "list")
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
		fields := strings.Split(line, "  ")
		got = append(got, strings.TrimPrefix(fields[0], "default/")+": "+strings.TrimSpace(fields[len(fields)-1]))
	}
	want := []string{"own: no such template", "step: moor: exit code 3", "silent: moor failed", "gate: waits at approve"}
	if diff := cmp.Diff(want, got[:4]); diff != "" || code != 0 || errs != "" {
		t.Errorf("%s (code %d, %s)", diff, code, errs)
	}
	for query, want := range map[string]string{all: "start one with tiphys submit", all + "&state=Failed": "no run is like that"} {
		args := []string{"list"}
		if strings.Contains(query, "state") {
			args = append(args, "--state", "Failed")
		}
		if _, errs, code := against(t, map[string]string{query: `{"items":[]}`}, args...); code != 0 || !strings.Contains(errs, want) {
			t.Errorf("%v: code %d, %q", args, code, errs)
		}
	}
}

func TestRepos(t *testing.T) {
	const list, create = "GET /api/v1/repos", "POST /api/v1/repos"
	out, _, code := against(t, map[string]string{list: `{"items":[{"name":"harbour","defaultBranch":"main","head":"0123456789abcdef","cloneURL":"http://localhost/git/harbour.git","description":"ships"}]}`}, "repos", "list")
	if want := "harbour  main    01234567  http://localhost/git/harbour.git  ships"; code != 0 || !strings.Contains(out, want) {
		t.Errorf("code %d, got\n%swant\n%s", code, out, want)
	}
	if _, errs, code := against(t, map[string]string{list: `{"items":[]}`}, "repos", "list"); code != 0 || !strings.Contains(errs, "tiphys repos create NAME") {
		t.Errorf("code %d, %q", code, errs)
	}
	out, errs, code := against(t, map[string]string{create: `{"name":"fort","cloneURL":"http://localhost/git/fort.git#BODY"}`}, "repos", "create", "fort", "--default-branch", "trunk")
	if want := "http://localhost/git/fort.git#map[defaultBranch:trunk description: name:fort]\n"; out != want || code != 0 {
		t.Errorf("code %d, %q %q", code, out, errs)
	}
}
