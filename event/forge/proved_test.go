package forge_test

import (
	"testing"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
)

// What an event may act for rests on this. The built-in remote's own word counts; the same words in a delivery do not, whatever forge it
// says it is of.
func TestProved(t *testing.T) {
	builtin := &event.Git{Forge: forge.TypeBuiltin}
	for name, c := range map[string]struct {
		event       event.Event
		own, proved bool
	}{
		"the built-in remote":          {event.Event{Type: "git", Git: builtin}, true, true},
		"a webhook that says it is it": {event.Event{Type: "webhook", Git: builtin}, false, false},
		"nobody's":                     {event.Event{Type: "webhook"}, false, false},
		"unverified":                   {event.Event{Type: "gitlab", Git: &event.Git{Forge: "gitlab"}, Verified: forge.VerifiedNone}, false, false},
		"with a token":                 {event.Event{Type: "gitlab", Git: &event.Git{Forge: "gitlab"}, Verified: forge.VerifiedToken}, false, true},
		"no remote's git":              {event.Event{Type: "git"}, false, false},
	} {
		if own, proved := forge.Proved(c.event); own != c.own || proved != c.proved {
			t.Errorf("%s: %t, %t", name, own, proved)
		}
	}
}
