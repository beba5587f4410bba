package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/fork"
	"github.com/tiphys/tiphys/executor/protocol"
)

// Descriptors that the shim hands to the pod's first process: the control connection, then standard output and
// standard error of each container.
const (
	controlFD  = 3
	firstLogFD = 4
)

// pod is the first process of a pod: it makes the file systems, starts the containers, reaps what ends, and
// stays in the namespaces so that commands can be run in them.
type pod struct {
	spec       protocol.Spec
	own        spaces // the network until that is entered
	out        *json.Encoder
	outMu      sync.Mutex
	base       string // a small file system in memory that holds the roots
	empty      string
	ready      string // where mounts are that ahead made and nobody has taken; empty if there are none
	memory     string
	shm        string
	machine    []machineMount
	points     []string // all mount points of this machine
	namespaced bool     // this is a user namespace and not the machine itself
	alone      bool     // and root is the only user that there is in it
	shown      int      // how many folders of it are shown as overlays of their own
	volumes    map[string]string
	inside     map[string]bool // volumes that have the ids of the pod on disk
	live       map[string]*liveFiles
	liveMu     sync.Mutex
	chroot     bool
	begun      []bool
	mains      atomic.Int32 // main containers that have not ended

	mu       sync.Mutex // held while a process is started, so that it is known before it is reaped
	running  map[int]*process
	stopping bool
	halted   chan struct{} // closed with the first signal
	execs    sync.WaitGroup
}

// process is a child: a container's first process, or a command run in a container.
type process struct {
	container int
	ended     chan int // the exit code
}

// initMain is the first process of a pod whose roots are mounted over base.
func initMain(base string) int {
	// What a container is started with shares this process's memory for a moment: nobody may reach it through that.
	_, _, _ = syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0)
	control := pollable(controlFD, "control")
	syscall.CloseOnExec(controlFD)
	p := &pod{out: json.NewEncoder(control), running: map[int]*process{}, halted: make(chan struct{})}
	failed := p.ahead(base)
	warmUp()
	keepThreads()
	fds, err := receive(control)
	if err != nil {
		return 1
	}
	p.own = spaces{-1, -1}
	if len(fds) > 0 {
		p.own.network = fds[0]
	}
	if len(fds) > 1 {
		p.own.users = fds[1]
	}
	in := json.NewDecoder(control)
	var order protocol.Request
	if err := in.Decode(&order); err != nil || order.Op != protocol.OpSpec || order.Spec == nil {
		return 1
	}
	p.spec = *order.Spec
	if failed != nil || base != p.spec.Root {
		failed = p.afresh(p.spec.Root)
	}
	p.begun = make([]bool, len(p.spec.Containers))
	for i := range p.spec.Containers {
		syscall.CloseOnExec(firstLogFD + 2*i)
		syscall.CloseOnExec(firstLogFD + 2*i + 1)
	}
	if failed == nil {
		failed = p.prepare()
	}
	if err := failed; err != nil {
		p.send(protocol.Event{Event: protocol.EventFailed, Reason: protocol.ReasonStart, Message: err.Error()})
		return 1
	}
	p.reap()
	quit := make(chan struct{})
	go p.obey(in, quit)
	p.runContainers()
	<-quit
	p.killAll(syscall.SIGKILL)
	return 0
}

// warmUp has the tables of encoding/json made that an order and an answer need, while nobody waits for this process.
func warmUp() {
	order, err := json.Marshal(protocol.Request{Spec: &protocol.Spec{
		Volumes:    []protocol.Volume{{Files: []protocol.File{{}}}},
		Containers: []protocol.Container{{Mounts: []protocol.Mount{{}}}},
	}})
	if err == nil {
		err = json.Unmarshal(order, &protocol.Request{})
	}
	if err == nil {
		_, _ = json.Marshal(protocol.Event{})
	}
}

func (p *pod) send(e protocol.Event) {
	p.outMu.Lock()
	defer p.outMu.Unlock()
	e.Time = time.Now()
	// If the shim is gone, so is this process: the kernel kills it with its parent.
	_ = p.out.Encode(e)
}

// obey carries out what the shim asks for; the end of the connection is the end of the pod.
func (p *pod) obey(in *json.Decoder, quit chan struct{}) {
	defer close(quit)
	for {
		var r protocol.Request
		if err := in.Decode(&r); err != nil {
			return
		}
		switch r.Op {
		case protocol.OpSignal:
			p.signal(syscall.Signal(r.Signal))
		case protocol.OpExec:
			p.execs.Add(1)
			go p.exec(r)
		case protocol.OpFiles:
			p.execs.Add(1)
			go p.refresh(r)
		case protocol.OpQuit:
			return
		}
	}
}

// signal reaches every container's first process; SIGKILL reaches all processes of the pod. After a signal no
// further container is started.
func (p *pod) signal(s syscall.Signal) {
	p.mu.Lock()
	if !p.stopping {
		p.stopping = true
		close(p.halted)
	}
	for pid := range p.running {
		_ = syscall.Kill(pid, s)
	}
	p.mu.Unlock()
	if s == syscall.SIGKILL {
		p.killAll(s)
	}
}

// killAll signals every process of the pod but this one.
func (p *pod) killAll(s syscall.Signal) { _ = syscall.Kill(-1, s) }

// reap collects ended children, orphans too, and tells who waits for them.
func (p *pod) reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			p.collect()
		}
	}()
}

func (p *pod) collect() {
	for {
		var st syscall.WaitStatus
		p.mu.Lock()
		pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil)
		proc := p.running[pid]
		delete(p.running, pid)
		p.mu.Unlock()
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if proc != nil {
			proc.ended <- exitCode(st)
		}
	}
}

// exitCode is the shell's: 128 and the signal for a process that a signal ended.
func exitCode(st syscall.WaitStatus) int {
	if st.Signaled() {
		return 128 + int(st.Signal())
	}
	return st.ExitStatus()
}

// prepare makes the file systems and enters them.
func (p *pod) prepare() error {
	_, machine := fork.MachineUsers()
	p.namespaced, p.alone = !machine, !machine && alone()
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Sethostname([]byte(p.spec.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := p.boundProcesses(); err != nil {
		return err
	}
	if p.spec.Network {
		if err := p.enterNetwork(); err != nil {
			return err
		}
	}
	for _, c := range p.spec.Containers {
		if c.Host && p.machine == nil {
			if err := p.machineMounts(); err != nil {
				return err
			}
		}
	}
	if err := p.prepareVolumes(p.base); err != nil {
		return err
	}
	for i, c := range p.spec.Containers {
		if err := p.buildRoot(i, c, p.rootOf(i)); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return p.enter()
}

// enterNetwork has this process, and all that it starts, in the network that came with the order.
func (p *pod) enterNetwork() error {
	if p.own.network < 0 || p.spec.Users != nil && p.own.users < 0 {
		return errors.New("the pod's namespaces did not come with its order")
	}
	if err := joinNetwork(p.own.network); err != nil {
		return err
	}
	return loopbackUp()
}

func (p *pod) rootOf(i int) string { return filepath.Join(p.base, "c"+strconv.Itoa(i)) }

// enter leaves this machine's file systems behind. A single container's root becomes the pod's; several are
// entered by chroot, and all that is outside of such a root is the pod's other roots.
func (p *pod) enter() error {
	root := p.rootOf(0)
	if p.chroot = len(p.spec.Containers) > 1; p.chroot {
		root = p.base
	}
	if err := syscall.Chdir(root); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leave old root: %w", err)
	}
	if err := syscall.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	p.base = "/"
	return nil
}

// chrootOf is the folder that container i has as its root, or "" where the pod's own root is.
func (p *pod) chrootOf(i int) string {
	if p.chroot {
		return p.rootOf(i)
	}
	return ""
}
