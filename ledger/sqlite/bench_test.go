package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// long lets the benchmarks that need a million rows run: go test -bench Million ./ledger/sqlite -long
var long = flag.Bool("long", false, "run benchmarks on a million rows")

const (
	benchWriters = 64
	benchBody    = 400 // bytes of each body
)

var benchPadding = strings.Repeat("x", benchBody-30)

// transition is the projection of a small engine: each entry changes its node's row and its run's row.
type transition struct{}

type benchState struct {
	Steps   int    `json:"steps"`
	Padding string `json:"padding"`
}

func (transition) Tables() []string { return []string{"node", "run"} }

func (transition) Version() int { return 1 }

func (transition) Wants(kind string) bool { return kind == "node.changed" }

func (transition) Apply(e ledger.Entry, rows ledger.Rows) error {
	for _, k := range [][2]string{{"node", e.Subject}, {"run", e.Subject[:strings.LastIndexByte(e.Subject, '/')]}} {
		row, err := rows.Get(k[0], k[1])
		if err != nil {
			row = ledger.Row{Table: k[0], Key: k[1], Time: e.Time, State: "Running"}
		}
		var s benchState
		if row.Body != nil {
			if err := json.Unmarshal(row.Body, &s); err != nil {
				return err
			}
		}
		s.Steps, s.Padding = s.Steps+1, benchPadding
		if row.Body, err = json.Marshal(s); err != nil {
			return err
		}
		if err := rows.Put(row); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkTransitions writes an entry, a node, a run and an outbox item per decision, from many writers, with
// synchronous=FULL; and then inserts the same rows and bytes in batches of the same size without the ledger.
func BenchmarkTransitions(b *testing.B) {
	l := open(b, sqlite.Options{Path: filepath.Join(b.TempDir(), "ledger.db"), Projections: []ledger.Projection{transition{}}})
	ctx := context.Background()
	commits := countCommits(l)
	b.ResetTimer()
	start := time.Now()
	var next atomic.Int64
	concurrently(benchWriters, func() {
		for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
			if err := l.Write(ctx, ledger.On(fmt.Sprintf("run/default/run-%d", i%50)), func(tx ledger.Tx) error { return benchTransition(tx, i) }); err != nil {
				b.Error(err)
				return
			}
		}
	})
	ours := time.Since(start)
	b.StopTimer()
	batch := max(1, b.N/max(1, commits()))
	plain := plainInserts(b, b.N, batch)
	b.ReportMetric(float64(b.N)/ours.Seconds(), "transitions/s")
	b.ReportMetric(float64(b.N)/plain.Seconds(), "plain/s")
	b.ReportMetric(plain.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(float64(batch), "batch")
}

func benchTransition(tx ledger.Tx, i int64) error {
	subject := fmt.Sprintf("run/default/run-%d/%d", i%50, i)
	body, err := ledger.Encode(benchState{Padding: benchPadding})
	if err != nil {
		return err
	}
	e, err := tx.Append(ledger.Draft{Actor: "system", Kind: "node.changed", Subject: subject, Cause: ledger.At(max(0, i/1000)), Body: body})
	if err != nil {
		return err
	}
	return tx.Enqueue(ledger.Work{Queue: "executor", Key: subject, Due: tx.Now(), Cause: e, Body: body.JSON()})
}

func concurrently(n int, fn func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(fn)
	}
	all.Wait()
}

// countCommits counts the commits that changed something, as a watcher sees them.
func countCommits(l *sqlite.Ledger) func() int {
	var n atomic.Int64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-l.Changed():
				n.Add(1)
			case <-stop:
				return
			}
		}
	}()
	return func() int { close(stop); <-done; return int(n.Load()) }
}

// plainInserts inserts four rows of the same bytes per transition into the ledger's own tables, batch
// transitions at a time, with prepared statements and nothing else.
func plainInserts(b *testing.B, n, batch int) time.Duration {
	path := filepath.Join(b.TempDir(), "plain.db")
	if err := open(b, sqlite.Options{Path: path}).Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-8192)&_pragma=wal_autocheckpoint(4000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var stmts []*sql.Stmt
	for _, text := range []string{
		"INSERT INTO entries (seq, time, actor, kind, subject, cause, place, digest, hash, body) VALUES (?, ?, 'system', 'node.changed', ?, ?, 1, ?, ?, ?)",
		"INSERT INTO projected (kind, key, owner, state, time, seq, labels, body) VALUES ('node', ?, '', 'Running', ?, ?, '', ?)",
		"INSERT INTO projected (kind, key, owner, state, time, seq, labels, body) VALUES ('run', ?, '', 'Running', ?, ?, '', ?)",
		"INSERT INTO outbox (id, queue, key, due, ready, claimed, attempt, cause, body) VALUES (?, 'executor', ?, ?, ?, 0, 0, ?, ?)",
	} {
		s, err := db.Prepare(text) //nolint:sqlclosecheck // closed with db
		if err != nil {
			b.Fatal(err)
		}
		stmts = append(stmts, s)
	}
	body, hash := []byte(strings.Repeat("x", benchBody)), make([]byte, 32)
	start := time.Now()
	for i := 1; i <= n; {
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		in := [4]*sql.Stmt{tx.Stmt(stmts[0]), tx.Stmt(stmts[1]), tx.Stmt(stmts[2]), tx.Stmt(stmts[3])}
		for end := min(n, i+batch-1); i <= end; i++ {
			subject, now := fmt.Sprintf("default/run-%d#%d", i%50, i), time.Now().UnixMicro()
			for s, args := range [][]any{{i, now, subject, i / 1000, hash, hash, body}, {subject, now, i, body}, {subject, now, i, body}, {i, subject, now, now, i, body}} {
				if _, err := in[s].Exec(args...); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

// BenchmarkReceive is a webhook's part of the ledger: one entry of 3 KB with a unique key, 64 at a time.
func BenchmarkReceive(b *testing.B) {
	l := open(b, sqlite.Options{Path: filepath.Join(b.TempDir(), "ledger.db")})
	body := json.RawMessage(`"` + strings.Repeat("x", 3000) + `"`)
	var next atomic.Int64
	b.ResetTimer()
	concurrently(benchWriters, func() {
		for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
			err := l.Write(context.Background(), here, func(tx ledger.Tx) error {
				_, err := tx.Append(ledger.Draft{Actor: "gitlab", Kind: "event.received", Subject: fmt.Sprint("object/", i), Body: body, Unique: fmt.Sprint("gitlab/", i)})
				return err
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOpenThrowAway is what a ledger costs tiphys run.
func BenchmarkOpenThrowAway(b *testing.B) {
	for b.Loop() {
		l, err := sqlite.Open(context.Background(), sqlite.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMillion measures pages of a list and the opening of a ledger with a million entries and rows.
func BenchmarkMillion(b *testing.B) {
	if !*long {
		b.Skip("SKIPPED: a ledger with a million rows; give -long")
	}
	path := filepath.Join(b.TempDir(), "ledger.db")
	fillMillion(b, path)
	l, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, q := range map[string]ledger.Query{
		"newest":              {Table: "run"},
		"rare state":          {Table: "run", States: []string{"Running"}},
		"two states":          {Table: "run", States: []string{"Running", "Failed"}},
		"common label":        {Table: "run", Labels: map[string]string{"repo": "r1"}},
		"label and state":     {Table: "run", Labels: map[string]string{"repo": "r1"}, States: []string{"Failed"}},
		"rare label, state":   {Table: "run", Labels: map[string]string{"commit": "c77"}, States: []string{"Failed"}},
		"common prefix":       {Table: "run", KeyPrefix: "default/"},
		"rare prefix":         {Table: "run", KeyPrefix: "default/run-99999"},
		"nothing with prefix": {Table: "run", KeyPrefix: "nowhere/"},
		"deep page":           {Table: "run", After: &ledger.Cursor{Time: at.Add(500_000 * time.Second), Key: ""}},
	} {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			for b.Loop() {
				if _, err := l.List(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			l, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
			if err != nil {
				b.Fatal(err)
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	if info, err := os.Stat(path); err == nil {
		b.ReportMetric(float64(info.Size()>>20), "MiB")
	}
}

func fillMillion(b *testing.B, path string) {
	l := open(b, sqlite.Options{Path: path, Synchronous: sqlite.Off})
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := 0; i < 1_000_000; {
		err := l.Write(context.Background(), here, func(tx ledger.Tx) error {
			for end := i + 2000; i < end; i++ {
				key := fmt.Sprintf("default/run-%d", i)
				if _, err := tx.Append(ledger.Draft{Actor: "system", Kind: "run.finished", Subject: "object/" + key, Body: benchState{}}); err != nil {
					return err
				}
				row := ledger.Row{
					Table: "run", Key: key, State: "Succeeded", Time: at.Add(time.Duration(i) * time.Second),
					Labels: map[string]string{"repo": fmt.Sprint("r", i%3), "commit": fmt.Sprint("c", i/10)},
					Body:   json.RawMessage(`{"padding":"` + benchPadding + `"}`),
				}
				switch {
				case i%10 == 0:
					row.State = "Failed"
				case i > 999_900:
					row.State = "Running"
				}
				if err := tx.Put(row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
