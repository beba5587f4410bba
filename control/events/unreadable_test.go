package events_test

import (
	"net/http"
	"strings"
	"testing"
)

// A definition that the ledger has and nobody can read concerns only itself: the server starts, the others receive and decide, and
// one that was good before goes on as it was.
func TestAnUnreadableDefinitionConcernsOnlyItself(t *testing.T) {
	for name, bad := range map[string]string{
		"a source": strings.Replace(strings.Split(lab, "---\n")[0], "name: lab", "name: other", 1) + "  webhook: {w: {maxPayloadSize: \"{{x}}\"}}\n",
		"a sensor": strings.Replace(strings.Split(lab, "---\n")[1], "name: main", "name: other", 1) + "  replicas: \"{{x}}\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.apply(bad)
			h.open() // the server starts again
			h.start()
			code, seq := h.push("main", "d1", "old")
			if code != http.StatusOK || seq == 0 {
				t.Fatalf("the other source answers %d", code)
			}
			if got := h.decided(1); !strings.HasSuffix(got[0], ": main fired release filtered") {
				t.Errorf("the other sensors decided %q", got)
			}
		})
	}
}

// A good definition that becomes unreadable goes on as it was, until it is good again or deleted.
func TestAnUnreadableDefinitionHoldsTheLastGoodOne(t *testing.T) {
	h := newHouse(t)
	h.start()
	h.push("main", "d1", "old")
	h.decided(1)
	h.apply(strings.Split(lab, "---\n")[0] + "  webhook: {w: {maxPayloadSize: \"{{x}}\"}}\n")
	h.apply(strings.Split(lab, "---\n")[1] + "  replicas: \"{{x}}\"\n")
	if code, _ := h.push("main", "d2", "old"); code != http.StatusOK {
		t.Fatalf("the source answers %d", code)
	}
	if got := h.decided(2); !strings.HasSuffix(got[1], ": main fired release filtered") {
		t.Errorf("the sensors decided %q", got)
	}
}
