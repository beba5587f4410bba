package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// change is the body of a test's entries: rows of table "thing" that are set, with their owners, or that are gone.
type change struct {
	Set   map[string]string `json:"set,omitempty"`
	Gone  []string          `json:"gone,omitempty"`
	Fill  int               `json:"fill,omitempty"`
	Table string            `json:"table,omitempty"`
}

type things struct{}

func (things) Tables() []string { return []string{"thing", "other"} }

func (things) Version() int { return 1 }

func (things) Wants(kind string) bool { return kind == "thing.set" || kind == "thing.gone" }

func (things) Apply(e ledger.Entry, rows ledger.Rows) error {
	c, err := ledger.Read[change](e)
	if err != nil {
		return err
	}
	for key, owner := range c.Set {
		body, _ := json.Marshal(map[string]any{"by": e.Subject, "fill": strings.Repeat("x", c.Fill)})
		if err := rows.Put(ledger.Row{Table: c.Table, Key: key, Owner: owner, Time: e.Time, Body: body}); err != nil {
			return err
		}
	}
	for _, key := range c.Gone {
		if err := rows.Delete(c.Table, key); err != nil {
			return err
		}
	}
	return nil
}

func deletionsOf() Deletions {
	return Deletions{
		Kinds: func([]string) []string { return []string{"thing.gone"} },
		Rows: func(e ledger.Entry) (out []ledger.Row, err error) {
			c, err := ledger.Read[change](e)
			for _, key := range c.Gone {
				out = append(out, ledger.Row{Table: c.Table, Key: key})
			}
			return out, err
		},
	}
}

// fatal is what both testing.T and rapid.T have.
type fatal interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func open(t fatal) (ledger.Ledger, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "feed")
	if err != nil {
		t.Fatal(err)
	}
	l, err := sqlite.Open(context.Background(), sqlite.Options{
		Path: filepath.Join(dir, "ledger.db"), Synchronous: sqlite.Off, Projections: []ledger.Projection{things{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, func() { _ = l.Close(); _ = os.RemoveAll(dir) }
}

func write(t fatal, l ledger.Ledger, c change) int64 {
	t.Helper()
	kind := "thing.set"
	if len(c.Gone) > 0 {
		kind = "thing.gone"
	}
	if c.Table == "" {
		c.Table = "thing"
	}
	var made ledger.Ref
	err := l.Write(context.Background(), ledger.On("test"), func(tx ledger.Tx) (err error) {
		made, err = tx.Append(ledger.Draft{Actor: "test", Kind: kind, Subject: "test", Body: c})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.Seq()
}

func subscribe(t fatal, h *Hub, since int64, of ...Interest) *Subscription {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := h.Subscribe(ctx, all{}, since, false, of...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// all is a viewer who sees everything.
type all struct{}

func (all) Sees(ledger.Row) bool { return true }

// patience bounds every wait of these tests.
const patience = 20 * time.Second

func next(t fatal, s *Subscription) Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := s.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mirror is what a client that looks on knows: the sequence of each thing.
type mirror map[string]int64

// follow takes what comes until everything up to a sequence is told; it reads anew when it must.
func (m mirror) follow(t fatal, l ledger.Reader, s *Subscription, until int64, owner string) {
	t.Helper()
	for {
		b := next(t, s)
		for _, row := range b.Rows {
			if row.Seq < m[row.Key] {
				continue
			}
			if delete(m, row.Key); !row.Deleted {
				m[row.Key] = row.Seq
			}
		}
		if b.Resync {
			clear(m)
			for k, v := range state(t, l, owner) {
				m[k] = v
			}
		}
		if b.At >= until {
			return
		}
	}
}

func state(t fatal, l ledger.Reader, owner string) mirror {
	t.Helper()
	rows, err := l.List(context.Background(), ledger.Query{Table: "thing", Owner: owner, Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	out := mirror{}
	for _, r := range rows {
		out[r.Key] = r.Seq
	}
	return out
}

// Whenever one begins to look on, however much they missed and however slowly they take it: in the end they know what is there.
func TestWhoLooksOnKnowsWhatIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, closed := open(t)
		defer closed()
		h := New(Options{
			Ledger: l, Deletions: deletionsOf(), Pace: time.Microsecond,
			Kept: rapid.SampledFrom([]int{700, 5000, 1 << 20}).Draw(t, "kept"), Behind: rapid.IntRange(1, 30).Draw(t, "behind"),
		})
		defer h.Close()
		key := rapid.StringMatching(`[a-e]`)
		owners := rapid.SampledFrom([]string{"one", "two"})
		act := func() int64 {
			c := change{}
			if k := key.Draw(t, "key"); rapid.Bool().Draw(t, "gone") {
				c.Gone = []string{k}
			} else {
				// A thing keeps its owner.
				c.Set = map[string]string{k: map[bool]string{true: "one", false: "two"}[k < "c"]}
			}
			return write(t, l, c)
		}
		var subs []*Subscription
		var mirrors []mirror
		var of []string
		last := act()
		for range rapid.IntRange(1, 40).Draw(t, "acts") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				owner := ""
				if rapid.Bool().Draw(t, "some") {
					owner = owners.Draw(t, "owner")
				}
				m, since := mirror{}, int64(0)
				if rapid.Bool().Draw(t, "knows") {
					m, since = state(t, l, owner), last
				}
				subs, mirrors, of = append(subs, subscribe(t, h, since, Interest{Table: "thing", Of: owner})), append(mirrors, m), append(of, owner)
			case 1:
				if len(subs) > 0 {
					i := rapid.IntRange(0, len(subs)-1).Draw(t, "who")
					subs[i].ping()
					mirrors[i].follow(t, l, subs[i], 0, of[i])
				}
			default:
				last = act()
			}
		}
		// One more change of each owner, so that there is something to wait for.
		write(t, l, change{Set: map[string]string{"y": "one"}})
		last = write(t, l, change{Set: map[string]string{"z": "two"}})
		// Whoever has taken all is told by a sign of life how far that was.
		for i, s := range subs {
			for until := time.Now().Add(patience); ; {
				s.ping()
				mirrors[i].follow(t, l, s, 0, of[i])
				if cmp.Equal(state(t, l, of[i]), mirrors[i]) && s.caughtUp(last) {
					break
				}
				if time.Now().After(until) {
					t.Fatalf("of %q: %s", of[i], cmp.Diff(state(t, l, of[i]), mirrors[i]))
				}
			}
		}
	})
}

func (s *Subscription) caughtUp(to int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at >= to && len(s.rows) == 0 && !s.resync
}

// counting counts what is read of a ledger.
type counting struct {
	ledger.Reader
	lists, entries atomic.Int64
}

func (c *counting) List(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	c.lists.Add(1)
	return c.Reader.List(ctx, q)
}

func (c *counting) Entries(ctx context.Context, q ledger.EntryQuery) ([]ledger.Entry, error) {
	c.entries.Add(1)
	return c.Reader.Entries(ctx, q)
}

// A change is read once, however many look on, and nothing is read when nobody does.
func TestManyCostOneRead(t *testing.T) {
	l, closed := open(t)
	defer closed()
	read := &counting{Reader: l}
	h := New(Options{Ledger: read, Deletions: deletionsOf(), Pace: time.Microsecond})
	defer h.Close()
	write(t, l, change{Set: map[string]string{"a": ""}})
	var subs []*Subscription
	for range 50 {
		subs = append(subs, subscribe(t, h, Now, Interest{Table: "thing"}))
	}
	const changes = 20
	for i := range changes {
		seq := write(t, l, change{Set: map[string]string{fmt.Sprint("k", i): ""}})
		for _, s := range subs {
			if b := next(t, s); b.At != seq || len(b.Rows) != 1 {
				t.Fatalf("told %d rows up to %d, want one at %d", len(b.Rows), b.At, seq)
			}
		}
	}
	if n := read.lists.Load(); n != changes {
		t.Errorf("%d lists were read for %d changes", n, changes)
	}
	for _, s := range subs {
		s.Close()
	}
	h.mu.Lock()
	for h.running {
		h.idle.Wait()
	}
	h.mu.Unlock()
	before := read.lists.Load() + read.entries.Load()
	write(t, l, change{Set: map[string]string{"b": ""}})
	if now := read.lists.Load() + read.entries.Load(); now != before {
		t.Errorf("%d reads though nobody looks on", now-before)
	}
}

// Who takes nothing costs a bounded amount, is told to read anew, and then goes on as everybody does.
func TestSlowOneReadsAnew(t *testing.T) {
	l, closed := open(t)
	defer closed()
	h := New(Options{Ledger: l, Deletions: deletionsOf(), Pace: time.Microsecond, Kept: 10_000})
	defer h.Close()
	write(t, l, change{Set: map[string]string{"a": ""}})
	slow, quick := subscribe(t, h, Now, Interest{Table: "thing"}), subscribe(t, h, Now, Interest{Table: "thing"})
	var last int64
	for i := range 40 {
		last = write(t, l, change{Set: map[string]string{fmt.Sprint("k", i): ""}, Fill: 1000})
		if b := next(t, quick); b.Resync || len(b.Rows) != 1 {
			t.Fatalf("the quick one: %+v", b)
		}
		slow.mu.Lock()
		if slow.bytes > 10_000 {
			t.Fatalf("%d bytes wait", slow.bytes)
		}
		slow.mu.Unlock()
	}
	if b := next(t, slow); !b.Resync || len(b.Rows) > 0 || b.At != last {
		t.Errorf("the slow one is told %+v, want to read anew at %d", b, last)
	}
	last = write(t, l, change{Set: map[string]string{"b": ""}})
	if b := next(t, slow); b.Resync || len(b.Rows) != 1 || b.At != last {
		t.Errorf("afterwards: %+v", b)
	}
	// The same thing that changes again and again waits once.
	for range 100 {
		last = write(t, l, change{Set: map[string]string{"b": ""}, Fill: 1000})
		next(t, quick)
	}
	if b := next(t, slow); b.Resync || len(b.Rows) != 1 || b.Rows[0].Seq != last {
		t.Errorf("one thing that changed often: %+v, want sequence %d", b, last)
	}
}

// More than may be read for one who comes late is read anew by them; who knows nothing is told all. One entry that
// changed more rows than a page has leaves none out.
func TestLateOnes(t *testing.T) {
	l, closed := open(t)
	defer closed()
	first := write(t, l, change{Set: map[string]string{"a": ""}})
	many := map[string]string{}
	for i := range 2*page + 7 {
		many[fmt.Sprintf("m%05d", i)] = ""
	}
	last := write(t, l, change{Set: many})
	for _, c := range []struct {
		name          string
		since         int64
		behind, knows int
		resync        bool
	}{
		{"as many as may be", first, 3 * page, len(many), false},
		{"more than may be", first, page, 0, true},
		{"who knows nothing", 0, page, len(many) + 1, false},
		{"who knows all", last, page, 0, false},
		// A place that this ledger has not reached is of another: a backup was put in its stead.
		{"from beyond the end", last + 100, page, 0, true},
	} {
		h := New(Options{Ledger: l, Deletions: deletionsOf(), Behind: c.behind})
		s := subscribe(t, h, c.since, Interest{Table: "thing"})
		s.ping()
		knows, b := map[string]bool{}, Batch{}
		for b.At == 0 {
			b = next(t, s)
			for _, row := range b.Rows {
				knows[row.Key] = true
			}
		}
		if b.Resync != c.resync || !c.resync && len(knows) != c.knows || b.At != last {
			t.Errorf("%s: told %d rows up to %d, read anew %v; want %d up to %d, %v", c.name, len(knows), b.At, b.Resync, c.knows, last, c.resync)
		}
		h.Close()
	}
}

// only sees rows whose key begins with it, and counts what it was asked.
type only struct {
	prefix string
	asked  *atomic.Int64
}

func (o only) Sees(row ledger.Row) bool {
	o.asked.Add(1)
	return strings.HasPrefix(row.Key, o.prefix)
}

// Of what a viewer may not see it is told nothing: no row, no deletion, no place, and not that it was too much, be it live or late.
// Each row is judged once for all who may see the same.
func TestViewersAreToldOfTheirs(t *testing.T) {
	l, closed := open(t)
	defer closed()
	first := write(t, l, change{Set: map[string]string{"a0": "", "b0": ""}})
	const kept = 5000
	h := New(Options{Ledger: l, Deletions: deletionsOf(), Pace: time.Microsecond, Kept: kept, Behind: 20})
	defer h.Close()
	a, b := only{"a", new(atomic.Int64)}, only{"b", new(atomic.Int64)}
	sub := func(v Viewer, since int64) *Subscription {
		s, err := h.Subscribe(t.Context(), v, since, false, Interest{Table: "thing"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two, other := sub(a, Now), sub(a, Now), sub(b, Now)
	asked := a.asked.Load()
	many := map[string]string{}
	for i := range 2 * page {
		many[fmt.Sprint("b", i)] = ""
	}
	write(t, l, change{Set: many, Fill: 100})
	write(t, l, change{Gone: []string{"b3"}})
	if got := next(t, other); !got.Resync {
		t.Errorf("who sees more than is kept is told %d rows, want to read anew", len(got.Rows))
	}
	write(t, l, change{Gone: []string{"a0"}})
	last := write(t, l, change{Set: map[string]string{"a1": ""}})
	late := sub(a, first)
	for name, s := range map[string]*Subscription{"one": one, "two": two, "late": late} {
		var told []string
		for at := int64(0); at < last; {
			got := next(t, s)
			if got.Resync {
				t.Errorf("%s: is to read anew because of what it may not see", name)
			}
			for _, row := range got.Rows {
				told = append(told, fmt.Sprint(row.Key, row.Deleted))
			}
			if at = got.At; at == 0 && len(got.Rows) == 0 && name != "late" {
				t.Errorf("%s: woken for nothing", name)
			}
		}
		if want := []string{"a0true", "a1false"}; !slices.Equal(told, want) {
			t.Errorf("%s: told %v, want %v", name, told, want)
		}
	}
	// Once for the two who look on, once for the late one; a row that changes while it is read may come again.
	if n, most := a.asked.Load()-asked, int64(2*(2*page+4)+8); n > most {
		t.Errorf("asked %d times about %d rows", n, 2*page+4)
	}
}

// The end of the server ends every stream, whether somebody waits or not, and no other begins.
func TestCloseEndsAll(t *testing.T) {
	l, closed := open(t)
	defer closed()
	h := New(Options{Ledger: l, Deletions: deletionsOf(), Pace: time.Hour, Open: 3})
	write(t, l, change{Set: map[string]string{"a": ""}})
	ended := make(chan error, 3)
	for range 3 {
		s := subscribe(t, h, Now, Interest{Table: "thing"})
		go func() {
			for {
				if _, err := s.Next(context.Background()); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	if _, err := h.Subscribe(t.Context(), all{}, Now, false, Interest{Table: "thing"}); !errors.Is(err, ErrTooMany) {
		t.Errorf("a fourth: %v", err)
	}
	write(t, l, change{Set: map[string]string{"b": ""}}) // the hub now waits an hour for its next look
	h.Close()
	for range 3 {
		select {
		case err := <-ended:
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a subscription goes on")
		}
	}
	if _, err := h.Subscribe(t.Context(), all{}, Now, false, Interest{Table: "thing"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// One who wants the short form gets it, and the others the whole; each is made once.
func TestBrief(t *testing.T) {
	l, closed := open(t)
	defer closed()
	var made atomic.Int64
	h := New(Options{Ledger: l, Deletions: deletionsOf(), Pace: time.Microsecond, Brief: func(ledger.Row) (json.RawMessage, error) {
		made.Add(1)
		return json.RawMessage(`{"short":true}`), nil
	}})
	defer h.Close()
	write(t, l, change{Set: map[string]string{"a": ""}})
	var texts []string
	var subs []*Subscription
	for _, brief := range []bool{true, false, true} {
		s, err := h.Subscribe(t.Context(), all{}, Now, brief, Interest{Table: "thing", Of: "b"})
		if err != nil {
			t.Fatal(err)
		}
		subs = append(subs, s)
	}
	write(t, l, change{Set: map[string]string{"b": ""}})
	for _, s := range subs {
		raw, err := s.Encode(next(t, s).Rows[0])
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, fmt.Sprint(strings.Contains(string(raw), `"short":true`), strings.Contains(string(raw), `"fill"`)))
	}
	if want := []string{"true false", "false true", "true false"}; !slices.Equal(texts, want) || made.Load() != 1 {
		t.Errorf("%v, made %d times; want %v and once", texts, made.Load(), want)
	}
}
