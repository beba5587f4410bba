package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// credentials of the walk, in the order of the columns of testdata/routes.golden.
var columns = []string{"nothing", "viewer", "developer", "admin", "metrics", "git", "step", "step of another repository", "step of a merge request", "ended step"}

// mumbled is a pipeline whose step says its token backwards, since its log would not show it otherwise, and then waits.
func mumbled(name, wait string) string {
	return pipeline(name, "", `container: {image: alpine, command: [sh, -c, 'printf %s "$TIPHYS_TOKEN" | rev; echo; `+wait+`']}`)
}

// walkers gives somebody of each kind a credential.
func walkers(t *testing.T, w *story.World) map[string]string {
	t.Helper()
	admin, err := w.Token()
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := os.ReadFile(filepath.Join(w.Data, "keys", "metrics.token"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"nothing": "", "admin": admin, "metrics": strings.TrimSpace(string(metrics))}
	for _, role := range []string{"viewer", "developer"} {
		command(t, w, "user", "add", role, "--role", role)
		all[role] = command(t, w, "token", "create", "--user", role)
	}
	all["git"] = command(t, w, "token", "create", "--user", "developer", "--scope", "git")

	apply(t, w, "walk.yaml", pipelines("walk")+"---\n"+pipelines("other")+"---\n"+pipelines("over"))
	for _, repo := range []string{"walk", "other", "over"} {
		c := newClone(t, w, repo)
		wait := "sleep 300"
		if repo == "over" {
			wait = "exit 0"
		}
		c.push("main", "ci.yaml", mumbled(repo+"-main", wait))
		if repo == "walk" {
			c.push("change", "README", "Harmless\n")
		}
	}
	for name, run := range map[string]string{"step": "walk-main", "step of another repository": "other-main", "step of a merge request": "walk-main", "ended step": "over-main"} {
		all[name] = tokenOfStep(t, w, run, name == "step of a merge request", name == "ended step")
	}
	return all
}

// command runs the command line and gives what it says.
func command(t *testing.T, w *story.World, args ...string) string {
	t.Helper()
	out, err := w.Tiphys(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tokenOfStep is what the step of a run mumbles.
func tokenOfStep(t *testing.T, w *story.World, prefix string, ofRequest, ended bool) string {
	t.Helper()
	var token string
	err := w.Within(t.Context(), time.Minute, "the step of "+prefix+" mumbles", func(ctx context.Context) error {
		var list struct {
			Items []struct {
				Name, Phase string
				ActsFor     struct{ MR int } `json:"actsFor"`
			}
		}
		if err := w.Get(ctx, "", "/api/v1/runs", &list); err != nil {
			return err
		}
		i := slices.IndexFunc(list.Items, func(r struct {
			Name, Phase string
			ActsFor     struct{ MR int } `json:"actsFor"`
		}) bool {
			return strings.HasPrefix(r.Name, prefix) && (r.ActsFor.MR != 0) == ofRequest
		})
		if i < 0 {
			return fmt.Errorf("it is not among %+v", list.Items)
		}
		run := list.Items[i]
		if ended && run.Phase != "Succeeded" {
			return fmt.Errorf("it is %s", run.Phase)
		}
		var d struct{ Nodes []struct{ ID, Type string } }
		if err := w.Get(ctx, "", "/api/v1/runs/default/"+run.Name, &d); err != nil {
			return err
		}
		for _, n := range d.Nodes {
			var text string
			if err := w.Get(ctx, "", "/api/v1/runs/default/"+run.Name+"/log/"+n.ID, &text); err != nil {
				return err
			}
			mumble := []byte(strings.TrimSpace(text))
			slices.Reverse(mumble)
			if token = string(mumble); strings.HasPrefix(token, "tps_") {
				return nil
			}
		}
		return errors.New("it says nothing yet")
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// filled puts names into a pattern, of what is not there where that is enough to be refused or not.
func filled(pattern string) string {
	return strings.NewReplacer("{namespace}", "default", "{kind}", "WorkflowTemplate", "{name}", "nothing", "{node}", "nothing", "{artifact}", "nothing", "{pod}", "nothing",
		"{container}", "main", "{key...}", "nothing", "{key}", "nothing", "{id}", "nothing", "{seq}", "999999", "{repo}", "walk", "{number}", "99",
		"/workflows/default/nothing/{verb}", "/workflows/default/nothing/stop", "{verb}", "retry").Replace(pattern)
}

// none is no body.
const none = "-"

// bodies are those that a route needs to say who may use it; of every other one that may have a body it is an empty object.
func bodies(pattern string) string {
	return map[string]string{
		"POST /api/v1/step/comments": `{"body": "said by the walk"}`, "POST /api/v1/step/statuses": `{"state": "success", "context": "walk"}`, "POST /api/v1/logout": none,
		"POST /api/v1/login": none, "PUT /v2/walk/api/manifests/latest": "{}",
	}[pattern]
}

// Every route and verb of the port and of the steps' socket, with every kind of credential, does what the table says, which was written by reasoning.
func TestEveryRouteWithEveryCredential(t *testing.T) {
	w := server(t, "{to: {repositories: [walk, other, over], mergeRequests: true}, executors: [host]}")
	who := walkers(t, w)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		endRuns(ctx, t, w)
	}()
	socket := filepath.Join(w.Data, "socket", "api.sock")
	steps := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer http.DefaultClient.CloseIdleConnections()
	defer steps.CloseIdleConnections()
	raw, err := os.ReadFile(filepath.Join("testdata", "routes.golden"))
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]string{}
	asked := 0
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Fields(line)
		want := cells[len(cells)-1]
		client, cells := http.DefaultClient, cells[:len(cells)-1]
		if cells[0] == "step" {
			client, cells = steps, cells[1:]
		}
		pattern := strings.Join(cells, " ")
		if client == http.DefaultClient {
			path, _, _ := strings.Cut(cells[1], "?")
			routes[filled(path)] += " " + cells[0]
		}
		got := ""
		for _, name := range columns {
			code, _, err := knock(t.Context(), client, w.URL, cells[0], filled(cells[1]), who[name], bodies(pattern))
			if err != nil {
				t.Fatalf("%s by %s: %v", pattern, name, err)
			}
			asked++
			got += map[int]string{http.StatusUnauthorized: "1", http.StatusForbidden: "3"}[code]
			if code != http.StatusUnauthorized && code != http.StatusForbidden {
				got += "+"
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s (columns: %s)", line, got, want, strings.Join(columns, ", "))
		}
	}
	t.Logf("%d requests", asked)
	otherVerbs(t, w, routes)
}

// otherVerbs tries every verb that the table does not have for a path: nobody gets anything by it but the screens' page.
func otherVerbs(t *testing.T, w *story.World, routes map[string]string) {
	t.Helper()
	for path, has := range routes {
		if strings.HasPrefix(path, "/git/") || strings.HasPrefix(path, "/v2/") || strings.HasPrefix(path, "/webhooks/") {
			continue // they have every verb, and say themselves what comes of it
		}
		for _, verb := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			public := !strings.HasPrefix(path, "/api/") && path != "/metrics"
			if strings.Contains(has+" ", " "+verb+" ") || public && verb == "HEAD" {
				continue
			}
			code, kind, err := knock(t.Context(), http.DefaultClient, w.URL, verb, path, "", none)
			if err != nil {
				t.Fatalf("%s %s: %v", verb, path, err)
			}
			page := (verb == "GET" || verb == "HEAD") && strings.HasPrefix(kind, "text/html")
			if !page && !slices.Contains([]int{http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed}, code) {
				t.Errorf("%s %s by nobody: %d %s, though there is no such route", verb, path, code, kind)
			}
		}
	}
}

// knock sends a request and gives the status and the type of the answer; a stream is left at once.
func knock(ctx context.Context, client *http.Client, url, verb, path, token, body string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var r io.Reader
	switch {
	case body == none:
	case body != "":
		r = strings.NewReader(body)
	case verb == http.MethodPost || verb == http.MethodPut:
		r = strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(ctx, verb, url+path, r)
	if err != nil {
		return 0, "", err
	}
	if service, ok := strings.CutPrefix(path, "/git/walk.git/git-"); ok {
		req.Header.Set("Content-Type", "application/x-git-"+service+"-request")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Content-Type"), nil
}

// endRuns ends every run, and waits until nothing of them is left.
func endRuns(ctx context.Context, t *testing.T, w *story.World) {
	t.Helper()
	err := w.Within(ctx, 20*time.Second, "no run is left", func(ctx context.Context) error {
		var list struct{ Items []struct{ Name string } }
		if err := w.Get(ctx, "", "/api/v1/runs?state=Running&state=Pending", &list); err != nil {
			return err
		}
		for _, r := range list.Items {
			if _, err := w.Tiphys(ctx, "terminate", r.Name); err != nil {
				return err
			}
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%d run", len(list.Items))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
