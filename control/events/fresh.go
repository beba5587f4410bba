package events

import (
	"sync"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
)

// Bounds of what is kept of the newest events, in events and in bytes of data of each.
const (
	maxFresh     = 1024
	maxFreshData = 16 << 10
)

// fresh keeps events between their recording and the sensors' decision. An event is found by its entry's hash: a transaction that
// failed after it was put here leaves an entry that nobody will ever ask for. Methods are safe for concurrent use.
type fresh struct {
	mu   sync.Mutex
	ring [maxFresh]struct {
		hash  ledger.Hash
		event event.Event
	}
}

func (f *fresh) put(entry ledger.Entry, e event.Event) {
	if len(e.Data) > maxFreshData {
		return
	}
	e.Seq = entry.Seq
	f.mu.Lock()
	defer f.mu.Unlock()
	at := &f.ring[entry.Seq%maxFresh]
	at.hash, at.event = entry.Hash, e
}

// take gives the event of an entry and forgets it.
func (f *fresh) take(entry ledger.Entry) (event.Event, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := &f.ring[entry.Seq%maxFresh]
	if at.hash != entry.Hash || at.event.Seq != entry.Seq {
		return event.Event{}, false
	}
	e := at.event
	at.event = event.Event{}
	return e, true
}
