package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is the longest that a pod may wait for its image's registry, and what a busy machine adds.
const patience = 45*time.Second + 25*time.Second

// A step whose image cannot be had says which registry it was, after a bounded time; nothing else waits for it.
func TestUnreachableRegistry(t *testing.T) {
	w := server(t)
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0") // It takes connections and never says a word.
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close() // Nobody is there any more.
	registries := map[string]string{
		"closed": closed.Addr().String(), "silent": silent.Addr().String(),
		"black-hole": blackHole(t), "no-name": "registry.invalid",
	}
	began := time.Now()
	for name, registry := range registries {
		text := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: %s, annotations: {tiphys.dev/executor: container}}
spec: {entrypoint: m, templates: [{name: m, container: {image: "%s/some/image:1", command: ["true"]}}]}
`, name, registry)
		path := filepath.Join(w.Dir, name+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Tiphys(t.Context(), "submit", path); err != nil {
			t.Fatal(err)
		}
	}
	// Others do not wait for them.
	if err := submitted(t.Context(), w, "beside"); err != nil {
		t.Fatal(err)
	}
	if d := ended(t.Context(), t, w, "beside"); d.Run.Phase != "Succeeded" || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %+v", time.Since(began), d)
	}
	ctx, cancel := context.WithDeadline(t.Context(), began.Add(patience))
	defer cancel()
	for name, registry := range registries {
		d := ended(ctx, t, w, name)
		t.Logf("%s after %s: %+v", name, time.Since(began).Round(time.Second), d.Nodes)
		if d.Run.Phase != "Error" && d.Run.Phase != "Failed" || len(d.Nodes) != 1 || !strings.Contains(d.Nodes[0].Message, registry) {
			t.Errorf("%s: the node names the registry %s: %+v", name, registry, d)
		}
		out, err := w.Tiphys(ctx, "get", name)
		if err != nil || !strings.Contains(out, registry) {
			t.Errorf("tiphys get %s names the registry: %v %s", name, err, out)
		}
	}
	lives(t, w)
}

// blackHole is an address that does not answer at all: a socket that is listened on, whose queue is full.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for {
		c, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
}
