package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// The test program is its own server: with these it works on items in a data folder and ends.
const (
	envFolder = "QUARANTINE_TEST_FOLDER"
	envMode   = "QUARANTINE_TEST_MODE"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(envFolder); folder != "" {
		if err := work(context.Background(), folder, os.Getenv(envMode)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func openLedger(ctx context.Context, folder string) (*sqlite.Ledger, error) {
	return sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(folder, "ledger.db"), Projections: []ledger.Projection{quarantine.Projection{}}})
}

var bad = quarantine.Item{Kind: quarantine.KindEvent, Key: "default/bad@7"}

func good(n int) quarantine.Item {
	return quarantine.Item{Kind: quarantine.KindEvent, Key: fmt.Sprintf("default/good@%d", n)}
}

// work is a server: it works on twenty good items and a bad one, side by side, and writes down what it has done.
func work(ctx context.Context, folder, mode string) error {
	crash, err := quarantine.CatchCrashes(folder)
	if err != nil {
		return err
	}
	l, err := openLedger(ctx, folder)
	if err != nil {
		return err
	}
	book, err := quarantine.Open(ctx, quarantine.Options{Folder: folder, Ledger: l, Memory: 64 << 20, Time: 300 * time.Millisecond}, crash)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var loop, all sync.WaitGroup
	loop.Go(func() { _ = book.Run(ctx) })
	one := func(item quarantine.Item, compute func()) {
		for tries := 0; tries < 10; tries++ { // a panic is tried again, as rooms do
			err := book.Try(item, func() error { compute(); return nil })
			if err == nil || quarantine.IsQuarantined(err) {
				return
			}
		}
	}
	all.Go(func() { one(bad, func() { misbehave(mode) }) })
	for n := range 20 {
		all.Go(func() {
			one(good(n), func() {
				if err := os.WriteFile(filepath.Join(folder, fmt.Sprint("done-", n)), nil, 0o600); err != nil {
					panic(err)
				}
			})
		})
	}
	all.Wait()
	for len(book.List()) == 0 && mode == "panic" { // until it is on record, the test's own limit is the deadline
		<-time.After(time.Millisecond)
	}
	cancel()
	loop.Wait()
	return errors.Join(book.Close(), l.Close())
}

var sink [][]byte

func deep(n int) int {
	if n < 0 {
		return 0
	}
	return deep(n+1) + 1
}

// misbehave does what no process survives, or waits to be killed.
func misbehave(mode string) {
	switch mode {
	case "stack":
		debug.SetMaxStack(1 << 20)
		sink = append(sink, make([]byte, deep(0)))
	case "goroutine":
		go func() { panic("nobody recovers this") }()
		select {}
	case "panic":
		panic("nobody bears this")
	case "memory":
		if _, err := os.Stat(filepath.Join(os.Getenv(envFolder), "first")); err != nil {
			kill("first") // as the kernel does when memory is short
		}
		for {
			sink = append(sink, make([]byte, 1<<20))
		}
	case "spin":
		if _, err := os.Stat(filepath.Join(os.Getenv(envFolder), "first")); err != nil {
			kill("first")
		}
		for n := 0; ; n++ {
		}
	case "killed":
		kill("")
	}
}

func kill(mark string) {
	if mark != "" {
		if err := os.WriteFile(filepath.Join(os.Getenv(envFolder), mark), nil, 0o600); err != nil {
			panic(err)
		}
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// run starts the server once, and gives what it said if it did not end well.
func run(t *testing.T, folder, mode string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envFolder+"="+folder, envMode+"="+mode)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// quarantined is what a new server finds quarantined.
func quarantined(t *testing.T, folder string) []quarantine.Quarantined {
	t.Helper()
	l, err := openLedger(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	book, err := quarantine.Open(t.Context(), quarantine.Options{Folder: folder, Ledger: l}, "")
	if err != nil {
		t.Fatal(err)
	}
	list := book.List()
	if err := book.Close(); err != nil {
		t.Error(err)
	}
	return list
}

// Whatever an item does to the process, the server works on all others, and leaves the item out after two trials.
func TestAPoisonedItemIsQuarantined(t *testing.T) {
	for mode, why := range map[string]string{
		"stack": "fatal error: stack overflow", "goroutine": "panic: nobody recovers this", "panic": "panic: nobody bears this",
		"memory": "took more than 64 MiB of memory while it was tried alone", "spin": "took longer than 300ms while it was tried alone",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			starts, err := 0, errors.New("never started")
			for ; err != nil && starts < 6; starts++ {
				err = run(t, folder, mode)
			}
			if err != nil {
				t.Fatalf("it never came up: %v", err)
			}
			// One death that makes it suspect, and two in trials; what only panics can be tried without an end.
			if want := map[bool]int{true: 1, false: 4}[mode == "panic"]; starts != want {
				t.Errorf("%d starts, want %d", starts, want)
			}
			for n := range 20 {
				if _, err := os.Stat(filepath.Join(folder, fmt.Sprint("done-", n))); err != nil {
					t.Errorf("item %d was not worked on: %v", n, err)
				}
			}
			list := quarantined(t, folder)
			if len(list) != 1 || list[0].Item != bad || list[0].Deaths != 2 || !strings.Contains(list[0].Why, why) {
				t.Errorf("%#v", list)
			}
		})
	}
}

// However often a server is killed, nothing is quarantined: the kill says nothing about what was in hand.
func TestKillsQuarantineNothing(t *testing.T) {
	folder := t.TempDir()
	for range 8 {
		if err := run(t, folder, "killed"); err == nil {
			t.Fatal("it was not killed")
		}
	}
	if list := quarantined(t, folder); len(list) > 0 {
		t.Errorf("%#v", list)
	}
	if err := run(t, folder, ""); err != nil {
		t.Errorf("it does not go on: %v", err)
	}
}

// A signal that has the runtime tell all is the operator's, too.
func TestAReportOfASignalIsNoFault(t *testing.T) {
	for text, own := range map[string]bool{
		"": false,
		"SIGQUIT: quit\nPC=0x1 m=0\n\ngoroutine 1": false,
		"SIGABRT: abort\nPC=0x1":                   false,
		"panic: x\n\ngoroutine 1":                  true,
		"runtime: goroutine stack exceeds 1000000000-byte limit\nfatal error: stack overflow": true,
		"fatal error: runtime: cannot allocate memory":                                        true,
	} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "crash.log"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		crash, err := quarantine.CatchCrashes(folder)
		if err != nil || (crash != "") != own {
			t.Errorf("%q: %q, %v", text, crash, err)
		}
		if err := debug.SetCrashOutput(nil, debug.CrashOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// desk is a room.
type desk struct{ again, dropped []quarantine.Item }

func (d *desk) Again(_ context.Context, i quarantine.Item, _ string) error {
	d.again = append(d.again, i)
	return nil
}

func (d *desk) Drop(_ context.Context, i quarantine.Item, _ string) error {
	d.dropped = append(d.dropped, i)
	return nil
}

// What was released may be worked on again; if it is as bad as before it is quarantined again, after two trials.
func TestRetryAndDrop(t *testing.T) {
	folder := t.TempDir()
	l, err := openLedger(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	book, err := quarantine.Open(t.Context(), quarantine.Options{Folder: folder, Ledger: l}, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { _ = book.Run(ctx) })
	defer loop.Wait()
	defer cancel()
	broken := true
	try := func() error {
		return book.Try(bad, func() error {
			if broken {
				panic("broken")
			}
			return nil
		})
	}
	for n := range 3 {
		if err := try(); quarantine.IsQuarantined(err) != (n == 2) {
			t.Fatalf("try %d: %v", n+1, err)
		}
	}
	err = try()
	if failure.KindOf(err) != failure.Stalled || !strings.Contains(failure.HintOf(err), "tiphys quarantine retry 'event/default/bad@7'") {
		t.Errorf("%v (%s)", err, failure.HintOf(err))
	}
	onRecord := func() bool {
		rows, err := l.List(t.Context(), ledger.Query{Table: quarantine.Table})
		if err != nil {
			t.Fatal(err)
		}
		return len(rows) == 1
	}
	for !onRecord() {
		<-time.After(time.Millisecond)
	}
	room := &desk{}
	rooms := quarantine.Rooms{quarantine.KindEvent: room}
	if err := book.Retry(t.Context(), rooms, good(1), "user:ada"); failure.KindOf(err) != failure.NotFound {
		t.Errorf("an item that is not quarantined: %v", err)
	}
	if err := book.Retry(t.Context(), rooms, bad, "user:ada"); err != nil || !slices.Equal(room.again, []quarantine.Item{bad}) {
		t.Errorf("%v, %v", err, room.again)
	}
	if diff := cmp.Diff([]quarantine.Item{bad}, book.Suspects()); diff != "" {
		t.Errorf("it is to be tried alone:\n%s", diff)
	}
	broken = false
	for n := range 1000 {
		if len(book.Suspects()) == 0 {
			t.Errorf("cleared by %d trials", n)
		}
		if err := try(); err != nil {
			t.Fatalf("mended: %v", err)
		}
	}
	if list := book.Suspects(); len(list) > 0 {
		t.Errorf("still to be tried alone: %v", list)
	}
	broken = true
	for range 3 {
		_ = try()
	}
	for !onRecord() {
		<-time.After(time.Millisecond)
	}
	if err := book.Drop(t.Context(), rooms, bad, "user:ada"); err != nil || !slices.Equal(room.dropped, []quarantine.Item{bad}) {
		t.Errorf("%v, %v", err, room.dropped)
	}
	if len(book.List())+len(book.Suspects()) > 0 || onRecord() {
		t.Errorf("left: %v, %v", book.List(), book.Suspects())
	}
}

// BenchmarkTry is what it costs to have an item on record, beside a call without a book.
func BenchmarkTry(b *testing.B) {
	folder := b.TempDir()
	l, err := openLedger(b.Context(), folder)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	book, err := quarantine.Open(b.Context(), quarantine.Options{Folder: folder, Ledger: l}, "")
	if err != nil {
		b.Fatal(err)
	}
	for name, of := range map[string]*quarantine.Book{"book": book, "none": nil} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := of.Try(bad, func() error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if err := book.Close(); err != nil {
		b.Fatal(err)
	}
}
