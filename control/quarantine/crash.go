package quarantine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// crashFile of the data folder has what the runtime says when this process ends by its own fault, previousFile what it said of
	// the process before.
	crashFile    = "crash.log"
	previousFile = "crash.previous.log"
	// maxCrash bounds what is read of it, in bytes: the reason comes first.
	maxCrash = 64 << 10
)

// CatchCrashes has the runtime write what it says when this process ends by its own fault, and gives what it wrote of the process
// before: empty if that one ended in another way. The caller has the lock of the data folder.
func CatchCrashes(folder string) (crash string, err error) {
	path, previous := filepath.Join(folder, crashFile), filepath.Join(folder, previousFile)
	if crash, err = ownFault(path); err != nil {
		return "", err
	}
	if crash != "" {
		if err := os.Rename(path, previous); err != nil {
			return "", fmt.Errorf("keep the report of a crash: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return "", fmt.Errorf("open the report of crashes: %w", err)
	}
	defer func() { _ = f.Close() }() // the runtime has a descriptor of its own
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return "", fmt.Errorf("catch crashes: %w", err)
	}
	return crash, nil
}

// Report is where the report of the last crash is kept.
func Report(folder string) string { return filepath.Join(folder, previousFile) }

// signal begins the report of a process that was sent one. Of what it calls a fatal error the runtime writes the stacks only.
const signal = "SIG"

// ownFault reads the report of a crash; empty if there is none, or if it says that a signal was sent.
func ownFault(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the report of a crash: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxCrash))
	if err != nil {
		return "", fmt.Errorf("read the report of a crash: %w", err)
	}
	if strings.HasPrefix(string(data), signal) {
		return "", nil
	}
	return string(data), nil
}

// reason says in one line why a process ended, by the report of its crash.
func reason(crash string) string {
	for line := range strings.SplitSeq(crash, "\n") {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line[:min(len(line), 300)]
		}
	}
	switch {
	case strings.Contains(crash, "runtime.newstack("):
		return "fatal error: stack overflow"
	case strings.Contains(crash, "runtime.(*mheap)"):
		return "fatal error: out of memory"
	}
	return "a fatal error of the runtime: see " + previousFile + " in the data folder"
}

// look is how often the memory is looked at during a trial.
const look = 5 * time.Millisecond

// heap is how much of the memory is taken by objects, in bytes.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// busy is how much processor time this process has used.
func busy() time.Duration {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// watch ends the process, as the runtime would, if a trial takes too much memory or time: nobody can take back what computes. Garbage is no
// memory, and to wait for a processor that others have is no time.
func (b *Book) watch(item Item) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	memory, began, worked := heap(), time.Now(), busy()
	ticks := time.NewTicker(look)
	go func() {
		defer close(ended)
		defer ticks.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticks.C:
			}
			if time.Since(began) > b.o.Time && busy()-worked > b.o.Time/2 {
				panic(fmt.Sprintf("%s took longer than %s while it was tried alone", item, b.o.Time)) //nolint:forbidigo // it is to end the process
			}
			if heap() <= memory+b.o.Memory {
				continue
			}
			if runtime.GC(); heap() > memory+b.o.Memory {
				panic(fmt.Sprintf("%s took more than %d MiB of memory while it was tried alone", item, b.o.Memory>>20)) //nolint:forbidigo // likewise
			}
		}
	}()
	return func() { close(done); <-ended }
}
