package workflow

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/manifest"
)

// Every field of a state and of a node is in a snapshot, or is derived. A field that is not listed here must be saved and restored, and
// SnapshotVersion raised.
func TestSnapshotsHaveEveryField(t *testing.T) {
	if SnapshotVersion != 2 {
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

// CBOR knows nothing of what a type says of its own form in JSON, and reads the numbers of a value of any type otherwise than JSON does. So nothing of
// a node is of such a type, but what nodeRest has, and strings that JSON would read of numbers, too.
func TestNodesAreReadAsTheyWere(t *testing.T) {
	elsewhere := []reflect.Type{reflect.TypeFor[manifest.Artifact](), reflect.TypeFor[manifest.RetryStrategy]()}
	plain := []reflect.Type{reflect.TypeFor[time.Time](), reflect.TypeFor[manifest.AnyString](), reflect.TypeFor[json.RawMessage]()}
	seen := map[reflect.Type]bool{}
	var walk func(path string, of reflect.Type)
	walk = func(path string, of reflect.Type) {
		if seen[of] || slices.Contains(elsewhere, of) || slices.Contains(plain, of) {
			return
		}
		seen[of] = true
		for _, own := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler]()} {
			if reflect.PointerTo(of).Implements(own) {
				t.Errorf("%s is a %s, which is a %s", path, of, own)
			}
		}
		switch of.Kind() {
		case reflect.Interface:
			t.Errorf("%s is a %s", path, of)
		case reflect.Pointer, reflect.Slice, reflect.Array:
			walk(path+"[]", of.Elem())
		case reflect.Map:
			walk(path+"{}", of.Elem())
		case reflect.Struct:
			for f := range of.Fields() {
				if !f.IsExported() && !f.Anonymous {
					t.Errorf("%s.%s is not exported", path, f.Name)
				}
				walk(path+"."+f.Name, f.Type)
			}
		}
	}
	walk("savedNode", reflect.TypeFor[savedNode]())
	if len(seen) < 10 {
		t.Errorf("only %d types were looked at", len(seen))
	}
}

// What a snapshot cannot be read of is an error and never a state: whatever is cut off, added, or claimed.
func TestDamagedSnapshots(t *testing.T) {
	s := NewState()
	s.run = Run{Namespace: "default", Name: "damaged"}
	s.start = submitted{Name: "damaged", Workflow: json.RawMessage(`{"spec":{}}`)}
	for i := range 3 {
		n := &node{Node: Node{ID: fmt.Sprintf("n%d", i), Name: "\xff\x00", Inputs: &manifest.Inputs{Artifacts: []manifest.Artifact{{Name: "a"}}}}}
		s.order = append(s.order, n)
	}
	good, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	back, err := RestoreState(good)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.order[2].Node, back.order[2].Node); diff != "" {
		t.Errorf("a node (-kept +read):\n%s", diff)
	}
	for i := range good {
		if _, err := RestoreState(good[:i]); err == nil {
			t.Errorf("the first %d of %d bytes were taken", i, len(good))
		}
	}
	for name, bad := range map[string][]byte{
		"more":        append(slices.Clone(good), 0xf6),
		"a long head": append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, good[8:]...),
	} {
		if _, err := RestoreState(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzRestoreState(f *testing.F) {
	s := NewState()
	s.start = submitted{Name: "f", Workflow: json.RawMessage(`{"spec":{}}`)}
	s.order = append(s.order, &node{Node: Node{ID: "n"}})
	good, err := s.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = RestoreState(raw) // ends, and does not panic
	})
}
