package runs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// BenchmarkRestart loads a run of so many nodes after a restart, from its start and from what was kept of it.
//
//	go test ./control/runs -run - -bench Restart -benchtime 3x -timeout 30m
func BenchmarkRestart(b *testing.B) {
	for _, n := range []int{2000, 20_000} {
		d := newDock(b, b.TempDir(), scripted.Options{Auto: true})
		d.reopen(func(o *runs.Options) {})
		d.submit(wide(n))
		for {
			changed := d.ledger.Changed() // before the look: what comes after it is not missed
			if d.nodePhase("wide", "ask") == workflow.Running {
				break
			}
			select {
			case <-changed:
			case <-time.After(time.Minute):
				b.Fatal("nothing happens")
			}
		}
		subject := workflow.Subject("default", "wide")
		snap := d.snapshot(subject, 1)
		es, err := d.ledger.Entries(b.Context(), ledger.EntryQuery{Subject: subject, After: snap.Seq, Limit: 1 << 20})
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%d nodes: kept in %d KiB, %d entries after it", n, len(snap.Body)>>10, len(es))
		for _, way := range []string{"kept", "start"} {
			if way == "start" {
				if err := d.ledger.Snapshots().Drop(b.Context(), subject); err != nil {
					b.Fatal(err)
				}
			}
			b.Run(fmt.Sprintf("%d/%s", n, way), func(b *testing.B) {
				for range b.N {
					b.StopTimer()
					d.reopen(func(o *runs.Options) { o.Keep = -1 })
					b.StartTimer()
					// A command that is refused takes the state and no more.
					if err := d.runs.Control(b.Context(), "default", "wide", workflow.Control{Verb: workflow.Retry}); err == nil {
						b.Fatal("a run that goes on was retried")
					}
				}
			})
		}
		d.close()
	}
}
