package failure

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Troubles are what somebody tries again and has not succeeded in, for its health. Each has a name, so that whoever succeeds at last
// takes it back. The zero value is ready for use.
type Troubles struct {
	mu   sync.Mutex
	list map[string]string
}

// knownTroubles bounds how many are told apart; a disk that is full gives each object one.
const knownTroubles = 10_000

// Note says that something does not succeed, and reports whether that is new.
func (t *Troubles) Note(name string, err error) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.list[name]
	if !known && len(t.list) >= knownTroubles {
		return true
	}
	if t.list == nil {
		t.list = map[string]string{}
	}
	t.list[name] = err.Error()
	return !known
}

// Over says that something succeeded, or is not wanted any more.
func (t *Troubles) Over(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.list, name)
}

// Text says for people what does not succeed: one of the troubles, and how many more there are. Empty means that there is none.
func (t *Troubles) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == 0 {
		return ""
	}
	first := slices.Min(slices.Collect(maps.Keys(t.list)))
	text := first + ": " + t.list[first]
	if more := len(t.list) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}
