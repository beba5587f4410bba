package workflow

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every field of a state and of a node is in a snapshot, or is derived. A field that is not listed here must be saved and restored, and
// SnapshotVersion raised.
func TestSnapshotsHaveEveryField(t *testing.T) {
	if SnapshotVersion != 1 {
		t.Log("look through the lists below: what did the new version change?")
	}
	fields := func(v any) []string {
		var names []string
		for f := range reflect.TypeOf(v).Fields() {
			names = append(names, f.Name)
		}
		slices.Sort(names)
		return names
	}
	for _, c := range []struct {
		of   any
		want []string
	}{
		{State{}, []string{
			"attempts", "blocked", "count", "daemons", "exit", "expired", "hook", "lock", "nodes", "objects", "outputs", "pods", "progress", "retries", "root",
			"run", "start",
			"order", // by the order of the saved nodes
			"spec", "cache",
		}},
		{node{}, []string{
			"Node", "plan", "planned", "blockedOn", "settled", "lock", "memo", "asked", "need", "pod", "active", "stopped", "wake", "expect", "refused",
			"children", "open", "bad", "running", "failures", "hooks", "hooksOut", "counted",
			"gone", // such a node is not saved
		}},
	} {
		slices.Sort(c.want)
		if diff := cmp.Diff(c.want, fields(c.of)); diff != "" {
			t.Errorf("%T (-listed +there):\n%s", c.of, diff)
		}
	}
}
