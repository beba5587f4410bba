package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// streamRow is one row in the live feed. Of a deleted one it has table, key, owner where it is known, and sequence.
type streamRow struct {
	ledger.Row
	Deleted bool `json:"deleted,omitempty"`
}

// heartbeat keeps proxies from closing a quiet stream.
const heartbeat = 20 * time.Second

// stream sends rows as they change, from the sequence that the client has seen. Rows come table by table, so the place
// to go on from is told only when all of them are sent.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	f := feed{ledger: a.Ledger, w: w, tables: strings.Split(r.URL.Query().Get("tables"), ","), owner: r.URL.Query().Get("owner")}
	var err error
	if f.since, err = a.since(r); err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	fmt.Fprintf(w, ": from %d\n\n", f.since)
	trouble := ""
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		changed := a.Ledger.Changed()
		if trouble, err = a.tellTrouble(w, trouble); err == nil {
			err = f.send(r.Context())
		}
		if err != nil {
			return
		}
		_ = flush.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C:
			if _, err := fmt.Fprint(w, ": \n\n"); err != nil {
				return
			}
		}
	}
}

// tellTrouble sends what keeps the server from recording if it is not what was told before, and gives what is told now.
// There is none when a stream begins.
func (a *API) tellTrouble(w io.Writer, told string) (string, error) {
	if a.Trouble == nil {
		return told, nil
	}
	now := a.Trouble()
	// How much is free changes all the time; that is told once.
	if (now == "") == (told == "") {
		return told, nil
	}
	raw, err := json.Marshal(now)
	if err != nil {
		return told, err
	}
	_, err = fmt.Fprintf(w, "event: trouble\ndata: %s\n\n", raw)
	return now, err
}

func (a *API) since(r *http.Request) (int64, error) {
	for _, s := range []string{r.Header.Get("Last-Event-ID"), r.URL.Query().Get("since")} {
		if s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return 0, badRequest("since %q is not a sequence", s)
			}
			return n, nil
		}
	}
	head, err := a.Ledger.Head(r.Context())
	return head.Seq, err
}

// streamBatch is how many rows are read at a time.
const streamBatch = 500

// feed is one client's stream.
type feed struct {
	ledger ledger.Reader
	w      io.Writer
	tables []string
	owner  string
	since  int64
	sent   bool // something since the last place was told
}

// send sends what changed after since, up to where the ledger is now.
func (f *feed) send(ctx context.Context) error {
	head, err := f.ledger.Head(ctx)
	if err != nil || head.Seq == f.since {
		return err
	}
	// Deletions come first: a row that is there again is sent after them.
	if err := f.sendDeleted(ctx, head.Seq); err != nil {
		return err
	}
	for _, table := range f.tables {
		if err := f.sendTable(ctx, ledger.Query{Table: table, Owner: f.owner, ChangedAfter: f.since, Limit: streamBatch}); err != nil {
			return err
		}
	}
	f.since = max(f.since, head.Seq)
	if !f.sent {
		return nil
	}
	f.sent = false
	_, err = fmt.Fprintf(f.w, "event: at\nid: %d\ndata: %d\n\n", f.since, f.since)
	return err
}

func (f *feed) sendTable(ctx context.Context, q ledger.Query) error {
	if q.Table == "" {
		return errors.New("no table")
	}
	all := q.ChangedAfter <= 0
	if all {
		q.ChangedAfter, q.Oldest = 0, true
	}
	for {
		rows, err := f.ledger.List(ctx, q)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := f.row(streamRow{Row: row}); err != nil {
				return err
			}
		}
		if len(rows) < q.Limit {
			return nil
		}
		if last := rows[len(rows)-1]; all {
			q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
		} else {
			q.ChangedAfter = last.Seq
		}
	}
}

func (f *feed) row(row streamRow) error {
	raw, err := json.Marshal(row)
	if err != nil {
		return err
	}
	f.sent = true
	_, err = fmt.Fprintf(f.w, "data: %s\n\n", raw)
	return err
}

// sendDeleted sends the rows that went away after since, until head. One that has seen nothing has nothing to take away.
func (f *feed) sendDeleted(ctx context.Context, head int64) error {
	kinds := deletingKinds(f.tables)
	if len(kinds) == 0 || f.since <= 0 {
		return nil
	}
	q := ledger.EntryQuery{After: f.since, Kinds: kinds, Limit: streamBatch}
	for {
		entries, err := f.ledger.Entries(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range entries {
			q.After = e.Seq
			if e.Seq > head || e.Pruned {
				continue
			}
			gone, err := deletedRows(e)
			if err != nil {
				return err
			}
			for _, row := range gone {
				if !f.wants(row) {
					continue
				}
				row.Seq = e.Seq
				if err := f.row(streamRow{Row: row, Deleted: true}); err != nil {
					return err
				}
			}
		}
		if len(entries) < q.Limit || q.After >= head {
			return nil
		}
	}
}
