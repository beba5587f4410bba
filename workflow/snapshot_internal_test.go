package workflow

import (
	"crypto/sha256"
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
			"asleep", // are the saved nodes themselves
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
	if diff := cmp.Diff(s.order[2].Node, back.all()[2].Node); diff != "" {
		t.Errorf("a node (-kept +read):\n%s", diff)
	}
	for i := range good {
		if _, err := RestoreState(good[:i]); err == nil {
			t.Errorf("the first %d of %d bytes were taken", i, len(good))
		}
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		if _, err := RestoreState(bad); err == nil {
			t.Errorf("a bit of byte %d of %d was another, and it was taken", i, len(good))
		}
	}
	for name, of := range map[string]func([]byte) []byte{
		"more":        func(b []byte) []byte { return append(b, 0xf6) },
		"a long head": func(b []byte) []byte { b[0] = 0xff; return b },
	} {
		bad := of(slices.Clone(good[sha256.Size:]))
		sum := sha256.Sum256(bad)
		if _, err := RestoreState(append(sum[:], bad...)); err == nil {
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
	f.Add(good[sha256.Size:])
	f.Fuzz(func(_ *testing.T, raw []byte) {
		sum := sha256.Sum256(raw)
		if s, err := RestoreState(append(sum[:], raw...)); err == nil {
			Status(s) // ends, and does not panic
		}
	})
}

// What a run asks for is read, and no more. What was not read is kept again as it is, and a node that is gone moves the pieces after it.
func TestPiecesAreReadWhenTheyAreAsked(t *testing.T) {
	state := func(gone int) *State {
		s := NewState()
		s.run = Run{Namespace: "default", Name: "pieces"}
		s.start = submitted{Name: "pieces", Workflow: json.RawMessage(`{"spec":{}}`)}
		for i := range 5*pieceNodes + 7 {
			n := &node{Node: Node{ID: fmt.Sprintf("n%d", i), Type: NodePod, Phase: Succeeded}, pod: &podStart{}, gone: i == gone}
			if i == 3*pieceNodes+1 {
				n.Phase = Running
			}
			s.order = append(s.order, n)
			if !n.gone {
				s.nodes[n.ID] = n
			}
		}
		return s
	}
	keep := func(s *State) []byte {
		raw, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	restore := func(raw []byte) *State {
		s, err := RestoreState(raw)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	awake := func(s *State, want int) {
		t.Helper()
		if got := len(s.nodes); got != want {
			t.Errorf("%d nodes are awake, want %d", got, want)
		}
	}
	kept := keep(state(-1))
	s := restore(kept)
	awake(s, 0)
	if ids := s.Attempts(); len(ids) != 1 || ids[0].Node != fmt.Sprintf("n%d", 3*pieceNodes+1) {
		t.Errorf("attempts: %v", ids)
	}
	awake(s, pieceNodes)
	if n := s.node("n1"); n == nil || n.ID != "n1" || s.node("nobody") != nil {
		t.Errorf("n1: %v", n)
	}
	awake(s, 2*pieceNodes)
	if string(keep(s)) != string(kept) {
		t.Error("kept again it is another snapshot")
	}
	awake(s, 2*pieceNodes+7) // the last piece is not full
	// The first piece loses a node: all after it are written anew, as if they had been awake.
	s.remove(s.node("n5"))
	s.attempts = map[string]int{}
	live := state(5)
	if got, want := keep(s), keep(live); string(got) != string(want) {
		t.Error("without a node it is another snapshot than that of a state that never slept")
	}
	back := restore(keep(live))
	if got, want := len(Status(back).Nodes), 5*pieceNodes+6; got != want {
		t.Errorf("%d nodes, want %d", got, want)
	}
}

// A piece that cannot be read is an error of whatever is decided then.
func TestAPieceThatCannotBeRead(t *testing.T) {
	s := NewState()
	s.start = submitted{Name: "broken"}
	if err := s.layDown([]savedPiece{{IDs: []string{"n"}, Bytes: 4}}, []byte("null")); err != nil {
		t.Fatal(err)
	}
	if _, err := Decide(s, Control{Verb: Stop}); err == nil {
		t.Error("a decision without the nodes")
	}
	if err := Apply(s, Entry{Body: &runChange{}}); err == nil {
		t.Error("an entry was applied without the nodes")
	}
}
