package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// The kinds of the entries by which locks change. Their bodies are the new state, or nothing.
const (
	kindLock   = "lock.changed"
	kindHolder = "lock.holder"
)

// Memory is a Store in memory.
type Memory struct {
	Locks   map[string]Lock
	Holders map[string]Holder
}

// NewMemory has no locks.
func NewMemory() *Memory { return &Memory{Locks: map[string]Lock{}, Holders: map[string]Holder{}} }

// Lock implements Store.
func (m *Memory) Lock(name string) (*Lock, error) {
	if l, ok := m.Locks[name]; ok {
		return &l, nil
	}
	return nil, nil
}

// PutLock implements Store.
func (m *Memory) PutLock(l Lock) error { m.Locks[l.Name] = l; return nil }

// DeleteLock implements Store.
func (m *Memory) DeleteLock(name string) error { delete(m.Locks, name); return nil }

// Holder implements Store.
func (m *Memory) Holder(name string) (*Holder, error) {
	if h, ok := m.Holders[name]; ok {
		return &h, nil
	}
	return nil, nil
}

// PutHolder implements Store.
func (m *Memory) PutHolder(h Holder) error { m.Holders[h.Holder] = h; return nil }

// DeleteHolder implements Store.
func (m *Memory) DeleteHolder(name string) error { delete(m.Holders, name); return nil }

// transaction is a Store within a ledger transaction.
type transaction struct {
	tx    ledger.Tx
	actor string
	cause ledger.Ref
}

// In makes a Store of a ledger transaction: it reads rows as they are within the transaction and writes by entries,
// which [Projection] turns into rows of the tables "lock" and "lockholder".
func In(tx ledger.Tx, actor string, cause ledger.Ref) Store { return transaction{tx, actor, cause} }

func (t transaction) get(table, key string, v any) (bool, error) {
	row, err := t.tx.Get(table, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s %s: %w", table, key, err)
	}
	if err := json.Unmarshal(row.Body, v); err != nil {
		return false, fmt.Errorf("read %s %s: %w", table, key, err)
	}
	return true, nil
}

func (t transaction) put(kind, subject string, body any) error {
	_, err := t.tx.Append(ledger.Draft{Actor: t.actor, Kind: kind, Subject: subject, Cause: t.cause, Body: body})
	return err
}

// Lock implements Store.
func (t transaction) Lock(name string) (*Lock, error) {
	var l Lock
	if ok, err := t.get("lock", name, &l); !ok {
		return nil, err
	}
	return &l, nil
}

// PutLock implements Store.
func (t transaction) PutLock(l Lock) error { return t.put(kindLock, "lock/"+l.Name, l) }

// DeleteLock implements Store.
func (t transaction) DeleteLock(name string) error {
	return t.put(kindLock, "lock/"+name, Lock{Name: name})
}

// Holder implements Store.
func (t transaction) Holder(name string) (*Holder, error) {
	var h Holder
	if ok, err := t.get("lockholder", name, &h); !ok {
		return nil, err
	}
	return &h, nil
}

// PutHolder implements Store.
func (t transaction) PutHolder(h Holder) error { return t.put(kindHolder, "lockholder/"+h.Holder, h) }

// DeleteHolder implements Store.
func (t transaction) DeleteHolder(name string) error {
	return t.put(kindHolder, "lockholder/"+name, Holder{Holder: name})
}

// Projection keeps the tables "lock" (key: the lock's name) and "lockholder" (key: the holder; owner: its run).
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{"lock", "lockholder"} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool { return kind == kindLock || kind == kindHolder }

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Pruned {
		return nil
	}
	if e.Kind == kindLock {
		var l Lock
		if err := json.Unmarshal(e.Body, &l); err != nil {
			return fmt.Errorf("read entry %d: %w", e.Seq, err)
		}
		if len(l.Holders)+len(l.Queue) == 0 {
			return rows.Delete("lock", l.Name)
		}
		state := "free"
		if len(l.Holders) > 0 {
			state = "held"
		}
		return rows.Put(ledger.Row{Table: "lock", Key: l.Name, State: state, Time: e.Time, Body: e.Body})
	}
	var h Holder
	if err := json.Unmarshal(e.Body, &h); err != nil {
		return fmt.Errorf("read entry %d: %w", e.Seq, err)
	}
	if h.Key == "" {
		return rows.Delete("lockholder", h.Holder)
	}
	state := "waiting"
	if h.Held {
		state = "held"
	}
	ns, rest, _ := strings.Cut(h.Holder, "/")
	run, _, _ := strings.Cut(rest, "/")
	return rows.Put(ledger.Row{Table: "lockholder", Key: h.Holder, Owner: ns + "/" + run, State: state, Time: h.Since, Body: e.Body})
}
