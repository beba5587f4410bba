package local

import (
	"errors"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper takes in shims that have ended. One goroutine waits for all of them: to wait for each would cost a thread and a
// descriptor for as long as its pod lives.
type reaper struct {
	signals chan os.Signal
	stop    chan struct{}
	done    chan struct{}

	mu       sync.Mutex
	children map[int]func() // what to do when a process has ended
}

func newReaper() *reaper {
	r := &reaper{
		signals: make(chan os.Signal, 1), stop: make(chan struct{}), done: make(chan struct{}), children: map[int]func(){},
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.run()
	return r
}

// add has a child of this process taken in when it ends, which it may have done already.
func (r *reaper) add(pid int, ended func()) {
	r.mu.Lock()
	r.children[pid] = ended
	r.mu.Unlock()
	select {
	case r.signals <- unix.SIGCHLD:
	default: // one is on its way
	}
}

func (r *reaper) run() {
	defer close(r.done)
	for {
		select {
		case <-r.stop:
			return
		case <-r.signals:
			r.reap()
		}
	}
}

// reap asks each for its end: half a microsecond each, where several ends are asked for at once.
func (r *reaper) reap() {
	r.mu.Lock()
	pids := slices.Collect(maps.Keys(r.children))
	r.mu.Unlock()
	for _, pid := range pids {
		r.take(pid)
	}
}

// take takes in one child if it has ended. From the moment when it is taken in its number may be another child's, which is added when
// the lock is free.
func (r *reaper) take(pid int) {
	if ended := r.collect(pid); ended != nil {
		ended()
	}
}

func (r *reaper) collect(pid int) (ended func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended = r.children[pid]
	for ended != nil {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if got == 0 && err == nil {
			return nil
		}
		break
	}
	delete(r.children, pid)
	return ended
}

func (r *reaper) close() {
	signal.Stop(r.signals)
	close(r.stop)
	<-r.done
}
