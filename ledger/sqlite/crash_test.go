package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// crashEnv makes the test binary the process that is killed: PATH,POINT,COUNT.
const crashEnv = "TIPHYS_TEST_LEDGER_CRASH"

func TestMain(m *testing.M) {
	if spec := os.Getenv(crashEnv); spec != "" {
		if err := writeUntilKilled(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// tally keeps a row per subject, so that rows can be held against entries after a crash.
type tally struct{}

func (tally) Tables() []string { return []string{"thing"} }

func (tally) Version() int { return 1 }

func (tally) Wants(kind string) bool { return kind == "thing.noted" }

func (tally) Apply(e ledger.Entry, rows ledger.Rows) error {
	return rows.Put(ledger.Row{Table: "thing", Key: e.Subject, Time: e.Time, Labels: map[string]string{"a": "b"}})
}

// writeUntilKilled writes from several goroutines and prints each entry once it is acknowledged.
func writeUntilKilled(spec string) error {
	part := strings.Split(spec, ",")
	count, err := strconv.Atoi(part[2])
	if err != nil {
		return err
	}
	var reached atomic.Int64
	l, err := sqlite.Open(context.Background(), sqlite.Options{Path: part[0], Projections: []ledger.Projection{tally{}}, Fault: func(point string) {
		if point == part[1] && reached.Add(1) == int64(count) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal arrives at any moment; nothing more must happen on this goroutine
		}
	}})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	concurrently(8, func() {
		for {
			var e ledger.Ref
			subject := fmt.Sprintf("object/%d/%d", os.Getpid(), rand.Uint64())
			err = l.Write(context.Background(), here, func(tx ledger.Tx) (err error) {
				if e, err = tx.Append(ledger.Draft{Actor: "a", Kind: "thing.noted", Subject: subject, Unique: subject, Body: strings.Repeat("x", rand.IntN(6000))}); err != nil {
					return err
				}
				return tx.Enqueue(ledger.Work{Queue: "q", Key: subject, Cause: e})
			})
			mu.Lock()
			fmt.Println(e.Seq(), subject)
			mu.Unlock()
			if _, err := l.Outbox().Claim(context.Background(), "q", 2, time.Hour); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
		}
	})
	return errors.New("the writers ended")
}

// TestCrash kills a writing process at named points and at any moment, again and again on one ledger:
// what was acknowledged must be there, and everything must agree.
func TestCrash(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	acknowledged := map[int64]string{}
	for round := range 3 {
		for _, point := range []string{"append", "before-commit", "after-commit", "outbox-claim", "any"} {
			killChild(t, path, point, rand.IntN(40)+5*round+1, acknowledged)
			checkAfterCrash(t, path, acknowledged)
		}
	}
	if len(acknowledged) < 100 {
		t.Errorf("only %d entries were acknowledged: the test shows nothing", len(acknowledged))
	}
}

// killChild runs the writer until it dies at the point, or at "any" moment after count acknowledgements.
func killChild(t *testing.T, path, point string, count int, acknowledged map[int64]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%s,%d", crashEnv, path, point, count))
	var stderr strings.Builder
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 1; lines.Scan(); n++ {
		var seq int64
		var subject string
		// A line that the kill cut short is not an acknowledgement.
		if m, _ := fmt.Sscanf(lines.Text(), "%d %s", &seq, &subject); m == 2 && strings.Count(subject, "/") == 2 {
			acknowledged[seq] = subject
		}
		if point == "any" && n == count {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); child.ProcessState.ExitCode() != -1 || ctx.Err() != nil {
		t.Fatalf("the writer was to be killed at %s: %v %v\n%s", point, err, ctx.Err(), &stderr)
	}
}

func checkAfterCrash(t *testing.T, path string, acknowledged map[int64]string) {
	t.Helper()
	l := open(t, sqlite.Options{Path: path, Projections: []ledger.Projection{tally{}}})
	defer l.Close()
	ctx := context.Background()
	report, err := l.Verify(ctx, ledger.Check{})
	if err != nil || len(report.Faults) > 0 {
		t.Fatalf("verify: %v %+v", err, report.Faults)
	}
	entries, err := l.Entries(ctx, ledger.EntryQuery{Limit: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	for seq, subject := range acknowledged {
		// A line cut short may name the start of a subject.
		if seq > int64(len(entries)) || !strings.HasPrefix(entries[seq-1].Subject, subject) {
			t.Fatalf("entry %d (%s) was acknowledged and is not there", seq, subject)
		}
	}
	rows, err := l.List(ctx, ledger.Query{Table: "thing", Labels: map[string]string{"a": "b"}, Limit: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Outbox().Release(ctx, l.Leases().Owner()); err != nil {
		t.Fatal(err)
	}
	work, err := l.Outbox().Claim(ctx, "q", 1_000_000, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Outbox().Release(ctx, l.Leases().Owner()); err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(entries) || len(work) != len(entries) {
		t.Fatalf("%d entries, %d rows, %d work items: want the same", len(entries), len(rows), len(work))
	}
}
