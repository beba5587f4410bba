package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/faults"
)

// bellDefinitions are two sensors that hear the same bell.
const bellDefinitions = `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: door}
spec: {webhook: {bell: {port: "12000", endpoint: /bell, method: POST}}}
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: good}
spec:
  dependencies: [{name: bell, eventSourceName: door, eventName: bell}]
  triggers: [{template: {name: say, log: {}}}]
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: bad}
spec:
  dependencies: [{name: bell, eventSourceName: door, eventName: bell}]
  triggers: [{template: {name: say, log: {}}}]
`

// bellServer is a server that may end at any moment.
type bellServer struct {
	t               *testing.T
	tiphys, dir, at string
	cmd             *exec.Cmd
	ended           chan error
}

func (s *bellServer) start(env ...string) {
	s.t.Helper()
	s.cmd = exec.CommandContext(s.t.Context(), s.tiphys, "serve", "--data", filepath.Join(s.dir, "data"), "--config", filepath.Join(s.dir, "config"),
		"--listen", s.at, "--keeper=false")
	s.cmd.Env = append(append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(s.dir, "home")), env...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) {
		ended <- cmd.Wait()
		_ = log.Close()
	}(s.cmd, s.ended)
}

// get asks the API; an error may be that the server is not there.
func (s *bellServer) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.at+path, nil)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(s.dir, "data", "keys", "admin.token"))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("%s: %s %s", path, res.Status, body))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// until waits for something, or for the end of the server, which it tells.
func (s *bellServer) until(what string, holds func() error) (alive bool) {
	s.t.Helper()
	var err error
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		if err = holds(); err == nil {
			return true
		}
		select {
		case <-s.ended:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.t.Fatalf("%s: not within a minute: %v\n%s", what, err, s.said())
	return false
}

// said is what the server wrote.
func (s *bellServer) said() []byte {
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return log
}

func (s *bellServer) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		s.t.Error("the server does not stop")
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// fired counts the firings of a sensor that were carried out.
func (s *bellServer) fired(sensor string, want int) error {
	var list struct {
		Items []struct {
			Sensor, State string
		} `json:"items"`
	}
	if err := s.get("/api/v1/firings", &list); err != nil {
		return err
	}
	n := 0
	for _, f := range list.Items {
		if f.Sensor == "default/"+sensor && f.State == "done" {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("sensor %s has fired %d times, want %d: %+v", sensor, n, want, list.Items)
	}
	return nil
}

func (s *bellServer) command(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.tiphys, args...)
	cmd.Env = append(os.Environ(), "TIPHYS_SERVER=http://"+s.at, "XDG_CONFIG_HOME="+filepath.Join(s.dir, "home"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("tiphys %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// An event that ends the server whenever a sensor decides on it keeps nobody from anything: after two trials it is left out, the other
// sensor has decided on it, and it can be tried again.
func TestAPoisonedEventIsQuarantined(t *testing.T) {
	options(t) // or is skipped
	s := &bellServer{t: t, dir: t.TempDir()}
	s.tiphys = filepath.Join(s.dir, "tiphys")
	build(t, s.tiphys, "-tags", "faults,noui", "./cmd/tiphys")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.at = l.Addr().String()
	if err := errors.Join(l.Close(), os.Mkdir(filepath.Join(s.dir, "config"), 0o700),
		os.WriteFile(filepath.Join(s.dir, "config", "bell.yaml"), []byte(bellDefinitions), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() { // one that is killed leaves a bridge
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
		}
	})
	poison := faults.EnvPoison + "=event/default/bad@"
	ready := func() error {
		var list struct{ Items []struct{ Name string } }
		err := s.get("/api/v1/sensors", &list)
		if err == nil && len(list.Items) < 2 {
			err = errors.New("the sensors are not loaded")
		}
		return err
	}
	s.start(poison)
	if !s.until("the server is ready", ready) {
		t.Fatalf("it ended before anything happened:\n%s", s.said())
	}
	res, err := http.Post("http://"+s.at+"/webhooks/default/door/bell", "application/json", strings.NewReader(`{"ring": 1}`)) // it may be cut off
	if err == nil {
		_ = res.Body.Close() // it may have been recorded and not answered
	}
	deaths := 0
	left := func() error {
		var list struct {
			Items []struct{ Kind, Key, Why string }
		}
		err := s.get("/api/v1/quarantine", &list)
		if err == nil && (len(list.Items) != 1 || !strings.HasPrefix(list.Items[0].Key, "default/bad@")) {
			err = fmt.Errorf("quarantined: %+v", list.Items)
		}
		return err
	}
	for ; deaths < 6 && !s.until("the event is quarantined", left); deaths++ {
		s.start(poison)
	}
	if deaths != 3 {
		t.Errorf("the server died %d times, want 3: once by surprise and twice in a trial", deaths)
	}
	if !s.until("the other sensor has fired", func() error { return s.fired("good", 1) }) {
		t.Fatal("the server ended once more")
	}
	if said := s.command("quarantine", "list"); !strings.Contains(said, "event/default/bad@") || !strings.Contains(said, "panic: poisoned: event/default/bad@") {
		t.Errorf("tiphys quarantine list says\n%s", said)
	}
	s.stop()

	s.start() // a version that bears it
	if !s.until("it is still quarantined", left) {
		t.Fatal("the server ended once more")
	}
	fields := strings.Fields(s.command("quarantine", "list"))
	n := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(f, "event/") })
	s.command("quarantine", "retry", fields[n])
	s.until("the sensor has fired", func() error { return errors.Join(s.fired("bad", 1), s.fired("good", 1)) })
	if said := s.command("quarantine", "list"); !strings.Contains(said, "nothing is quarantined") {
		t.Errorf("tiphys quarantine list says\n%s", said)
	}
	s.stop()
}
