package events_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/script/confined"
)

// TestMain lets the test binary be the process in which the programs of sensors run.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "__script" {
		if err := confined.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const transforming = `
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: zz-%s, namespace: ports}
spec:
  dependencies:
  - {name: push, eventSourceName: lab, eventName: push, transform: {jq: %q}}
  triggers: [{template: {name: say, log: {}}}]
`

// A program that takes too much is a decision with its reason, and no other sensor is kept from deciding.
func TestABombIsADecision(t *testing.T) {
	h := newHouse(t)
	jq := confined.NewScripts(confined.Options{})
	t.Cleanup(func() {
		if err := jq.Close(); err != nil {
			t.Error(err)
		}
	})
	if raced {
		t.Skip("SKIPPED: no script fits into its process with the race detector")
	}
	h.scripts = jq
	h.apply(fmt.Sprintf(transforming, "bomb", `reduce range(60) as $i ("aaaa"; . + .) | {a: .}`))
	h.open()
	h.start()
	if code, _ := h.push("main", "one", "old"); code != http.StatusOK {
		t.Fatal(code)
	}
	if got := h.decided(1); !strings.HasSuffix(got[0], ": main fired release filtered zz-bomb transform-error") {
		t.Error(got)
	}
	entries, err := h.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{event.KindDecided}, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	d, err := ledger.Read[event.Decided](entries[0])
	if err != nil {
		t.Fatal(err)
	}
	if reason := d.Decisions[len(d.Decisions)-1].Reason; !strings.Contains(reason, "transform by jq: the program was stopped: it met its limit of") {
		t.Error(reason)
	}
}

// Where no process can be started nothing is decided, and the room says why. Later it is decided as ever.
func TestNoProcessForJQIsNoDecision(t *testing.T) {
	if raced {
		t.Skip("SKIPPED: no script fits into its process with the race detector")
	}
	h := newHouse(t)
	program := filepath.Join(t.TempDir(), "tiphys")
	jq := confined.NewScripts(confined.Options{Command: []string{program, "__script"}})
	t.Cleanup(func() {
		if err := jq.Close(); err != nil {
			t.Error(err)
		}
	})
	h.scripts = jq
	h.apply(fmt.Sprintf(transforming, "jq", `{git}`))
	h.open()
	h.start()
	if code, _ := h.push("main", "one", "old"); code != http.StatusOK {
		t.Fatal(code)
	}
	deadline := time.Now().Add(time.Minute)
	for h.room.Health().State != control.Failing {
		if time.Now().After(deadline) {
			t.Fatal("the room does not say that it cannot decide")
		}
		time.Sleep(time.Millisecond) // the room is waited for, with a deadline
	}
	if reason := h.room.Health().Reason; !strings.Contains(reason, "ports/zz-jq") || !strings.Contains(reason, "start process") {
		t.Error(reason)
	}
	entries, err := h.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{event.KindDecided}, Limit: 1})
	if err != nil || len(entries) > 0 {
		t.Fatalf("it was decided %v %v", entries, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	if got := h.decided(1); !strings.HasSuffix(got[0], ": main fired release filtered zz-jq fired") {
		t.Error(got)
	}
}
