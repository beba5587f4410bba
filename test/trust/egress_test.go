package trust

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// A manifest had the server ask what only its own machine reaches: a service on loopback, the metadata of a cloud, its own port, where a request
// from loopback was an administrator's.
func TestManifestsDoNotReachTheServersMachine(t *testing.T) {
	w := server(t)
	var reached atomic.Int64
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(inner.Close)
	_, port, err := net.SplitHostPort(inner.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const header = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: NAME, annotations: {tiphys.dev/executor: EXECUTOR}}\nspec:\n  entrypoint: m\n  templates:\n"
	request := func(url string) string { return fmt.Sprintf("  - {name: m, http: {url: %q}}\n", url) }
	artifact := func(from string) string {
		return "  - {name: m, inputs: {artifacts: [{name: a, path: /tmp/a, " + from + "}]}, container: {image: any, command: [\"true\"]}}\n"
	}
	for name, c := range map[string]struct{ executor, template string }{
		"loopback":     {"host", request(inner.URL)},
		"mapped":       {"host", request("http://[::ffff:7f00:1]:" + port + "/")},
		"translated":   {"host", request("http://[64:ff9b::7f00:1]:" + port + "/")},
		"zero":         {"host", request("http://0.0.0.0:" + port + "/")},
		"decimal":      {"host", request("http://localhost.:" + port + "/")},
		"own-port":     {"host", request(w.URL + "/api/v1/runs")},
		"metadata":     {"host", request("http://169.254.169.254/latest/meta-data/")},
		"metadata-six": {"host", request("http://[fd00:ec2::254]/latest/meta-data/")},
		"http":         {"host", artifact("http: {url: \"" + inner.URL + "/x\"}")},
		"git":          {"host", artifact("git: {repo: \"" + inner.URL + "/x.git\"}")},
		"git-ssh":      {"host", artifact("git: {repo: \"ssh://git@127.0.0.1:" + port + "/x.git\"}")},
		"image":        {"container", "  - {name: m, container: {image: \"127.0.0.1:" + port + "/some/image:1\", command: [\"true\"]}}\n"},
	} {
		file := filepath.Join(w.Dir, name+".yaml")
		text := strings.NewReplacer("NAME", name, "EXECUTOR", c.executor).Replace(header) + c.template
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Tiphys(t.Context(), "submit", file, "--watch"); err == nil {
			t.Errorf("%s: the run succeeded", name)
		}
		said, err := w.Tiphys(t.Context(), "get", name)
		if err != nil || !strings.Contains(said, "--allow-egress") {
			t.Errorf("%s: tiphys get says %s %v", name, said, err)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the service on loopback was asked %d times", n)
	}
}

// A repository of the server's own, named by its URL, is read without the network.
func TestOwnRepositoriesNeedNoEgress(t *testing.T) {
	w := server(t)
	c := newClone(t, w, "own")
	if err := os.WriteFile(filepath.Join(c.dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.git("add", "-A")
	c.git("commit", "-q", "-m", "first")
	c.git("push", "-q", c.url, "HEAD:main")
	for i, url := range []string{c.url, "http://tiphys.localhost/git/own.git"} {
		name := fmt.Sprintf("own-%d", i)
		file := filepath.Join(w.Dir, name+".yaml")
		text := fmt.Sprintf("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: %s}\nspec:\n  entrypoint: m\n  templates:\n"+
			"  - {name: m, inputs: {artifacts: [{name: a, path: /tmp/a, git: {repo: %q}}]}, container: {image: any, command: [cat, /tmp/a/f]}}\n", name, url)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := w.Tiphys(t.Context(), "submit", file, "--watch"); err != nil {
			t.Errorf("%s: %v %s", url, err, out)
		}
	}
}
