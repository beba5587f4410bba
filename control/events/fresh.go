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

// fresh keeps events between their recording and the sensors' decision. An event is found by its entry's sequence, which it gets when it is
// recorded: one whose transaction failed has none, and nobody will ever ask for it. Methods are safe for concurrent use.
type fresh struct {
	mu   sync.Mutex
	ring [maxFresh]struct {
		entry ledger.Ref
		event event.Event
	}
	// puts and took are the places behind the last one that was put or taken.
	puts, took int
}

func (f *fresh) put(entry ledger.Ref, e event.Event) {
	if len(e.Data) > maxFreshData {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := &f.ring[f.puts]
	at.entry, at.event = entry, e
	f.puts = (f.puts + 1) % maxFresh
}

// take gives the event of an entry and forgets it. Events are as a rule taken in the order in which they were put.
func (f *fresh) take(entry ledger.Entry) (event.Event, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range maxFresh {
		place := (f.took + i) % maxFresh
		at := &f.ring[place]
		if at.entry.IsZero() || at.entry.Seq() != entry.Seq {
			continue
		}
		e := at.event
		e.Seq = entry.Seq
		at.entry, at.event = ledger.Ref{}, event.Event{}
		f.took = (place + 1) % maxFresh
		return e, true
	}
	return event.Event{}, false
}
