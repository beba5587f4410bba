package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// Messages of reports about what did not run.
const (
	stoppedEarly = "stopped before it ran"
	// deadlineMessage is Argo's.
	deadlineMessage = "Pod was active on the node longer than the specified deadline"
	notLaunched     = "the server went away before the pod ran: start it again"
)

// rememberStop notes that an attempt is to end as soon as it is started. One that was acknowledged is over. e.mu is held.
func (e *Executor) rememberStop(name string) error {
	if _, err := os.Stat(filepath.Join(e.o.Dir, "done", name)); err == nil {
		return nil
	}
	if err := protocol.WriteFile(filepath.Join(e.o.Dir, "stopped", name), nil, !e.o.NoSync); err != nil {
		return fmt.Errorf("remember that the pod was stopped: %w", err)
	}
	now := e.o.Now()
	if now.Sub(e.stopsSwept) > executor.StopMemory/24 {
		e.stopsSwept = now
		e.sweepStops()
	}
	return nil
}

// stoppedBefore reports whether an attempt was stopped before it was started.
func (e *Executor) stoppedBefore(name string) bool {
	info, err := os.Stat(filepath.Join(e.o.Dir, "stopped", name))
	return err == nil && e.o.Now().Sub(info.ModTime()) < executor.StopMemory
}

// neverRun ends an attempt that was stopped before it was started. The stop is remembered until that is on record.
func (a *attempt) neverRun() {
	a.finish(a.report(executor.Failed, executor.ReasonStopped, stoppedEarly))
	a.e.forgetStop(a.name)
}

// forgetStop ends the memory of a stop.
func (e *Executor) forgetStop(name string) {
	if err := os.Remove(filepath.Join(e.o.Dir, "stopped", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.o.Log.Warn("forget a stop", "attempt", name, "error", err)
	}
}

// sweepStops forgets stops of attempts that were never started.
func (e *Executor) sweepStops() {
	dir := filepath.Join(e.o.Dir, "stopped")
	entries, err := os.ReadDir(dir)
	if err != nil {
		e.o.Log.Warn("sweep stops", "error", err)
		return
	}
	for _, entry := range entries {
		if !e.stoppedBefore(entry.Name()) {
			e.forgetStop(entry.Name())
		}
	}
}
