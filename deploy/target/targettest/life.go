package targettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// many is more changes than anybody would keep a queue for.
const many = 500

// changes: nobody has to listen while something changes, and a hint for each object that changed comes nevertheless, also of what
// was deleted.
func changes(t *testing.T, s *Subject) {
	told := func(want map[deploy.Key]bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for len(want) > 0 {
			select {
			case <-ctx.Done():
				t.Fatalf("no hint of %d objects, of %v for instance", len(want), first(want))
			case c := <-s.Target.Changes():
				if c.Application != application {
					t.Fatalf("%s is said to be of %q", c.Key, c.Application)
				}
				delete(want, c.Key)
			}
		}
	}
	changed := map[deploy.Key]bool{}
	for i := range many {
		o := s.apply(t, configMap(fmt.Sprintf("c%d", i), "1"), owned(application))
		changed[deploy.KeyOf(o)] = true
	}
	told(changed)
	changed = map[deploy.Key]bool{deploy.KeyOf(configMap("c7", "")): true, deploy.KeyOf(configMap("c8", "")): true}
	s.apply(t, configMap("c7", "2"), owned(application))
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(configMap("c8", "")), owned(application)); err != nil {
		t.Fatal(err)
	}
	told(changed)
}

func first(keys map[deploy.Key]bool) string {
	for key := range keys {
		return key.String()
	}
	return ""
}

func (s *Subject) pod(container map[string]any) *unstructured.Unstructured {
	return object("v1", "Pod", "p", map[string]any{"spec": map[string]any{"terminationGracePeriodSeconds": int64(5), "containers": []any{container}}})
}

func (s *Subject) phase(t *testing.T, k deploy.Key) string {
	o := s.live(t, k)
	if o == nil {
		return ""
	}
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	return phase
}

func logs(t *testing.T, s *Subject) {
	key := deploy.KeyOf(s.apply(t, s.pod(s.Container), owned(application)))
	s.await(t, "it runs", func() bool { return s.phase(t, key) == "Running" })
	name, _ := s.Container["name"].(string)
	lines := strings.SplitAfter(s.Log, "\n")
	for _, c := range []struct {
		container string
		tail      int
		want      string
	}{{"", 0, s.Log}, {name, 0, s.Log}, {name, 1, lines[len(lines)-2]}, {name, 1000, s.Log}} {
		s.await(t, fmt.Sprintf("the log of %q, %d lines", c.container, c.tail), func() bool {
			return s.log(t, key, c.container, deploy.LogOptions{Tail: c.tail}) == c.want
		})
	}
	if log, err := s.Pods.Logs(t.Context(), key, "nobody", deploy.LogOptions{}); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("logs of a container that is not there: %v, %v", log, err)
	}
	if log, err := s.Pods.Logs(t.Context(), key, name, deploy.LogOptions{Previous: true}); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("logs of an instance that was not: %v, %v", log, err)
	}
	// Who follows gets what is there, and waits for more until they go.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	follow, err := s.Pods.Logs(ctx, key, name, deploy.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, len(s.Log))
	if _, err := io.ReadFull(follow, head); err != nil || string(head) != s.Log {
		t.Errorf("followed: %q, %v", head, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(follow)
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("the log ended while its container runs: %v", err)
	default:
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("who was let go got %v", err)
		}
	case <-time.After(patience):
		t.Error("who follows is not let go")
	}
	_ = follow.Close()
}

func (s *Subject) log(t *testing.T, k deploy.Key, container string, o deploy.LogOptions) string {
	t.Helper()
	r, err := s.Pods.Logs(t.Context(), k, container, o)
	if errors.Is(err, deploy.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// previousLogs: what a container wrote before it was restarted can be read.
func previousLogs(t *testing.T, s *Subject) {
	key := deploy.KeyOf(s.apply(t, s.pod(s.Crashing), owned(application)))
	s.await(t, "the log of the instance that failed", func() bool { return s.log(t, key, "", deploy.LogOptions{Previous: true}) != "" })
}

// contexts: a call whose context has ended does nothing and says so.
func contexts(t *testing.T, s *Subject) {
	s.apply(t, configMap("c", "1"), owned(application))
	pod := deploy.KeyOf(s.apply(t, s.pod(s.Container), owned(application)))
	s.await(t, "its pod runs", func() bool { return s.phase(t, pod) == "Running" })
	before := s.live(t, deploy.KeyOf(configMap("c", "")))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	for want, ctx := range map[error]context.Context{context.Canceled: ended, context.DeadlineExceeded: late} {
		for name, call := range map[string]func() error{
			"capabilities": func() error { _, err := s.Target.Capabilities(ctx); return err },
			"check": func() error {
				_, err := s.Target.Check(ctx, []*unstructured.Unstructured{configMap("c", "2")}, owned(application))
				return err
			},
			"apply":  func() error { _, err := s.Target.Apply(ctx, configMap("c", "2"), owned(application)); return err },
			"create": func() error { _, err := s.Target.Apply(ctx, configMap("d", "2"), owned(application)); return err },
			"delete": func() error { return s.Target.Delete(ctx, deploy.KeyOf(configMap("c", "")), owned(application)) },
			"get":    func() error { _, err := s.Target.Get(ctx, deploy.KeyOf(configMap("c", ""))); return err },
			"list":   func() error { _, err := s.Target.List(ctx, application); return err },
			"logs":   func() error { _, err := s.Pods.Logs(ctx, pod, "", deploy.LogOptions{}); return err },
		} {
			if err := call(); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
	if diff := cmp.Diff(before.Object, s.live(t, deploy.KeyOf(configMap("c", ""))).Object); diff != "" {
		t.Errorf("it was changed: %s", diff)
	}
	if s.live(t, deploy.KeyOf(configMap("d", ""))) != nil {
		t.Error("something was made")
	}
}

// uids are the identities of an application's objects.
func (s *Subject) uids(t *testing.T) map[string]string {
	found := map[string]string{}
	for _, o := range s.all(t, application) {
		found[deploy.KeyOf(o).String()] = string(o.GetUID())
	}
	return found
}

// restart: on the same record everything is as it was, with its identity and owner, and what runs goes on.
func restart(t *testing.T, s *Subject) {
	s.apply(t, configMap("c", "1"), owned(application))
	s.apply(t, s.deployment("d"), owned(application))
	ready := func() bool {
		n, _, _ := unstructured.NestedInt64(s.live(t, deploy.KeyOf(s.deployment("d"))).Object, "status", "readyReplicas")
		return n == 2
	}
	s.await(t, "it serves", ready)
	before, version := s.uids(t), s.live(t, deploy.KeyOf(configMap("c", ""))).GetResourceVersion()
	for range 2 {
		s.Target, s.Pods = s.Reopen(t)
		s.await(t, "it serves again", ready)
	}
	if diff := cmp.Diff(before, s.uids(t)); diff != "" {
		t.Errorf("something else is there: %s", diff)
	}
	if got := s.live(t, deploy.KeyOf(configMap("c", ""))).GetResourceVersion(); got != version {
		t.Errorf("what did not change has the version %s, and had %s", got, version)
	}
	var owner *deploy.OwnedError
	if _, err := s.Target.Apply(t.Context(), configMap("c", "2"), owned(another)); !errors.As(err, &owner) || owner.Owner != application {
		t.Errorf("the owner was forgotten: %v", err)
	}
}

// restartInADeletion: what was going goes on going.
func restartInADeletion(t *testing.T, s *Subject) {
	s.apply(t, s.deployment("d"), owned(application))
	s.await(t, "its pods are there", func() bool { return kindsOf(s.all(t, application))["Pod"] == 2 })
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(s.deployment("d")), owned(application)); err != nil {
		t.Fatal(err)
	}
	s.Target, s.Pods = s.Reopen(t)
	if o := s.live(t, deploy.KeyOf(s.deployment("d"))); o != nil && o.GetDeletionTimestamp() == nil {
		t.Error("it is not being deleted any more")
	}
	s.await(t, "all is gone", func() bool { return len(s.all(t, "")) == 0 })
}
