package trust

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// stepSays runs a script as a step of the host executor in a namespace, and gives what it prints.
func stepSays(t *testing.T, w *story.World, name, namespace, spec, script string) string {
	t.Helper()
	file := filepath.Join(w.Dir, name+".yaml")
	text := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: %s, namespace: %s}
spec:
  entrypoint: main
%s
  templates:
  - name: main
    script:
      image: any
      command: [bash]
      source: |
%s
`, name, namespace, indent(spec, 2), indent(script, 8))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Tiphys(t.Context(), "submit", file, "--watch"); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	said, err := w.Tiphys(t.Context(), "logs", name, "-n", namespace)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// calls is a script that asks an address over HTTP and prints the first line of the answer between two signs.
func calls(host string) string {
	return fmt.Sprintf(`exec 3<>/dev/tcp/%s/8080 && printf 'GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n' >&3 && read -r -t 20 line <&3
echo "<${line%%$'\r'}>"`, host)
}

// A Service was reached from every namespace, though the pods behind it were not: a step of any repository called production's API. Now who calls is who is
// judged, and a NetworkPolicy says who else may.
func TestServiceIsNoWayIntoAnotherNamespace(t *testing.T) {
	w := server(t)
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "Open the harbour"}, {"push", "-q", w.URL + "/git/harbour.git", "main"}} {
		if _, err := w.Git(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	healthy := func(name string) {
		t.Helper()
		err := w.Within(t.Context(), 3*time.Minute, name+" is healthy", func(ctx context.Context) error {
			code, out, err := w.Request(ctx, http.MethodGet, "", "/api/v1/apps/default/"+name, nil, nil)
			if err != nil || code != http.StatusOK || !strings.Contains(string(out), `"sync":"Synced"`) || !strings.Contains(string(out), `"health":{"status":"Healthy"`) {
				return fmt.Errorf("%d %w %s", code, err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	healthy("harbour-prod")
	const answer = "200 OK>"
	if said := stepSays(t, w, "beside", "harbour-prod", "", calls("api.harbour-prod")); !strings.Contains(said, answer) {
		t.Errorf("a step beside it is told %q", said)
	}
	if said := stepSays(t, w, "stranger", "default", "", calls("api.harbour-prod")); strings.Contains(said, "HTTP") {
		t.Errorf("a step of another namespace is told %q", said)
	}
	c := newClone(t, w, "walls")
	c.push("main", "policy.yaml", `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/name: api}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}]
    ports: [{port: http}]
`)
	walls := strings.ReplaceAll(production("walls"), "namespace: walls-prod", "namespace: harbour-prod")
	if err := os.WriteFile(filepath.Join(w.Config, "walls.yaml"), []byte(walls), 0o600); err != nil {
		t.Fatal(err)
	}
	appSays(t, w, "walls-prod", `"sync":"Synced"`)
	if said := stepSays(t, w, "friend", "default", "", calls("api.harbour-prod")); !strings.Contains(said, answer) {
		t.Errorf("who is let is told %q", said)
	}
	if said := stepSays(t, w, "not-named", "harbour-prod", "", calls("api.harbour-prod")); strings.Contains(said, "HTTP") {
		t.Errorf("who is not let any more is told %q", said)
	}
	if said := stepSays(t, w, "other-pods", "harbour-prod", "", calls("web.harbour-prod")); !strings.Contains(said, "HTTP") {
		t.Errorf("pods that no policy is about answer %q", said)
	}
	takeAway(t, w)
}

// takeAway removes the definitions of the folder, and waits until what they made is gone.
func takeAway(t *testing.T, w *story.World) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.Config, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	err = w.Within(t.Context(), time.Minute, "the applications are gone", func(ctx context.Context) error {
		var list struct {
			Items []struct {
				Name    string `json:"name"`
				Deleted bool   `json:"deleted"`
			} `json:"items"`
		}
		if err := w.Get(ctx, "", "/api/v1/apps", &list); err != nil {
			return err
		}
		for _, a := range list.Items {
			if !a.Deleted {
				return fmt.Errorf("%s is there", a.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A step of the host executor had the machine's network and files: it spoke to what listens on loopback, to the abstract sockets of other programs, and read
// every user's keys.
func TestHostStepIsNotTheMachine(t *testing.T) {
	home, err := os.MkdirTemp("/home", "tiphys-trust-")
	if err != nil {
		t.Skipf("SKIPPED: no home can be made: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	for _, f := range []string{".ssh/id_ed25519", ".aws/credentials", ".kube/config", ".docker/config.json", ".config/tiphys/tokens", ".netrc", ".git-credentials"} {
		f = filepath.Join(home, f)
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte("of-the-crown\n"), 0o644); err != nil { //nolint:gosec // whoever is there may read it
			t.Fatal(err)
		}
	}
	w := server(t)
	host, port, _ := strings.Cut(strings.TrimPrefix(w.URL, "http://"), ":")
	script := fmt.Sprintf(`(exec 3<>/dev/tcp/%s/%s) 2>/dev/null && echo loopback-reached
grep -q '@tiphys-bridge' /proc/net/unix && echo sockets-seen
cat %s/.netrc %[3]s/.git-credentials %[3]s/.*/* %[3]s/.config/*/* 2>/dev/null
(exec 3<>/dev/tcp/169.254.169.254/80) 2>/dev/null && echo metadata-reached
tiphys whoami && echo the-end`, host, port, home)
	said := stepSays(t, w, "curious", "default", "", script)
	for _, never := range []string{"loopback-reached", "sockets-seen", "metadata-reached", "of-the-crown"} {
		if strings.Contains(said, never) {
			t.Errorf("%s: %s", never, said)
		}
	}
	if !strings.Contains(said, "the-end") {
		t.Errorf("it does not speak to its server: %s", said)
	}
}

// The machine's network is a grant: a step that asks for it without is refused, and one with it has it.
func TestMachinesNetworkIsAGrant(t *testing.T) {
	w := server(t, "{to: {namespaces: [trusted]}, hostNetwork: true, executors: [host]}")
	host, port, _ := strings.Cut(strings.TrimPrefix(w.URL, "http://"), ":")
	script := fmt.Sprintf("(exec 3<>/dev/tcp/%s/%s) && echo loopback-reached", host, port)
	if said := stepSays(t, w, "granted", "trusted", "hostNetwork: true", script); !strings.Contains(said, "loopback-reached") {
		t.Errorf("with the grant: %s", said)
	}
	file := filepath.Join(w.Dir, "denied.yaml")
	text := "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: denied}\nspec: {entrypoint: m, hostNetwork: true, templates: [{name: m, container: {image: any, command: [id]}}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.Tiphys(t.Context(), "submit", file, "--watch"); err == nil || !strings.Contains(err.Error()+out, "hostNetwork") {
		t.Errorf("without the grant: %v %s", err, out)
	}
}
