package main

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/tiphys/tiphys/executor/fork"
)

// first is the process that is the first in a pod's namespaces, before it has its order.
type first struct {
	pid     int
	control *os.File
	outputs [][2]*os.File // standard output and standard error of each container, to be read
}

// podSpaces are the namespaces that every pod has of its own. Its network, if it has one of its own, is the server's to make.
const podSpaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

// takeFirst starts the pod's first process, or takes one that waits for a pod.
func (s *shim) takeFirst() (*first, error) {
	own, err := s.openSpaces()
	if err != nil {
		return nil, err
	}
	defer own.close()
	if s.spares != nil && len(s.spec.Containers) == 1 {
		if f := s.spares.take(); f != nil {
			if err := f.admit(own); err == nil {
				return f, nil
			}
			f.end() // somebody ended it while it waited
		}
	}
	f, err := startFirst(len(s.spec.Containers), s.spec.Root)
	if err == nil {
		err = f.admit(own)
	}
	return f, err
}

// startFirst makes the namespaces and the process. root is where the pod's roots will be mounted.
func startFirst(containers int, root string) (_ *first, err error) {
	var theirs []int
	f := &first{}
	defer func() {
		for _, fd := range theirs {
			_ = syscall.Close(fd)
		}
		if err != nil {
			f.close()
		}
	}()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make control connection: %w", err)
	}
	f.control = pollable(pair[0], "control")
	theirs = append(theirs, pair[1])
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	theirs = append(theirs, null)
	files := []uintptr{uintptr(null), uintptr(null), 2, uintptr(pair[1])}
	for range containers {
		var read [2]*os.File
		for n := range read {
			var fds [2]int
			if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
				return nil, fmt.Errorf("make log pipe: %w", err)
			}
			read[n] = pollable(fds[0], "log")
			theirs = append(theirs, fds[1])
			files = append(files, uintptr(fds[1]))
		}
		f.outputs = append(f.outputs, read)
	}
	f.pid, err = syscall.ForkExec("/proc/self/exe", []string{"tiphys-init", "init", root}, &syscall.ProcAttr{
		Env: []string{"GOMAXPROCS=1"}, Files: files,
		// The pod never outlives its shim: without the one that keeps its record it would be nobody's.
		Sys: &syscall.SysProcAttr{Cloneflags: podSpaces, Pdeathsig: syscall.SIGKILL, Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	return f, nil
}

func (f *first) close() {
	if f.control != nil {
		_ = f.control.Close()
	}
	for _, o := range f.outputs {
		_, _ = o[0].Close(), o[1].Close()
	}
}

// spares keeps one process ready for the next pod, so that its start is no part of that pod's. It sees no mounts
// that were made since, unless they are shared, and belongs to nobody: without an order it ends.
type spares struct {
	root   string
	mu     sync.Mutex
	ready  *first
	closed bool
}

// take gives the process that waits, or nil.
func (s *spares) take() *first {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.ready
	s.ready = nil
	return f
}

// fill starts a process if none waits.
func (s *spares) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready != nil || s.closed {
		return
	}
	// Without it the next pod starts its own, and says why if that fails, too.
	s.ready, _ = startFirst(1, s.root)
}

// close ends the process that waits.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.ready == nil {
		return
	}
	s.ready.end()
}

// end lets a process that has no order end, and takes it in.
func (f *first) end() {
	f.close()
	fork.Reap(f.pid)
}
