// Package browser looks at the screens in a real browser, on a real server with real runs.
package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const failing = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: quay-check}
spec:
  entrypoint: main
  templates:
  - name: main
    dag:
      tasks:
      - {name: lint, template: ok}
      - {name: tests, template: flaky, dependencies: [lint]}
      - {name: moor, template: bad, dependencies: [tests]}
  - name: flaky
    retryStrategy: {limit: 1}
    script: {image: busybox, command: [sh], source: "echo try {{retries}}; test {{retries}} = 1"}
  - name: ok
    container: {image: busybox, command: [echo, "all is well"]}
  - name: bad
    container: {image: busybox, command: [sh, -c], args: ["echo the rope is too short; exit 3"]}
`

// patience bounds every wait.
const patience = time.Minute

func TestScreens(t *testing.T) {
	if os.Getenv("TIPHYS_E2E") == "" {
		t.Skip("SKIPPED: needs the built program and a browser; use make test-e2e")
	}
	server := serve(t)
	url, link := server.url, server.link
	b := open(t)
	// Without a session the screens say what to type.
	b.want(t, url+"/runs", "Log in to Tiphys", "tiphys login")
	b.want(t, link, "Nothing is deployed yet")
	var address string
	if err := b.js("return location.href", &address); err != nil || address != url+"/" {
		t.Errorf("the code stays in the address %q (%v)", address, err)
	}
	b.isUsable(t)
	// The link is good once; whoever has a session keeps it.
	b.want(t, link+"&again", "this link is not good")
	// A new server says what to do next.
	b.want(t, url+"/", "Nothing is deployed yet", "tiphys apply", "No run yet")
	b.want(t, url+"/runs", "No run yet", "tiphys submit")
	b.want(t, url+"/mrs", "No merge request is open", "merge_request.create")
	server.submit(t, failing)
	server.submit(t, gated)
	for _, c := range []struct {
		path string
		want []string
	}{
		// What needs somebody comes first.
		{"/", []string{"Needs attention", "approve waits for somebody", "Failed last", "moor: main: Error (exit code 3)"}},
		{"/runs", []string{"quay-check", "moor: main: Error (exit code 3)", "quay-gate", "approve waits to be resumed"}},
		// A failed run opens at the failure: its node, its exit code, its log.
		{"/runs/default/quay-check", []string{"moor", "exit code 3", "the rope is too short"}},
		{"/apps", []string{"Applications"}},
		{"/mrs", []string{"Merge requests"}},
		{"/events", []string{"Events"}},
		{"/trail?of=run/default/quay-check", []string{"run.submitted", "run.finished"}},
		{"/repos", []string{"Repositories"}},
		{"/definitions", []string{"Definitions"}},
	} {
		t.Run(strings.Trim(c.path, "/"), func(t *testing.T) {
			b.want(t, url+c.path, c.want...)
			b.isUsable(t)
		})
	}
	t.Run("landing", func(t *testing.T) { b.landsOnTheFailure(t, url) })
	t.Run("retry asks", func(t *testing.T) { b.retryAsks(t, url) })
	t.Run("resume", func(t *testing.T) { b.resumes(t, url) })
	t.Run("live", func(t *testing.T) { b.showsALiveRun(t, server) })
	t.Run("run again", func(t *testing.T) { b.runsAgain(t, server) })
}

// submit submits a Workflow.
func (s served) submit(t *testing.T, manifest string) {
	t.Helper()
	object, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"workflow": json.RawMessage(object)})
	if err != nil {
		t.Fatal(err)
	}
	if code := s.post(t, "/api/v1/workflows/default", raw); code != http.StatusOK {
		t.Fatalf("submit answered %d", code)
	}
}

func hasAll(page string, want []string) bool {
	for _, w := range want {
		if !strings.Contains(page, w) {
			return false
		}
	}
	return true
}

var code = regexp.MustCompile(`(?s)<(script|style)\b.*?</(script|style)>`)

// text leaves the tags out, for a message.
func text(page string) string {
	page = code.ReplaceAllString(page, "")
	var b strings.Builder
	in := false
	for _, r := range page {
		switch {
		case r == '<':
			in = true
		case r == '>':
			in = false
			b.WriteByte(' ')
		case !in:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// browser is a headless Chromium driven over WebDriver (https://www.w3.org/TR/webdriver2/).
type browser struct {
	t       *testing.T
	session string
}

func open(t *testing.T) *browser {
	t.Helper()
	driver, err := exec.LookPath("chromedriver")
	if err != nil {
		t.Fatalf("chromedriver is not installed: %v", err)
	}
	profile, err := os.MkdirTemp("", "tiphys-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), driver, "--port="+port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b := &browser{t: t, session: "http://" + address + "/session"}
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir=" + profile,
	}
	// The tests look at what is shown; when the browser thinks that a page has loaded does not matter.
	match := map[string]any{"pageLoadStrategy": "none", "goog:chromeOptions": map[string]any{"args": args}}
	want := map[string]any{"capabilities": map[string]any{"alwaysMatch": match}}
	for until := time.Now().Add(patience); time.Now().Before(until); {
		var made struct {
			SessionID    string `json:"sessionId"`
			Capabilities struct {
				Process int `json:"goog:processID"`
			} `json:"capabilities"`
		}
		if b.call(http.MethodPost, "", want, &made) == nil && made.SessionID != "" {
			b.session += "/" + made.SessionID
			t.Cleanup(func() { b.end(made.Capabilities.Process) })
			return b
		}
	}
	t.Fatal("the browser does not start")
	return nil
}

// end closes the browser. It writes into its profile for a moment after it was told to; one that does not end is killed.
func (b *browser) end(pid int) {
	_ = b.call(http.MethodDelete, "", nil, nil)
	for began := time.Now(); pid > 0 && syscall.Kill(pid, 0) == nil; {
		if time.Since(began) > 5*time.Second {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
}

func (b *browser) call(method, path string, body, out any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.session+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Value json.RawMessage `json:"value"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, answer.Value)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, out)
}

// shows waits until the page at an address has all that is wanted, and says what it shows otherwise.
func (b *browser) shows(url string, want []string) error {
	var page string
	var last error
	for began := time.Now(); time.Since(began) < patience; {
		// Networks that come and go on this machine make the browser give requests up: it is sent there again.
		if last = b.call(http.MethodPost, "/url", map[string]string{"url": url}, nil); last != nil {
			continue
		}
		for loaded := time.Now(); time.Since(loaded) < 10*time.Second; {
			if last = b.call(http.MethodGet, "/source", nil, &page); last == nil && hasAll(text(page), want) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s does not show %q (%v); it shows:\n%s", url, want, last, text(page))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s served) post(t *testing.T, path string, body []byte) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// served is a server: its address, a link that logs a browser in, and the admin token.
type served struct{ url, link, token string }

// serve starts the program.
func serve(t *testing.T) served {
	t.Helper()
	program, err := filepath.Abs("../../bin/tiphys")
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	data, settings := t.TempDir(), filepath.Join(t.TempDir(), "server.yaml")
	if err := os.WriteFile(settings, []byte(`apiVersion: tiphys.dev/v1alpha1
kind: ServerConfiguration
executor: host
grants:
- {to: {roles: [admin]}, executors: [host]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "serve", "--data", data, "--listen", address, "--server-config", settings,
		"--bridge", "tiphysweb", "--subnet", "10.218.0.0/16")
	var log bytes.Buffer
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+home, "SUDO_UID=")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if out, err := exec.Command(program, "down", "--data", data).CombinedOutput(); err != nil {
			t.Errorf("tiphys down: %v %s", err, out)
		}
		if t.Failed() {
			t.Logf("the server said:\n%s", log.String())
		}
	})
	_, port, _ := net.SplitHostPort(address)
	url := "http://localhost:" + port
	for until := time.Now().Add(patience); time.Now().Before(until); {
		if resp, err := http.Get(url + "/healthz"); err == nil {
			_ = resp.Body.Close()
			login := exec.CommandContext(t.Context(), program, "login", "--no-git", "--server", url)
			login.Env = append(os.Environ(), "XDG_CONFIG_HOME="+home, "TIPHYS_TOKEN=")
			out, err := login.Output()
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(filepath.Join(data, "keys", "admin.token"))
			if err != nil {
				t.Fatal(err)
			}
			return served{url, strings.TrimSpace(string(out)), strings.TrimSpace(string(raw))}
		}
	}
	t.Fatal("the server does not answer")
	return served{}
}
