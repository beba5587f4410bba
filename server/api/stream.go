package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/server/feed"
	"github.com/tiphys/tiphys/server/gate"
)

// slowest is how long one write to a stream may take: whoever takes nothing for longer has gone.
const slowest = 30 * time.Second

// stream sends rows as they change, from the sequence that the client has seen.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	since, err := sinceOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	interests, err := interestsOf(q["tables"], q["watch"], q.Get("owner"))
	if err != nil {
		fail(w, err)
		return
	}
	s, err := a.Feed.Subscribe(r.Context(), a.Policy.Sight(gate.From(r.Context())), since, q.Get("brief") == "1", interests...)
	if err != nil {
		fail(w, err)
		return
	}
	defer s.Close()
	e := newEventWriter(w)
	fmt.Fprintf(&e.buf, ": from %d\n\n", s.From())
	for err == nil {
		if err = e.flush(); err != nil {
			return
		}
		var b feed.Batch
		if b, err = s.Next(r.Context()); err == nil {
			err = writeBatch(&e.buf, s, b)
		}
	}
	// The client goes on elsewhere from the place that it was told last.
}

// interestsOf reads what a client wants to be told of: whole tables, or a table's rows of one thing ("node@default/x").
func interestsOf(whole, some []string, owner string) ([]feed.Interest, error) {
	var out []feed.Interest
	for _, list := range whole {
		for _, table := range strings.Split(list, ",") {
			out = append(out, feed.Interest{Table: table, Of: owner})
		}
	}
	for _, one := range some {
		table, of, _ := strings.Cut(one, "@")
		out = append(out, feed.Interest{Table: table, Of: of})
	}
	for _, i := range out {
		if i.Table == "" {
			return nil, badRequest("name the tables that you want to be told of: tables=run,node or watch=node@default/hello")
		}
	}
	if len(out) == 0 || len(out) > mostInterests {
		return nil, badRequest("name 1 to %d tables that you want to be told of: tables=run,node or watch=node@default/hello", mostInterests)
	}
	return out, nil
}

// mostInterests bounds what one stream asks for.
const mostInterests = 100

// writeBatch writes a batch as server-sent events: a row each, then the place from which to go on.
func writeBatch(buf *bytes.Buffer, s *feed.Subscription, b feed.Batch) error {
	if b.Trouble != nil {
		raw, err := json.Marshal(*b.Trouble)
		if err != nil {
			return err
		}
		fmt.Fprintf(buf, "event: trouble\ndata: %s\n\n", raw)
	}
	for _, row := range b.Rows {
		raw, err := s.Encode(row)
		if err != nil {
			return err
		}
		buf.WriteString("data: ")
		buf.Write(raw)
		buf.WriteString("\n\n")
	}
	if b.Resync {
		fmt.Fprintf(buf, "event: resync\ndata: %d\n\n", b.At)
	}
	if b.At > 0 {
		fmt.Fprintf(buf, "event: at\nid: %d\ndata: %d\n\n", b.At, b.At)
	}
	return nil
}

// eventWriter writes server-sent events; what was put into its buffer goes out at each flush.
type eventWriter struct {
	buf bytes.Buffer
	w   http.ResponseWriter
	c   *http.ResponseController
}

func newEventWriter(w http.ResponseWriter) *eventWriter {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	return &eventWriter{w: w, c: http.NewResponseController(w)}
}

// keptBuffer is how large a buffer is kept between two flushes, in bytes.
const keptBuffer = 64 << 10

// flush sends what was written. An error says that the client has gone, or takes nothing.
func (e *eventWriter) flush() error {
	if err := e.c.SetWriteDeadline(time.Now().Add(slowest)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := e.w.Write(e.buf.Bytes()); err != nil {
		return err
	}
	if e.buf.Reset(); e.buf.Cap() > keptBuffer {
		e.buf = bytes.Buffer{}
	}
	return e.c.Flush()
}

// sinceOf is the sequence that a client has seen: [feed.Now] if it does not say.
func sinceOf(r *http.Request) (int64, error) {
	for _, s := range []string{r.Header.Get("Last-Event-ID"), r.URL.Query().Get("since")} {
		if s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < 0 {
				return 0, badRequest("since %q is not a sequence", s)
			}
			return n, nil
		}
	}
	return feed.Now, nil
}

// NewFeed returns the hub that the streams of an API read.
func NewFeed(o feed.Options) *feed.Hub {
	o.Deletions = feed.Deletions{Kinds: deletingKinds, Rows: deletedRows}
	o.Brief = briefBody
	return feed.New(o)
}
