package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// The kinds of the entries by which holders change. The body of lock.requested is a [Holder], which has its locks at once if Held;
// those of the others only name the holder.
const (
	KindRequested = "lock.requested"
	KindGranted   = "lock.granted"
	KindReleased  = "lock.released"
)

// The kinds of older ledgers: lock.holder has a [Holder], empty but for its name when it is gone; lock.changed had all holders and
// waiters of a lock, which their own rows tell as well.
const (
	kindHolder = "lock.holder"
	kindLock   = "lock.changed"
)

// TableHolder has a row of each that holds or waits: the key is the holder, the owner its run.
const TableHolder = "lockholder"

// Entry is one fact about a holder.
type Entry struct {
	Kind string
	Body Holder
}

func entry(kind string, h Holder) Entry { return Entry{Kind: kind, Body: h} }

// Subject is the ledger's subject of a holder's entries.
func Subject(holder string) string { return "lockholder/" + holder }

// FromRow reads a holder back from its row, for [Table.Restore].
func FromRow(row ledger.Row) (Holder, error) {
	var h Holder
	if err := json.Unmarshal(row.Body, &h); err != nil {
		return h, fmt.Errorf("read holder of locks %s: %w", row.Key, err)
	}
	return h, nil
}

// MarshalJSON leaves out what only a request has.
func (e Entry) MarshalJSON() ([]byte, error) {
	if e.Kind == KindRequested {
		return json.Marshal(e.Body)
	}
	return json.Marshal(struct {
		Holder string `json:"holder"`
	}{e.Body.Holder})
}

// Projection keeps the table "lockholder".
type Projection struct{}

// Tables implements ledger.Projection. There are no rows of "lock" any more.
func (Projection) Tables() []string { return []string{"lock", "lockholder"} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 2 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool {
	switch kind {
	case KindRequested, KindGranted, KindReleased, kindHolder, kindLock:
		return true
	}
	return false
}

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Pruned || e.Kind == kindLock {
		return nil
	}
	var h Holder
	if err := json.Unmarshal(e.Body, &h); err != nil {
		return fmt.Errorf("read entry %d: %w", e.Seq, err)
	}
	switch {
	case e.Kind == KindReleased, e.Kind == kindHolder && h.Key == "":
		return rows.Delete(TableHolder, h.Holder)
	case e.Kind == KindGranted:
		return granted(h.Holder, rows)
	}
	return put(h, rows)
}

// granted notes in a holder's row that it has its locks.
func granted(holder string, rows ledger.Rows) error {
	row, err := rows.Get(TableHolder, holder)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil // its request was erased
	}
	if err != nil {
		return fmt.Errorf("read row of %s: %w", holder, err)
	}
	h, err := FromRow(row)
	if err != nil {
		return err
	}
	h.Held = true
	return put(h, rows)
}

func put(h Holder, rows ledger.Rows) error {
	body, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("write row of %s: %w", h.Holder, err)
	}
	state := "waiting"
	if h.Held {
		state = "held"
	}
	ns, rest, _ := strings.Cut(h.Holder, "/")
	run, _, _ := strings.Cut(rest, "/")
	return rows.Put(ledger.Row{Table: TableHolder, Key: h.Holder, Owner: ns + "/" + run, State: state, Time: h.Since, Body: body})
}
