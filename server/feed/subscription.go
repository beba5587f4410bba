package feed

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Subscription is one who looks on. Take what comes with Next, from one goroutine; Close it.
type Subscription struct {
	hub       *Hub
	viewer    Viewer
	interests []Interest
	short     shorten
	since     int64
	late      *late // what it missed before it joined

	joined chan struct{} // closed when the hub tells it what changes
	ended  chan struct{} // closed when it is over
	signal chan struct{} // something has come

	mu      sync.Mutex
	err     error
	from    int64 // where it joined
	rows    []*Row
	places  map[rowKey]int // of the rows, by thing
	bytes   int
	at      int64
	pinged  bool
	looking bool // rows come and at is behind them
	resync  bool
	told    bool // that there is trouble
	trouble *string
}

type rowKey struct{ table, key string }

// From is the sequence from which on the subscriber is told what changes.
func (s *Subscription) From() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == Now {
		return s.from
	}
	return s.since
}

// Encode gives a row as this subscriber is to have it.
func (s *Subscription) Encode(row *Row) ([]byte, error) { return row.encode(s.short) }

// Close ends the subscription.
func (s *Subscription) Close() {
	s.hub.remove(s)
	s.finish(context.Canceled)
}

func (s *Subscription) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Subscription) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.ended)
	}
}

// begin is the beginning of a look, which reach ends: until then nothing is taken. The first one notes from where on the hub tells of
// changes.
func (s *Subscription) begin(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looking = true
	select {
	case <-s.joined:
		return
	default:
	}
	s.from, s.at = at, at
	switch {
	case s.since > at: // of another ledger, or of this one before it was restored
		s.resync = true
		s.wake()
	case s.since != Now && s.since < at:
		s.late = &late{walk: walk{after: s.since, until: at, tables: tables(s.interests)}, left: s.hub.o.Behind}
	}
	close(s.joined)
}

// tell puts rows that are of interest behind what waits; the viewer sees them. If too much waits all of it is left out.
func (s *Subscription) tell(rows []*Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		if !s.resync && s.wants(row) {
			s.keep(row)
		}
	}
}

// reach is the end of a look: everything up to a sequence was told.
func (s *Subscription) reach(at int64, trouble string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.looking = at, false
	// How much is free changes all the time; that is told once.
	if told := trouble != ""; told != s.told {
		s.told, s.trouble = told, &trouble
	}
	if s.any() {
		s.wake()
	}
}

// any says whether there is something to take.
func (s *Subscription) any() bool {
	return len(s.rows) > 0 || s.resync || s.pinged || s.trouble != nil
}

func (s *Subscription) wants(row *Row) bool {
	return slices.ContainsFunc(s.interests, func(i Interest) bool { return i.matches(row) })
}

// keep puts a row behind those that wait, in the place of what waits of the same thing.
func (s *Subscription) keep(row *Row) {
	if s.places == nil {
		s.places = map[rowKey]int{}
	}
	k := rowKey{row.Table, row.Key}
	if i, ok := s.places[k]; ok {
		s.bytes -= size(s.rows[i])
		s.rows[i] = nil
	}
	s.places[k] = len(s.rows)
	s.rows = append(s.rows, row)
	s.bytes += size(row)
	if s.bytes > s.hub.o.Kept {
		s.drop()
	}
}

func (s *Subscription) drop() { s.rows, s.places, s.bytes, s.resync = nil, nil, 0, true }

// size is about what a row costs while it waits.
func size(row *Row) int { return len(row.Body) + len(row.Key) + rowCost }

// rowCost is about what a row costs beside its body.
const rowCost = 256

func (s *Subscription) ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinged = true
	s.wake()
}

func (s *Subscription) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// Next waits for what comes next. A batch without rows is a sign of life. After an error there is no more: ErrClosed, that
// of ctx, or of the ledger.
func (s *Subscription) Next(ctx context.Context) (Batch, error) {
	if s.late != nil {
		return s.missed(ctx)
	}
	for {
		if b, ok := s.take(); ok {
			return b, nil
		}
		select {
		case <-s.signal:
		case <-s.ended:
			return Batch{}, s.failure()
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

func (s *Subscription) take() (Batch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.looking || !s.any() {
		return Batch{}, false
	}
	rows := slices.DeleteFunc(s.rows, func(r *Row) bool { return r == nil })
	slices.SortStableFunc(rows, func(a, b *Row) int { return cmp.Compare(a.Seq, b.Seq) })
	b := Batch{Rows: rows, At: s.at, Resync: s.resync, Trouble: s.trouble}
	s.rows, s.places, s.bytes, s.resync, s.pinged, s.trouble = nil, nil, 0, false, false, nil
	return b, true
}

// late is what a subscriber missed before it joined.
type late struct {
	walk
	begun bool
	left  int // how many rows that he sees may still be read for it
}

// missed gives a page of what the subscriber missed.
func (s *Subscription) missed(ctx context.Context) (Batch, error) {
	l, o := s.late, s.hub.o
	var rows []*Row
	var err error
	switch {
	case l.left <= 0:
		s.late = nil
		return Batch{At: l.until, Resync: true}, nil
	case l.done():
		s.late = nil
		return Batch{At: l.until}, nil
	case !l.begun && l.after > 0:
		rows, err = deletions(ctx, o, l.tables, l.after, l.until)
	default:
		rows, err = l.next(ctx, o.Ledger)
	}
	l.begun = true
	rows = visible(s.viewer, rows)
	if l.after > 0 { // who knows nothing is told everything
		l.left -= len(rows)
	}
	if err != nil && s.failure() != nil {
		err = s.failure()
	}
	return Batch{Rows: slices.DeleteFunc(rows, func(r *Row) bool { return !s.wants(r) })}, err
}
