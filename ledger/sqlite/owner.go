package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// soleOwner is the owner of a ledger that was opened without a name: this process is the only one there can be.
const soleOwner = "server"

// endless is the end of a lease without end, in microseconds since 1970.
const endless = math.MaxInt64

// fence says who owns a partition.
type fence struct {
	owner  string
	number int64
}

// ownership is who owns what, as the database has it. It is never changed; a batch that changes it makes a copy.
type ownership struct {
	fences [ledger.Partitions]fence
	until  map[string]int64 // by owner, in microseconds since 1970
}

func (o *ownership) clone() *ownership {
	c := &ownership{fences: o.fences, until: make(map[string]int64, len(o.until))}
	for name, until := range o.until {
		c.until[name] = until
	}
	return c
}

// loadOwnership reads who owns what.
func loadOwnership(s *session) (*ownership, error) {
	ctx, o := context.Background(), &ownership{until: map[string]int64{}}
	err := each(ctx, s, "SELECT number, owner, fence FROM partitions", nil, func(r *sql.Rows) error {
		var n int
		var f fence
		err := r.Scan(&n, &f.owner, &f.number)
		if err == nil && n >= 0 && n < len(o.fences) {
			o.fences[n] = f
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read owners of partitions: %w", err)
	}
	err = each(ctx, s, "SELECT owner, until FROM owners", nil, func(r *sql.Rows) error {
		var name string
		var until int64
		err := r.Scan(&name, &until)
		o.until[name] = until
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read owners: %w", err)
	}
	return o, nil
}

// holder is one handle's side of its leases.
type holder struct {
	name string
	// sole takes all partitions with its first decision, for no other process can have the ledger open.
	sole bool

	mu    sync.Mutex
	held  [ledger.Partitions]int64 // fencing numbers; 0 is not held
	until int64
}

// note takes over what the database says this owner has.
func (h *holder) note(o *ownership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, f := range o.fences {
		h.held[i] = 0
		if f.owner == h.name {
			h.held[i] = f.number
		}
	}
	h.until = o.until[h.name]
}

func (h *holder) fence(partition int) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[partition]
}

// takeAll makes the sole owner the owner of everything, under new fencing numbers, in the transaction of its first decision.
func (b *batch) takeAll(h *holder) error {
	if !h.sole || b.took || h.fence(0) != 0 {
		return nil
	}
	b.took = true
	o := b.owners.clone()
	for i := range o.fences {
		o.fences[i] = fence{owner: h.name, number: o.fences[i].number + 1}
		if err := b.writeFence(i, o.fences[i]); err != nil {
			return err
		}
	}
	if err := b.writeHeartbeat(o, h.name, endless); err != nil {
		return err
	}
	b.owners = o
	b.after = append(b.after, func() { h.note(o) })
	return nil
}

func (b *batch) writeFence(partition int, f fence) error {
	return b.s.exec("INSERT INTO partitions (number, owner, fence) VALUES (?, ?, ?)"+
		" ON CONFLICT (number) DO UPDATE SET owner = excluded.owner, fence = excluded.fence", partition, f.owner, f.number)
}

func (b *batch) writeHeartbeat(o *ownership, owner string, until int64) error {
	o.until[owner] = until
	return b.s.exec("INSERT INTO owners (owner, until) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET until = excluded.until", owner, until)
}

// admit says whether the holder may decide within the scope.
func (b *batch) admit(h *holder, about ledger.Scope) error {
	if err := b.takeAll(h); err != nil {
		b.broken = err
		return err
	}
	if !about.Owned() {
		return nil
	}
	p := ledger.Partition(about.Subject())
	now, number := b.owners.fences[p], about.Fence()
	if number == 0 {
		number = h.fence(p)
		if h.sole && number == 0 {
			number = now.number // taken in this very transaction
		}
	}
	if now.owner != h.name || now.number != number {
		return &ledger.FencedError{Subject: about.Subject(), Partition: p, Fence: number, Current: now.number, Owner: now.owner}
	}
	return nil
}

// leases is a handle's [ledger.Leases].
type leases struct {
	l *Ledger
	h *holder
}

var _ ledger.Leases = leases{}

func (s leases) Owner() string { return s.h.name }

// change runs fn on a copy of who owns what and keeps it.
func (s leases) change(ctx context.Context, fn func(b *batch, o *ownership) error) error {
	return s.l.writer.submit(ctx, &intent{run: func(b *batch) error {
		err := b.takeAll(s.h)
		o := b.owners.clone()
		if err == nil {
			err = fn(b, o)
		}
		var fenced *ledger.FencedError
		if err != nil && !errors.As(err, &fenced) {
			b.broken = err
			return err
		}
		b.owners = o
		b.after = append(b.after, func() { s.h.note(o) })
		return err
	}})
}

func until(now time.Time, d time.Duration) int64 {
	if d <= 0 {
		return endless
	}
	return now.Add(d).UnixMicro()
}

func (s leases) Acquire(ctx context.Context, partitions []int, d time.Duration) ([]ledger.Lease, error) {
	for _, p := range partitions {
		if p < 0 || p >= ledger.Partitions {
			return nil, fmt.Errorf("acquire partition %d: partitions go from 0 to %d", p, ledger.Partitions-1)
		}
	}
	var got []ledger.Lease
	err := s.change(ctx, func(b *batch, o *ownership) error {
		got = nil
		now := b.w.now()
		for _, p := range partitions {
			f := &o.fences[p]
			if f.owner != s.h.name {
				if f.owner != "" && o.until[f.owner] > now.UnixMicro() {
					continue
				}
				*f = fence{owner: s.h.name, number: f.number + 1}
				if err := b.writeFence(p, *f); err != nil {
					return err
				}
			}
			got = append(got, ledger.Lease{Partition: p, Fence: f.number, Owner: f.owner})
		}
		return b.writeHeartbeat(o, s.h.name, until(now, d))
	})
	if err != nil {
		return nil, fmt.Errorf("acquire partitions: %w", s.l.explain(err))
	}
	return s.only(got), nil
}

// only gives the leases their end.
func (s leases) only(list []ledger.Lease) []ledger.Lease {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	for i := range list {
		if s.h.until != endless {
			list[i].Until = fromMicros(s.h.until)
		}
	}
	return list
}

func (s leases) Renew(ctx context.Context, d time.Duration) error {
	err := s.change(ctx, func(b *batch, o *ownership) error {
		if err := b.writeHeartbeat(o, s.h.name, until(b.w.now(), d)); err != nil {
			return err
		}
		for p, f := range o.fences {
			if was := s.h.fence(p); was != 0 && (f.owner != s.h.name || f.number != was) {
				return &ledger.FencedError{Partition: p, Fence: was, Current: f.number, Owner: f.owner}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("renew leases: %w", s.l.explain(err))
	}
	return nil
}

func (s leases) Release(ctx context.Context, partitions []int) error {
	err := s.change(ctx, func(b *batch, o *ownership) error {
		for _, p := range partitions {
			if p < 0 || p >= ledger.Partitions || o.fences[p].owner != s.h.name {
				continue
			}
			o.fences[p].owner = ""
			if err := b.writeFence(p, o.fences[p]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("release partitions: %w", s.l.explain(err))
	}
	return nil
}

func (s leases) Held() []ledger.Lease {
	if s.h.sole && s.h.fence(0) == 0 {
		// Before the first decision. If this fails, nothing is held.
		_ = s.change(context.Background(), func(*batch, *ownership) error { return nil })
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.until <= s.l.writer.now().UnixMicro() {
		return nil
	}
	var list []ledger.Lease
	for p, number := range s.h.held {
		if number != 0 {
			lease := ledger.Lease{Partition: p, Fence: number, Owner: s.h.name}
			if s.h.until != endless {
				lease.Until = fromMicros(s.h.until)
			}
			list = append(list, lease)
		}
	}
	return list
}

// mine restricts the outbox to the partitions of an owner; empty where that is all of them.
func (o *ownership) mine(owner string) string {
	var list []string
	for p, f := range o.fences {
		if f.owner == owner {
			list = append(list, fmt.Sprint(p))
		}
	}
	if len(list) == ledger.Partitions {
		return ""
	}
	return " AND partition IN (" + strings.Join(slices.Concat([]string{"-1"}, list), ", ") + ")"
}

// Replica is another handle of the same ledger with an owner of its own, as another process would have it.
type Replica struct {
	*Ledger
	own *holder
}

var _ ledger.Ledger = (*Replica)(nil)

// Replica gives a handle for another owner, which has to acquire what it decides on.
func (l *Ledger) Replica(owner string) *Replica {
	return &Replica{Ledger: l, own: &holder{name: owner}}
}

// Write implements [ledger.Ledger].
func (r *Replica) Write(ctx context.Context, about ledger.Scope, fn func(ledger.Tx) error) error {
	return r.write(ctx, r.own, about, fn)
}

// Outbox implements [ledger.Ledger].
func (r *Replica) Outbox() ledger.Outbox { return outbox{r.Ledger, r.own} }

// Leases implements [ledger.Ledger].
func (r *Replica) Leases() ledger.Leases { return leases{r.Ledger, r.own} }

// Close implements [ledger.Ledger]; it leaves the ledger open for the others.
func (r *Replica) Close() error { return nil }
