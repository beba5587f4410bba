// Package local executes pods on this machine with Linux namespaces and no daemon.
//
// Every pod has a shim (cmd/tiphys-init), a small process in a session of its own that is the parent of the pod,
// owns its logs and leaves the record of its end. The executor orders pods and attaches to their shims; it is
// never their keeper, so it may die and come back at any moment. What it knows is in folders:
//
//	live/NAME   an attempt that has not been acknowledged; its creation is the attempt's one start
//	done/NAME   the record and logs of an acknowledged attempt
//	stopped/NAME an attempt that was stopped before it was started
//	trash/NAME  working files on their way out
//	set-aside/NAME an attempt that could not be read
//	root        a mount point: what pods mount there only they see
//	volumes/    what PersistentVolumeClaims stand for
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/secret"

	corev1 "k8s.io/api/core/v1"
)

// Defaults of [Options].
const (
	DefaultGrace    = 30 * time.Second // Kubernetes' terminationGracePeriodSeconds
	DefaultLogLimit = 1 << 30          // bytes of one container's log
)

// rootFolder is where pods mount their roots, each where only itself sees them.
const rootFolder = "root"

// Image is an unpacked image.
type Image struct {
	// Layers are folders of this machine, the topmost first, with whiteouts as overlayfs has them.
	Layers []string
	// Entrypoint, Cmd, Env, User and WorkingDir are those of the image's configuration.
	Entrypoint, Cmd, Env []string
	User, WorkingDir     string
}

// Images provides root file systems.
type Images interface {
	// Rootfs unpacks an image, or finds it unpacked. credentials are Secrets of type
	// kubernetes.io/dockerconfigjson, in order of preference.
	Rootfs(ctx context.Context, image string, pull corev1.PullPolicy, credentials []secret.Value) (Image, error)
}

// Options say where and how an [Executor] works.
type Options struct {
	// Processes is how many processes and threads a pod may have, on Linux 6.14 and newer; DefaultProcesses if 0, no bound if negative.
	Processes int
	// Dir is the state folder. One executor at a time owns it.
	Dir string
	// Init is the tiphys-init binary (initbin.Path).
	Init string
	// Mover moves artifacts; nil if pods have none.
	Mover artifact.Mover
	// Images provides root file systems; nil if all pods are host views.
	Images Images
	// Layers is the folder of the layers that Images gives, where their file system can be asked what it can do; Dir if empty.
	Layers string
	// Volumes is the folder that Pod.Claims are relative to; Dir/volumes if empty.
	Volumes string
	// Socket is a folder that every pod sees at /run/tiphys; none if empty.
	Socket string
	// Network configures the pods' own network.
	Network Network
	// Hide lists folders that host views do not show, beside Dir.
	Hide []string
	// Apart has host views kept from the rest of this machine, as steps on a server are: each has a network of its own, unless its pod says hostNetwork,
	// and sees no user's credentials and no data folder of another server.
	Apart bool
	// HostPath is PATH in host views; the usual folders if empty.
	HostPath string
	// HostFiles brings files or folders of this machine into host views, by path in the view.
	HostFiles map[string]string
	// HostCommand gives an image's entry point and command to host views, which have no image.
	HostCommand func(image string) (entrypoint, cmd []string)
	// Grace is the time between SIGTERM and SIGKILL where the pod does not say; DefaultGrace if 0.
	Grace time.Duration
	// LogLimit is the most that is kept of one container's log, in bytes; DefaultLogLimit if 0, unlimited if negative.
	LogLimit int64
	// NoSync leaves out fsync: for state that is thrown away.
	NoSync bool
	// Bound ends pods with this process, as `tiphys run` wants it. One process is then the shim of all of them.
	Bound bool
	// Scratch is a folder on disk for what pods write and for long logs, where Dir is in memory; Dir if empty.
	Scratch string
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Log takes what is nobody's report; discarded if nil.
	Log *slog.Logger
	// Fault is called at named points, for crash tests: "pod-record" (on record, nothing begun),
	// "network-lease" (a pair of interfaces is made and not on record), "shim-start" (prepared),
	// "shim-order" (the shim waits for its order), "shim-launch" (it has it), "exit-record" (the pod has ended),
	// "artifacts-saved", "report-record" (the final report is kept), and "acknowledge", "acknowledge-half", "acknowledged";
	// "network-inherited" each time that Close waits for the network of a killed executor's pod.
	Fault func(point string)
}

// Executor executes pods on this machine, in two ways: [Executor.Container] and [Executor.Host].
type Executor struct {
	o        Options
	lock     *os.File
	host     string
	hidden   []string // what host views do not show
	cgroups  cgroups
	profiles profiles
	memory   int64 // of this machine in bytes; 0 if it cannot be told
	network  *network
	users    *users
	program  program
	// descriptors is the limit on open files that this process was started with, which its pods have.
	descriptors func() *protocol.Descriptors
	ctx         context.Context
	cancel      context.CancelFunc
	work        sync.WaitGroup
	mu          sync.Mutex
	trash       *trash
	keeper      *keeper // nil unless pods are bound
	attempts    map[executor.ID]*attempt
	// container and hostView are the two ways in.
	container, hostView *View
	names               map[string]*attempt // those of attempts, by folder
	troubles            map[string]string   // what keeps attempts from their ends, by folder
	looked              map[*attempt]bool   // see watch
	notices             *net.UnixConn       // nil if pods are bound
	reaper              *reaper
	launching           chan struct{}
	hosts               map[string][]string
	// hostFiles keeps a pod that starts from missing names that are set meanwhile.
	hostFiles sync.Mutex
	// claims is held while a claim is made or removed.
	claims     sync.Mutex
	stopsSwept time.Time
	closed     bool
}

// New opens the state folder, attaches to the pods that still run, and reports those that ended meanwhile.
func New(o Options) (*Executor, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	for _, dir := range []string{"live", "done", "trash", rootFolder, "stopped"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("open local executor: %w", err)
		}
	}
	if err := os.MkdirAll(o.Volumes, 0o711); err != nil {
		return nil, fmt.Errorf("open local executor: %w", err)
	}
	spread(filepath.Join(o.Dir, "live"))
	if o.Scratch != "" {
		if err := os.MkdirAll(o.Scratch, 0o711); err != nil {
			return nil, fmt.Errorf("open local executor: %w", err)
		}
		spread(o.Scratch)
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	memory := machineResource("memory")
	users := newUsers(usersFolders(o), o.Log)
	ctx, cancel := context.WithCancel(context.Background())
	e := &Executor{
		o: o, lock: lock, host: host, hidden: outermost(append([]string{o.Dir, o.Scratch}, o.Hide...)), ctx: ctx, cancel: cancel,
		trash: newTrash(filepath.Join(o.Dir, "trash"), o.Log), attempts: map[executor.ID]*attempt{}, names: map[string]*attempt{}, troubles: map[string]string{}, looked: map[*attempt]bool{},
		reaper: newReaper(), launching: make(chan struct{}, launching), cgroups: findCgroups(""), memory: memory.Value(), network: newNetwork(o.Network, o.Dir, users, o.Log, o.Fault),
		users: users, program: openProgram(o.Init), descriptors: sync.OnceValue(func() *protocol.Descriptors { return inheritedDescriptors(o.Init) }),
	}
	e.container, e.hostView = &View{Executor: e, reports: newQueue()}, &View{Executor: e, host: true, reports: newQueue()}
	if o.Bound {
		e.keeper = &keeper{program: e.program, dir: o.Dir, root: filepath.Join(o.Dir, rootFolder)}
	}
	e.sweepClaims()
	e.sweepStops()
	if !o.Bound {
		if err := e.hear(); err != nil {
			_ = e.Close()
			return nil, err
		}
	}
	if err := e.scan(); err != nil {
		_ = e.Close()
		return nil, err
	}
	if !o.Bound { // who is bound to its process has a folder of its own, and no predecessor
		e.network.inherit()
	}
	if !o.Bound {
		// What shims have told since the socket is there waits in it: before, there would be nobody to know whom they mean.
		e.spawn(e.listenForNotices)
		e.spawn(e.look)
	}
	if e.keeper != nil {
		// The first pod says why it does not start.
		e.spawn(func() { _ = e.keeper.start() })
		// The tables that the record of a pod is written by are made while others are still at work, not while the first pod waits.
		e.spawn(func() { _, _ = json.Marshal(podRecord{}) })
	}
	if o.Images != nil {
		e.spawn(func() { users.say(ctx) })
	}
	e.spawn(func() { _ = e.descriptors() })
	if o.Network.Ahead {
		e.spawn(func() { e.network.poolOf(users.usable() == nil).ahead(e.network) })
	}
	return e, nil
}

// outermost gives the folders that are in none of the others.
func outermost(paths []string) []string {
	var out []string
	for _, p := range paths {
		within := func(q string) bool { return q == p || strings.HasPrefix(p, q+"/") }
		if p == "" || slices.ContainsFunc(out, within) {
			continue
		}
		out = slices.DeleteFunc(out, func(q string) bool { return strings.HasPrefix(q, p+"/") })
		out = append(out, p)
	}
	return out
}

func (o *Options) complete() error {
	if os.Geteuid() != 0 {
		return errors.New("open local executor: it needs root for namespaces and mounts: run tiphys as root (tiphys run makes itself root of a user namespace; tiphys doctor says what is missing)")
	}
	if o.Dir == "" || o.Init == "" {
		return errors.New("open local executor: the state folder and the tiphys-init binary must be named")
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return fmt.Errorf("open local executor: %w", err)
	}
	if o.Init, err = filepath.Abs(o.Init); err != nil {
		return fmt.Errorf("open local executor: %w", err)
	}
	if o.Volumes == "" {
		o.Volumes = filepath.Join(o.Dir, "volumes")
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	switch {
	case o.Processes == 0:
		o.Processes = DefaultProcesses
	case o.Processes < 0:
		o.Processes = 0
	default:
		o.Processes = max(o.Processes, leastProcesses)
	}
	switch {
	case o.LogLimit == 0:
		o.LogLimit = DefaultLogLimit
	case o.LogLimit < 0:
		o.LogLimit = 0
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	return nil
}

// lockPatience is half of how long a lock is waited for.
const lockPatience = 500 * time.Millisecond

// lockFolder keeps a second executor away; the lock goes with the process, however it ends.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open local executor: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	for wait := time.Millisecond; err != nil && wait < lockPatience; wait *= 2 {
		// A child that a killed server was about to make has the lock until it executes something.
		<-time.After(wait)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open local executor: another tiphys uses %s: stop it or choose another data folder", dir)
	}
	return f, nil
}

// Close stops reporting, both ways, and lets go of the state folder. Pods go on, unless they are bound to this process.
func (e *Executor) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	e.cancel() // and hang up on all shims
	if e.notices != nil {
		_ = e.notices.Close()
	}
	e.work.Wait()
	e.releaseEnded()
	var networks sync.WaitGroup
	networks.Go(e.network.giveBack)
	if e.keeper != nil {
		e.keeper.close()
	}
	e.awaitShims()
	e.reaper.close()
	e.trash.close()
	networks.Wait()
	e.network.removeBridge()
	e.container.reports.close()
	e.hostView.reports.close()
	return errors.Join(e.program.close(), e.lock.Close())
}

// releaseEnded gives back the networks of pods that have ended and whose end nobody has taken in: the next executor on this folder does that,
// and may need no network.
func (e *Executor) releaseEnded() {
	e.mu.Lock()
	attempts := slices.Collect(maps.Values(e.names))
	e.mu.Unlock()
	for _, a := range attempts {
		if _, err := a.record(); err == nil {
			e.network.release(a.name)
		}
	}
}

// spawn runs f unless the executor is closed; Close waits for it.
func (e *Executor) spawn(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		f()
	}()
}

// queue is a channel that never makes its writer wait.
type queue struct {
	out  chan executor.Report
	mu   sync.Mutex
	held []executor.Report
	wake chan struct{}
	stop chan struct{}
	done chan struct{}
}

func newQueue() *queue {
	q := &queue{
		out: make(chan executor.Report, 16), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go q.run()
	return q
}

func (q *queue) put(r executor.Report) {
	q.mu.Lock()
	q.held = append(q.held, r)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) run() {
	defer close(q.done)
	defer close(q.out)
	for {
		q.mu.Lock()
		held := q.held
		q.held = nil
		q.mu.Unlock()
		for _, r := range held {
			select {
			case q.out <- r:
			case <-q.stop:
				return
			}
		}
		if len(held) > 0 {
			continue
		}
		select {
		case <-q.wake:
		case <-q.stop:
			return
		}
	}
}

func (q *queue) close() {
	close(q.stop)
	<-q.done
}
