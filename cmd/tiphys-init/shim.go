package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/secret/mask"
)

// shim owns one pod: it is the parent of the pod's first process, keeps its logs, and leaves the record of how
// it ended. It is its own session and outlives the server that started it.
type shim struct {
	spec    protocol.Spec
	dir     string // the attempt's folder
	claimed int64  // the length of the shim's file without what is set aside in it
	hidden  *mask.Set
	orderer *peer
	spares  *spares // first processes that wait for a pod; nil if this shim has one pod only
	pid     int     // the pod's first process, in this shim's namespace
	first   *first
	toInit  *json.Encoder
	orderMu sync.Mutex
	logs    []*containerLog
	idLock  *os.File // holds the pod's range of user ids; nil without one

	mu          sync.Mutex
	record      protocol.Record
	state       []containerState
	ended       bool // the record is on disk
	ending      bool // nothing more is waited for
	stopping    bool
	gaveBack    bool // nothing of the pod has run, and whoever starts the attempt next has it
	nextExec    int
	execs       map[int]func(protocol.Event)
	notices     *notices // nil where the orderer hears of everything
	subscribers map[*peer]bool

	mainsDone chan struct{} // what the pod's end waits for has happened
	allDone   chan struct{} // every container has ended
	released  chan struct{}
	doneOnce  sync.Once
	allOnce   sync.Once
	freeOnce  sync.Once
}

type containerState struct {
	started, exited, skipped bool
	protocol.ContainerRecord
}

// shimMain is the shim of one pod. The attempt's folder is its working folder.
func shimMain() int {
	outlive()
	return runShim(newPeer(pollable(0, "orderer")), nil)
}

// outlive makes this process end when its work does: a pod's end is decided by orders and deadlines, not by what
// reaches the server's terminal.
func outlive() {
	debug.SetGCPercent(50)
	restful()
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGTERM, syscall.SIGQUIT)
}

// pollable wraps a descriptor that Go's poller can wait for, so that no thread waits in a read.
func pollable(fd int, name string) *os.File {
	_ = syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), name)
}

// runShim takes one pod's order and sees the pod to its end; the result is the exit code.
func runShim(orderer *peer, spares *spares) int {
	var order protocol.Request
	if err := orderer.in.Decode(&order); err != nil || order.Op != protocol.OpSpec || order.Spec == nil {
		return 1
	}
	s := &shim{
		spec: *order.Spec, dir: order.Spec.Dir, orderer: orderer, spares: spares, hidden: mask.New(order.Spec.Mask),
		execs: map[int]func(protocol.Event){}, subscribers: map[*peer]bool{},
		mainsDone: make(chan struct{}), allDone: make(chan struct{}), released: make(chan struct{}),
	}
	if err := s.claim(); err != nil {
		reason := ""
		if errors.Is(err, os.ErrExist) {
			reason = protocol.EventAborted
		} else if scarce(err) {
			reason = protocol.ReasonScarce
		}
		orderer.send(protocol.Event{Event: protocol.EventFailed, Reason: reason, Message: err.Error()})
		return 1
	}
	s.subscribers[orderer] = true
	if s.spec.Name != "" {
		s.notices = newNotices(s.spec.Name, len(s.spec.Containers))
		defer s.notices.close()
	}
	for _, c := range s.spec.Containers {
		s.state = append(s.state, containerState{ContainerRecord: protocol.ContainerRecord{Name: c.Name}})
	}
	if err := s.launch(orderer); err != nil {
		if scarce(err) || errors.Is(err, errNoNetwork) {
			s.gaveBack = true // nothing of it has run, and it will be ordered again
			orderer.send(protocol.Event{Event: protocol.EventFailed, Reason: protocol.ReasonScarce, Message: err.Error()})
		}
		s.fail(protocol.ReasonStart, err.Error())
	} else {
		go s.follow()
	}
	go s.serve(orderer, s.spec.Bound)
	s.await()
	return 0
}

// scarce reports whether an error says that this machine has too little of something at the moment.
func scarce(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.ENOBUFS, syscall.ENOSPC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// path is a file of the attempt's folder.
func (s *shim) path(name string) string { return filepath.Join(s.dir, name) }

// claim makes this shim the one that runs the attempt. A second one finds the file and goes away.
func (s *shim) claim() error {
	self, err := protocol.Self()
	if err != nil {
		return err
	}
	self.Notices, self.Files = s.spec.Name != "", true
	data, err := json.Marshal(self)
	if err != nil {
		return err
	}
	s.claimed = int64(len(data))
	data = append(data, bytes.Repeat([]byte(" "), protocol.Reserve)...)
	return protocol.CreateFile(s.path(protocol.ShimFile), data, !s.spec.NoSync)
}

func (s *shim) launch(orderer *peer) error {
	s.record.StartedAt = time.Now()
	if s.spares == nil {
		// A pod that ends with its orderer is nobody else's to speak to.
		if err := s.listen(); err != nil {
			return err
		}
	}
	if err := s.startInit(); err != nil {
		return err
	}
	if err := s.order(protocol.Request{Op: protocol.OpSpec, Spec: &s.spec}); err != nil {
		return fmt.Errorf("order pod: %w", err)
	}
	if s.spec.Network || s.spec.Hold {
		orderer.send(protocol.Event{Event: protocol.EventPID, PID: s.pid})
	}
	if !s.spec.Deadline.IsZero() {
		time.AfterFunc(max(time.Until(s.spec.Deadline), 0), func() { s.stop(protocol.ReasonDeadline, s.spec.Grace) })
	}
	if s.spares != nil {
		go s.spares.fill()
	}
	s.mu.Lock()
	early := s.stopping
	s.mu.Unlock()
	if early {
		// The order to stop came while there was nobody to pass it to.
		s.signal(syscall.SIGTERM)
	}
	return nil
}

// startInit gives the pod its first process, in namespaces of its own.
func (s *shim) startInit() error {
	if err := os.MkdirAll(s.path(protocol.LogFolder), 0o700); err != nil {
		return err
	}
	f, err := s.takeFirst()
	if err != nil {
		return err
	}
	s.first, s.pid, s.toInit = f, f.pid, json.NewEncoder(f.control)
	err = s.equip()
	for _, l := range s.logs {
		l.begin()
	}
	if err != nil {
		_ = syscall.Kill(s.pid, syscall.SIGKILL) // it holds the logs open, and has no order
	}
	return err
}

// equip gives the pod its logs, its place among the cgroups and among those that are killed when memory is out.
func (s *shim) equip() error {
	for i, c := range s.spec.Containers {
		l, err := newContainerLog(s.path(protocol.LogFolder), s.spec, c, s.hidden, s.first.outputs[i])
		if err != nil {
			return err
		}
		s.logs = append(s.logs, l)
	}
	for _, dir := range s.spec.Cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, s.pid), 0o600); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	if s.spec.OOMScore != 0 {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.pid), fmt.Append(nil, s.spec.OOMScore), 0); err != nil {
			return fmt.Errorf("have the pod killed before the server when memory is out: %w", err)
		}
	}
	return nil
}

// follow takes in what the pod's first process says.
func (s *shim) follow() {
	in := json.NewDecoder(s.first.control)
	for {
		var e protocol.Event
		if err := in.Decode(&e); err != nil {
			break
		}
		s.take(e)
	}
	s.fail("", "the first process of the pod ended unexpectedly")
}

func (s *shim) take(e protocol.Event) {
	switch e.Event {
	case protocol.EventFailed:
		s.fail(e.Reason, e.Message)
	case protocol.EventStarted:
		s.update(e, func(c *containerState) { c.started, c.StartedAt = true, e.Time })
		s.notices.tell(e)
		s.broadcast(e)
	case protocol.EventRead:
		s.mu.Lock()
		s.record.Missing, s.record.TooLarge, s.record.Reader = e.Missing, e.TooLarge, e.Reader
		s.record.Files = make(map[string]string, len(e.Files))
		for name, text := range e.Files {
			s.record.Files[name] = s.hidden.String(text)
		}
		s.mu.Unlock()
	case protocol.EventExited:
		s.update(e, func(c *containerState) {
			code := e.Code
			c.exited, c.Code, c.Message, c.FinishedAt = true, &code, e.Message, e.Time
			if !c.started {
				c.StartedAt = e.Time
			}
		})
		s.settle(e)
		s.broadcast(e)
	case protocol.EventSkipped:
		s.update(e, func(c *containerState) { c.skipped = true })
		s.settle(e)
	case protocol.EventExec:
		s.mu.Lock()
		answer := s.execs[e.Number]
		delete(s.execs, e.Number)
		s.mu.Unlock()
		if answer != nil {
			answer(e)
		}
	}
}

func (s *shim) update(e protocol.Event, change func(*containerState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.state {
		if s.state[i].Name == e.Container {
			change(&s.state[i])
		}
	}
}

// settle looks whether the pod has ended with this container.
func (s *shim) settle(e protocol.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mains, all := true, true
	for i, c := range s.spec.Containers {
		st := s.state[i]
		all = all && (st.exited || !st.started)
		mains = mains && (st.exited || st.skipped || c.Kind != protocol.KindMain)
		if c.Name != e.Container || e.Code == 0 {
			continue
		}
		if c.Kind == protocol.KindSidecar {
			continue
		}
		if s.record.Reason == "" && e.Reason != "" {
			s.record.Reason, s.record.Message = e.Reason, e.Message
		}
		if c.Kind == protocol.KindInit {
			if s.record.Message == "" {
				s.record.Message = fmt.Sprintf("init container %s: Error (exit code %d)", c.Name, e.Code)
			}
			mains = true
			break
		}
	}
	if mains {
		s.doneOnce.Do(func() { close(s.mainsDone) })
		if all {
			s.allOnce.Do(func() { close(s.allDone) })
		}
	}
}

// fail ends a pod that cannot run, or whose first process is gone.
func (s *shim) fail(reason, message string) {
	s.mu.Lock()
	if !s.ending && s.record.Reason == "" && s.record.Message == "" {
		s.record.Reason, s.record.Message = reason, message
	}
	s.mu.Unlock()
	s.doneOnce.Do(func() { close(s.mainsDone) })
	s.allOnce.Do(func() { close(s.allDone) })
}

// stop ends the pod: SIGTERM, and SIGKILL after the grace. The first reason stands.
func (s *shim) stop(reason string, grace time.Duration) {
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		return
	}
	first := !s.stopping
	s.stopping = true
	if first {
		s.record.Reason = reason
	}
	s.mu.Unlock()
	if grace > 0 {
		s.signal(syscall.SIGTERM)
	}
	time.AfterFunc(grace, func() {
		s.signal(syscall.SIGKILL)
		// A first process that does not answer any more takes its pod with it.
		time.AfterFunc(5*time.Second, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.ending && s.pid > 0 {
				_ = syscall.Kill(s.pid, syscall.SIGKILL)
			}
		})
	})
}

func (s *shim) signal(n syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toInit != nil && !s.ending {
		_ = s.order(protocol.Request{Op: protocol.OpSignal, Signal: int(n)})
	}
}

// order tells the pod's first process what to do.
func (s *shim) order(r protocol.Request) error {
	s.orderMu.Lock()
	defer s.orderMu.Unlock()
	return s.toInit.Encode(r)
}
