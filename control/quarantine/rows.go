package quarantine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// The kinds of entries. Their bodies are [Quarantined] and [Released].
const (
	KindQuarantined = "item.quarantined"
	KindReleased    = "item.released"
)

// Table has a row for each item that is quarantined; its key is that of [Item.String].
const Table = "quarantine"

// Quarantined is an item that is left out, and why.
type Quarantined struct {
	Item
	// Why is the reason that the process gave when it ended.
	Why string `json:"why"`
	// Deaths is how often the process ended while it tried the item alone.
	Deaths int `json:"deaths"`
	// Since is when that was recorded.
	Since time.Time `json:"since,omitzero"`
}

// Released is the body of an item.released entry.
type Released struct {
	Item
	// Dropped says that the item is not tried again.
	Dropped bool `json:"dropped,omitempty"`
}

// Projection keeps the "quarantine" table.
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{Table} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool { return kind == KindQuarantined || kind == KindReleased }

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	key := strings.TrimPrefix(e.Subject, subjectPrefix)
	if e.Kind == KindReleased {
		return rows.Delete(Table, key)
	}
	q, err := ledger.Read[Quarantined](e)
	if err != nil {
		return err
	}
	q.Since = e.Time
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("write row of %s: %w", key, err)
	}
	return rows.Put(ledger.Row{Table: Table, Key: key, State: q.Kind, Time: e.Time, Body: body})
}

const subjectPrefix = "quarantine/"

// Subject is what the entries about an item are about.
func Subject(i Item) string { return subjectPrefix + i.String() }

// read gives what is quarantined.
func read(ctx context.Context, l ledger.Reader) (map[Item]Quarantined, error) {
	out := map[Item]Quarantined{}
	for row, err := range ledger.Each(ctx, l, ledger.Query{Table: Table}) {
		var q Quarantined
		if err == nil {
			err = json.Unmarshal(row.Body, &q)
		}
		if err != nil {
			return nil, fmt.Errorf("read what is quarantined: %w", err)
		}
		out[q.Item] = q
	}
	return out, nil
}

// put records that an item is quarantined.
func (b *Book) put(ctx context.Context, q Quarantined) error {
	var now time.Time
	err := b.o.Ledger.Write(ctx, ledger.On(Subject(q.Item)), func(tx ledger.Tx) error {
		now = tx.Now()
		_, err := tx.Append(ledger.Draft{Actor: "system", Kind: KindQuarantined, Subject: Subject(q.Item), Body: q})
		return err
	})
	if err != nil {
		return fmt.Errorf("quarantine %s: %w", q.Item, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	q.Since = now
	b.out[q.Item] = q
	return nil
}

// List gives what is quarantined, in order of kind and key.
func (b *Book) List() []Quarantined {
	if b == nil {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.SortedFunc(maps.Values(b.out), func(x, y Quarantined) int { return cmp.Compare(x.Item.String(), y.Item.String()) })
}

// Room can do something about an item of its kind.
type Room interface {
	// Again works on an item that is no longer quarantined.
	Again(ctx context.Context, item Item, actor string) error
	// Drop leaves an item for good, before it is released. Where only people can do that, by deleting what it is of, the error says so.
	Drop(ctx context.Context, item Item, actor string) error
}

// Rooms are by kind of item.
type Rooms map[string]Room

// Retry releases an item and has its room try it again, alone.
func (b *Book) Retry(ctx context.Context, rooms Rooms, item Item, actor string) error {
	room, err := b.find(rooms, item)
	if err != nil {
		return err
	}
	if err := b.release(ctx, item, actor, false); err != nil {
		return err
	}
	return room.Again(ctx, item, actor)
}

// Drop has an item left for good.
func (b *Book) Drop(ctx context.Context, rooms Rooms, item Item, actor string) error {
	room, err := b.find(rooms, item)
	if err != nil {
		return err
	}
	if err := room.Drop(ctx, item, actor); err != nil {
		return err
	}
	return b.release(ctx, item, actor, true)
}

func (b *Book) find(rooms Rooms, item Item) (Room, error) {
	b.mu.RLock()
	_, ok := b.out[item]
	b.mu.RUnlock()
	if !ok {
		return nil, failure.NotFoundf("%s is not quarantined", item)
	}
	room, ok := rooms[item.Kind]
	if !ok {
		return nil, failure.Errorf(failure.Refused, "%s: this server knows no such kind", item)
	}
	return room, nil
}

// Forget releases an item, if it is quarantined, that can never come again: what it is of was deleted.
func (b *Book) Forget(ctx context.Context, item Item, actor string) error {
	if b == nil {
		return nil
	}
	return b.release(ctx, item, actor, true)
}

// release records that an item is not quarantined any more. It stays suspect, so that it is tried alone.
func (b *Book) release(ctx context.Context, item Item, actor string, dropped bool) error {
	b.mu.RLock()
	_, out := b.out[item]
	b.mu.RUnlock()
	if !out {
		return nil
	}
	err := b.o.Ledger.Write(ctx, ledger.On(Subject(item)), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: actor, Kind: KindReleased, Subject: Subject(item), Body: Released{Item: item, Dropped: dropped}})
		return err
	})
	if err != nil {
		return fmt.Errorf("release %s: %w", item, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.out, item)
	s, suspected := b.suspects[item]
	switch {
	case dropped && suspected:
		b.acquit(item, s)
	case suspected:
		b.suspects[item] = suspect{slot: s.slot}
		b.hand.set(s.slot, mark{state: suspectedState, item: item})
	case !dropped && len(b.suspects) < maxSuspects:
		select {
		case slot := <-b.free:
			b.suspects[item] = suspect{slot: slot}
			b.hand.set(slot, mark{state: suspectedState, item: item})
		default: // it is then tried beside others, which finds it, too
		}
	}
	return nil
}

var _ control.Service = (*Book)(nil)

// Name implements control.Service.
func (*Book) Name() string { return "quarantine" }

// Start implements control.Service: Open did all.
func (*Book) Start(context.Context) error { return nil }

// rest is the wait before what could not be recorded is tried again.
const rest = 5 * time.Second

// Run implements control.Service: it records what was quarantined since the start.
func (b *Book) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-b.news:
			for b.note(b.put(ctx, q)) != nil {
				again := time.NewTimer(rest)
				select {
				case <-ctx.Done():
					again.Stop()
					b.news <- q // for Close
					return nil
				case <-again.C:
				}
			}
		}
	}
}

func (b *Book) note(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = err
	return err
}

// Health implements control.Service: it waits for people while something is quarantined.
func (b *Book) Health() control.Health {
	b.mu.RLock()
	defer b.mu.RUnlock()
	switch {
	case b.failed != nil:
		return control.Health{State: control.Failing, Reason: b.failed.Error()}
	case len(b.out) > 0:
		return control.Health{State: control.Waiting, Reason: fmt.Sprintf("%d items are quarantined: see tiphys quarantine list", len(b.out))}
	}
	return control.Health{}
}
