package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// BenchmarkInline compares sizes up to which a body lives in its entry's row, for bodies of several sizes: what writing one costs in
// processor time and in the file, what it costs to walk past it without reading its body, and to read it. Half of a body is text of its
// own, as in the payloads of forges.
//
//	go test ./ledger/sqlite -run - -bench Inline -benchtime 2000x
func BenchmarkInline(b *testing.B) {
	for _, body := range []int{3 << 10, 12 << 10, 40 << 10} {
		for _, inline := range []int{4 << 10, 16 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("body=%dK/inline=%dK", body>>10, inline>>10), func(b *testing.B) { measureInline(b, body, inline) })
		}
	}
}

func measureInline(b *testing.B, size, inline int) {
	o := sqlite.WithInline(sqlite.Options{Path: filepath.Join(b.TempDir(), "ledger.db")}, inline)
	random := rand.New(rand.NewPCG(1, 2))
	bodies := make([]ledger.Encoded, b.N)
	for i := range bodies {
		var err error
		if bodies[i], err = ledger.Encode(payload(random, size)); err != nil {
			b.Fatal(err)
		}
	}
	each := func(name string, do func(l *sqlite.Ledger) error) {
		l, err := sqlite.Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		before := processorTime()
		if err := errors.Join(do(l), l.Close()); err != nil { // which puts all that is in the log into the file
			b.Fatal(err)
		}
		b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), name)
	}
	each("cpu-µs/write", func(l *sqlite.Ledger) error { return record(b, l, bodies) })
	info, err := os.Stat(o.Path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(b.N), "B/entry")
	each("cpu-µs/walk", func(l *sqlite.Ledger) error { return walk(b.Context(), l, true) })
	each("cpu-µs/read", func(l *sqlite.Ledger) error { return walk(b.Context(), l, false) })
	b.ReportMetric(0, "ns/op")
}

// record writes an entry for each body, from many writers.
func record(b *testing.B, l *sqlite.Ledger, bodies []ledger.Encoded) error {
	var next atomic.Int64
	var errs [benchWriters]error
	var writers atomic.Int64
	concurrently(benchWriters, func() {
		failed := &errs[writers.Add(1)-1]
		for i := next.Add(1); i <= int64(len(bodies)) && *failed == nil; i = next.Add(1) {
			subject := fmt.Sprintf("event/%d", i)
			*failed = l.Write(b.Context(), ledger.On(subject), func(tx ledger.Tx) error {
				_, err := tx.Append(ledger.Draft{Actor: "forge", Kind: "event.received", Subject: subject, Body: bodies[i-1]})
				return err
			})
		}
	})
	return errors.Join(errs[:]...)
}

func walk(ctx context.Context, l *sqlite.Ledger, bare bool) error {
	for after := int64(0); ; {
		es, err := l.Entries(ctx, ledger.EntryQuery{After: after, Limit: 500, Bare: bare})
		if err != nil || len(es) == 0 {
			return err
		}
		after = es[len(es)-1].Seq
	}
}

// payload is a value of about so many bytes, half of which says the same in every payload.
func payload(random *rand.Rand, size int) map[string]any {
	var commits []map[string]any
	for n := 0; n < size; n += 256 {
		var own strings.Builder
		for own.Len() < 128 {
			fmt.Fprintf(&own, "%016x", random.Uint64())
		}
		commits = append(commits, map[string]any{"id": own.String(), "author": map[string]string{"name": "Ada", "email": "ada@example.org"}, "modified": []string{"b.go", "c.go"}})
	}
	return map[string]any{"commits": commits}
}

// processorTime is what this process has used, in user and system mode.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
