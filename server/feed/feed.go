// Package feed tells those who look on what changes in the ledger. It reads each change once, however many look, and
// keeps a bounded amount for those who are slow to take it.
package feed

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Errors of a subscription.
var (
	// ErrClosed says that the hub was closed: the server stops.
	ErrClosed = failure.New(failure.Waiting, "the server stops")
	// ErrTooMany says that no more may look on at once.
	ErrTooMany = failure.New(failure.RetryAfter, "too many live streams are open: close some, or try again later")
)

// Viewer is what somebody may see. Values are compared: those who may see the same should be the same Viewer, since each row is
// judged once for each of them.
type Viewer interface {
	// Sees says whether a row may be seen. Of a deleted row it has table, key, owner where it is known, and sequence.
	Sees(row ledger.Row) bool
}

// Interest selects rows of a table.
type Interest struct {
	Table string
	// Of restricts to one thing and what belongs to it: rows whose key or owner it is. Empty is the whole table.
	Of string
}

// matches tells whether a row is of interest. Of a deleted row the owner is not always known; then whoever looks at one
// owner's rows is told of it too, and has no such row.
func (i Interest) matches(row *Row) bool {
	return i.Table == row.Table && (i.Of == "" || i.Of == row.Key || i.Of == row.Owner || row.Deleted && row.Owner == "")
}

// Row is a row that changed, shared by all who are told of it. Of a deleted one it has table, key, owner where it is known,
// and sequence.
type Row struct {
	ledger.Row
	Deleted bool `json:"deleted,omitempty"`

	whole, brief form
}

// form is a row as it is sent, made once when it is first wanted.
type form struct {
	once sync.Once
	raw  []byte
	err  error
}

// shorten gives a row's body without what takes much room and is not needed to show it among many. Nil: there is
// nothing to leave out.
type shorten func(ledger.Row) (json.RawMessage, error)

// encode gives the row as JSON, whole or short.
func (r *Row) encode(short shorten) ([]byte, error) {
	f := &r.whole
	if short != nil {
		f = &r.brief
	}
	f.once.Do(func() { f.raw, f.err = r.marshal(short) })
	return f.raw, f.err
}

func (r *Row) marshal(short shorten) ([]byte, error) {
	shown := struct {
		ledger.Row
		Deleted bool `json:"deleted,omitempty"`
	}{r.Row, r.Deleted}
	if short != nil && !r.Deleted {
		body, err := short(r.Row)
		if err != nil {
			return nil, err
		}
		if body != nil {
			shown.Body = body
		}
	}
	raw, err := json.Marshal(shown)
	if err != nil {
		return nil, fmt.Errorf("write %s %s for a stream: %w", r.Table, r.Key, err)
	}
	return raw, nil
}

// Batch is what a subscriber gets at a time.
type Batch struct {
	// Rows are what changed, in order of sequence; each thing stands once, as it last was.
	Rows []*Row
	// At is the sequence up to which everything has been told when these rows are; 0 while more of it comes.
	At int64
	// Resync says that changes were left out, for there were too many to keep: what is shown must be read again, and all
	// that changes after At comes.
	Resync bool
	// Trouble is what keeps the server from recording anything, if that is news: empty when nothing does any more.
	Trouble *string
}

// Deletions tells of rows that entries take away: a row that is gone is in no list.
type Deletions struct {
	// Kinds are the kinds of entries that may take away rows of these tables.
	Kinds func(tables []string) []string
	// Rows are those that an entry takes away, with table, key, and owner where it is known.
	Rows func(ledger.Entry) ([]ledger.Row, error)
}

// tables are those of the interests, each once.
func tables(interests []Interest) []string {
	var out []string
	for _, i := range interests {
		if !slices.Contains(out, i.Table) {
			out = append(out, i.Table)
		}
	}
	slices.Sort(out)
	return out
}
