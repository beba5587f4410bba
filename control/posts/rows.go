package posts

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// Table is the projection's table: the key is the post's, the owner its forge.
const Table = "post"

// The kinds of entries. Their bodies are [Post], and settled.
const (
	kindAsked  = "post.asked"
	kindSent   = "post.sent"
	kindFailed = "post.failed"
)

// subjectPrefix is before the key of a post in the subject of its entries. A post is a home of its own.
const subjectPrefix = "post/"

// The states of a row.
const (
	stateAsked  = "asked"
	stateSent   = "sent"
	stateFailed = "failed"
)

// settled is the body of the entries "post.sent" and "post.failed".
type settled struct {
	Key string `json:"key"`
	ID  string `json:"id"`
	// Attempts counts how often the forge was told, Error why it does not take it.
	Attempts int    `json:"attempts"`
	Error    string `json:"error,omitempty"`
}

// Row is the body of a row: the latest post for a place.
type Row struct {
	Post
	// State is asked, sent or failed.
	State    string     `json:"state"`
	Attempts int        `json:"attempts,omitempty"`
	Error    string     `json:"error,omitempty"`
	Settled  *time.Time `json:"settled,omitempty"`
}

// Projection keeps the table.
type Projection struct{}

var _ ledger.Projection = Projection{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{Table} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool {
	return kind == kindAsked || kind == kindSent || kind == kindFailed
}

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Pruned || len(e.Body) == 0 {
		return nil // what was erased leaves no row
	}
	if e.Kind == kindAsked {
		p, err := ledger.Read[Post](e)
		if err != nil {
			return err
		}
		return put(rows, Row{Post: p, State: stateAsked})
	}
	s, err := ledger.Read[settled](e)
	if err != nil {
		return err
	}
	row, err := rows.Get(Table, s.Key)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var r Row
	if err := json.Unmarshal(row.Body, &r); err != nil {
		return fmt.Errorf("read row of post %s: %w", s.Key, err)
	}
	if r.ID != s.ID {
		return nil // another took its place
	}
	r.State, r.Attempts, r.Error, r.Settled = stateSent, s.Attempts, s.Error, &e.Time
	if e.Kind == kindFailed {
		r.State = stateFailed
	}
	return put(rows, r)
}

func put(rows ledger.Rows, r Row) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write row of post %s: %w", r.Key(), err)
	}
	return rows.Put(ledger.Row{Table: Table, Key: r.Key(), Owner: r.Instance, State: r.State, Time: r.Asked, Body: body})
}
