package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// attempt is one pod: its folder, and the connection to its shim while that lives.
type attempt struct {
	e    *Executor
	id   executor.ID
	name string
	dir  string // in live/
	host bool   // it is a view of this machine
	pod  executor.Pod

	mu        sync.Mutex
	idle      bool // on record, but nothing was executed: the next Start goes on
	running   bool
	startedAt time.Time
	scarce    string // what it waits for
	stopped   bool
	cancel    context.CancelFunc // of the preparation
	conn      io.ReadWriteCloser
	enc       *json.Encoder
	forget    func() bool // the connection need not be closed with the executor any more
	initPID   int
	ip        string
	final     *executor.Report
	nextExec  int
	taken     bool // a shim has the pod, and goes on without being spoken to
	notices   bool // it tells what happens
	execs     map[int]chan protocol.Event
	refused   string    // why a shim did not take the attempt
	watched   sync.Once // its storage
	// stopSaving ends the saving of artifacts after a time; nil before that has begun.
	stopSaving func(grace time.Duration)
	settling   sync.Mutex // held by who turns its record into a report

	concluded chan struct{} // final is set
	gone      chan struct{} // the shim has ended
	goneOnce  sync.Once
}

func newAttempt(e *Executor, id executor.ID, pod executor.Pod, host bool) *attempt {
	name := folderName(id)
	return &attempt{
		e: e, id: id, name: name, dir: filepath.Join(e.o.Dir, "live", name), host: host, pod: pod,
		execs: map[int]chan protocol.Event{}, gone: make(chan struct{}), concluded: make(chan struct{}),
	}
}

// folderName gives an attempt's folder: readable, and unique whatever the names hold.
func folderName(id executor.ID) string {
	key := fmt.Appendf(nil, "%d:%s%d:%s%d", len(id.Owner), id.Owner, len(id.Node), id.Node, id.Attempt)
	if id.Epoch > 0 {
		key = fmt.Appendf(key, "@%d", id.Epoch)
	}
	sum := sha256.Sum256(key)
	var b strings.Builder
	for _, c := range []byte(id.Node) {
		if b.Len() == 40 {
			break
		}
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' {
			b.WriteByte(c)
		} else {
			b.WriteByte('_')
		}
	}
	return b.String() + "-" + strconv.Itoa(id.Attempt) + "-" + hex.EncodeToString(sum[:10])
}

// workFolder is what the pod writes into.
func (a *attempt) workFolder() string {
	if a.e.o.Scratch != "" {
		return filepath.Join(a.e.o.Scratch, a.name)
	}
	return filepath.Join(a.dir, protocol.WorkFolder)
}

// start is View.Start.
func (e *Executor) start(ctx context.Context, p executor.Pod, host bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return errors.New("start pod: the executor is closed")
	}
	if a := e.attempts[p.ID]; a != nil {
		e.mu.Unlock()
		a.again(p)
		return nil
	}
	a := newAttempt(e, p.ID, p, host)
	if _, err := os.Stat(filepath.Join(e.o.Dir, "done", a.name)); err == nil {
		e.mu.Unlock()
		return e.repeatDone(a)
	}
	a.stopped = e.stoppedBefore(a.name)
	if err := executor.Refused(e.check(p, host)); err != nil && !a.stopped {
		e.mu.Unlock()
		return err
	}
	if err := a.create(); err != nil {
		e.mu.Unlock()
		err = fmt.Errorf("start pod %s: %w", p.ID.Node, err)
		if executor.Scarce(err) {
			return &executor.TransientError{Err: err}
		}
		return err
	}
	e.o.Fault("pod-record")
	e.attempts[p.ID], e.names[a.name] = a, a
	e.mu.Unlock()
	if a.stopped {
		e.spawn(a.neverRun)
		return nil
	}
	a.begin()
	return nil
}

// tell reports to whoever started the attempt.
func (a *attempt) tell(r executor.Report) { a.e.view(a.host).reports.put(r) }

// podRecord is a pod as [protocol.PodFile] keeps it.
type podRecord struct {
	executor.Pod
	Claims []executor.Claim `json:"claims,omitempty"`
	Host   bool             `json:"host,omitempty"`
}

// readPod reads back what create wrote.
func readPod(dir string) (pod executor.Pod, host bool, err error) {
	data, err := os.ReadFile(filepath.Join(dir, protocol.PodFile))
	if err != nil {
		return pod, false, err
	}
	var r struct {
		podRecord
		// Until 0.1.0 claims were folders by name.
		Claims json.RawMessage `json:"claims"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return pod, false, err
	}
	if bytes.HasPrefix(r.Claims, []byte("[")) {
		if err := json.Unmarshal(r.Claims, &r.Pod.Claims); err != nil {
			return pod, false, err
		}
	}
	return r.Pod, r.Host, nil
}

// create puts the attempt on record. Its folder is made exclusively: there is one start.
func (a *attempt) create() error {
	if err := os.Mkdir(a.dir, 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(podRecord{Pod: a.pod, Claims: a.pod.Claims, Host: a.host})
	if err == nil {
		err = protocol.WriteFile(filepath.Join(a.dir, protocol.PodFile), data, !a.e.o.NoSync)
	}
	if err == nil && !a.e.o.NoSync {
		err = protocol.SyncFolder(filepath.Dir(a.dir))
	}
	if err != nil {
		_ = os.RemoveAll(a.dir)
	}
	return err
}

// again is a Start of what was started before.
func (a *attempt) again(p executor.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.final != nil:
		a.tell(*a.final)
	case a.idle:
		a.idle = false
		a.pod = p
		go a.begin()
	case a.running:
		a.tell(a.runningReport())
	}
}

// repeatDone reports an attempt that was acknowledged long ago.
func (e *Executor) repeatDone(a *attempt) error {
	a.dir = filepath.Join(e.o.Dir, "done", a.name)
	r, err := a.storedReport()
	if err != nil {
		return fmt.Errorf("start pod %s: it has run before, and its record cannot be read: %w", a.id.Node, err)
	}
	a.tell(r)
	return nil
}

// begin prepares and launches the pod in the background.
func (a *attempt) begin() {
	ctx, cancel := context.WithCancel(a.e.ctx)
	a.mu.Lock()
	a.cancel = cancel
	stopped := a.stopped
	a.mu.Unlock()
	if stopped {
		cancel()
	}
	a.e.spawn(func() {
		defer cancel()
		a.run(ctx)
	})
}

// Waits between tries to start a pod for which something is scarce.
const (
	scarceWait    = 100 * time.Millisecond
	scarceLongest = 10 * time.Second
)

func (a *attempt) run(ctx context.Context) {
	err := a.try(ctx)
	for wait := scarceWait; err != nil && executor.Scarce(err) && ctx.Err() == nil; wait = min(2*wait, scarceLongest) {
		a.waits(err)
		pause(ctx, wait)
		if deadline := a.pod.Deadline; !deadline.IsZero() && !a.e.o.Now().Before(deadline) {
			a.finish(a.report(executor.Failed, executor.ReasonDeadline, deadlineMessage))
			return
		}
		err = a.try(ctx)
	}
	if err == nil {
		return
	}
	if a.e.ctx.Err() != nil {
		return // the executor is closing: the attempt stays as it is
	}
	a.mu.Lock()
	stopped := a.stopped
	a.mu.Unlock()
	if stopped {
		a.finish(a.report(executor.Failed, executor.ReasonStopped, stoppedEarly))
		return
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{executor.ReasonStart, err}
	}
	a.finish(a.report(executor.Error, f.reason, f.Error()))
}

// try prepares and launches the pod once.
func (a *attempt) try(ctx context.Context) error {
	spec, err := a.prepare(ctx)
	if err == nil {
		err = a.keepLayers(spec)
	}
	if err != nil {
		return err
	}
	if a.e.keeper == nil {
		a.e.watch(a)
	}
	return a.launch(ctx, spec)
}

// waits says what the pod waits for, once for each reason.
func (a *attempt) waits(err error) {
	message := "waits for this machine: " + err.Error()
	a.mu.Lock()
	again := a.scarce == message
	a.scarce = message
	a.mu.Unlock()
	if again {
		return
	}
	r := a.report(executor.Pending, executor.ReasonScarce, message)
	r.StartedAt, r.FinishedAt = time.Time{}, time.Time{}
	a.tell(r)
}

// failure is an error with one of the executor's reasons.
type failure struct {
	reason string
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func (a *attempt) report(phase executor.Phase, reason, message string) executor.Report {
	now := a.e.o.Now()
	return executor.Report{
		ID: a.id, Phase: phase, Reason: reason, Message: message, Host: a.e.host, IP: a.ip, StartedAt: now, FinishedAt: now,
	}
}

func (a *attempt) runningReport() executor.Report {
	r := a.report(executor.Running, "", "")
	r.FinishedAt = time.Time{}
	return r
}

// finish keeps a final report and sends it. One that cannot be kept is found out again by the next executor.
func (a *attempt) finish(r executor.Report) {
	if err := a.keep(r); err != nil {
		a.e.o.Log.Warn("keep final report", "attempt", a.name, "error", err)
	}
	a.conclude(r)
}

// keep puts a final report on disk.
func (a *attempt) keep(r executor.Report) error {
	data, err := json.Marshal(r)
	if err == nil {
		err = protocol.WriteFile(filepath.Join(a.dir, protocol.ReportFile), data, !a.e.o.NoSync)
	}
	if err == nil {
		a.e.o.Fault("report-record")
	}
	return err
}

// keepForSure is keep for a report of what goes when the pod is let go: while there is no room for it the pod is held. False says that
// the executor is being closed; the next one finds everything as it is.
func (a *attempt) keepForSure(r executor.Report) bool {
	err := a.keep(r)
	for wait := scarceWait; err != nil && executor.Scarce(err); wait = min(2*wait, scarceLongest) {
		a.e.trouble(a.name, fmt.Sprintf("the end of pod %s waits to be kept: %s", a.id.Node, err))
		pause(a.e.ctx, wait)
		if a.e.ctx.Err() != nil {
			return false
		}
		err = a.keep(r)
	}
	a.e.trouble(a.name, "")
	if err != nil {
		// It is told, and would be made anew of the record, but for the artifacts.
		a.e.o.Log.Error("keep final report", "attempt", a.name, "error", err)
	}
	return true
}

// conclude sends a final report that is on disk in one form or another.
func (a *attempt) conclude(r executor.Report) {
	a.mu.Lock()
	if a.final != nil {
		a.mu.Unlock()
		return
	}
	a.final = &r
	close(a.concluded)
	shimless := a.conn == nil && !a.taken
	a.mu.Unlock()
	if shimless {
		a.setGone()
	}
	a.e.network.release(a.name)
	a.discard()
	a.tell(r)
}

func (a *attempt) setGone() { a.goneOnce.Do(func() { close(a.gone) }) }

// speakOver makes conn the connection to the shim. When the executor is closed it is, too, and the shim goes on without;
// one whose pod has ended is ending, and is waited for, because what it leaves goes with it. What is said first comes
// before what others say.
func (a *attempt) speakOver(conn net.Conn, first ...protocol.Request) error {
	forget := context.AfterFunc(a.e.ctx, func() {
		select {
		case <-a.concluded:
			_ = conn.SetReadDeadline(time.Now().Add(acknowledgeWait))
		default:
			_ = conn.Close()
		}
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn, a.enc, a.forget = conn, json.NewEncoder(conn), forget
	for _, r := range first {
		if err := a.sendLocked(r); err != nil {
			return err
		}
	}
	return nil
}

// letGo closes the connection to the shim.
func (a *attempt) letGo() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		_ = a.conn.Close()
		a.forget()
	}
}

// send tells the shim something, over the connection that there is or one that is made for it.
func (a *attempt) send(r protocol.Request) error {
	a.mu.Lock()
	if a.conn != nil || a.e.keeper != nil {
		defer a.mu.Unlock()
		return a.sendLocked(r)
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.e.ctx), talkWait)
	defer cancel()
	conn, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(talkWait))
	return json.NewEncoder(conn).Encode(r)
}

func (a *attempt) sendLocked(r protocol.Request) error {
	if a.conn == nil {
		return errors.New("the pod has no shim")
	}
	return a.enc.Encode(r)
}

// connect opens the socket of a live shim and keeps it open.
func (a *attempt) connect(ctx context.Context) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	return a.speakOver(c)
}

// dial opens the socket of a live shim. The address goes through a descriptor: socket paths are limited to 108 bytes,
// folders are not.
func (a *attempt) dial(ctx context.Context) (net.Conn, error) {
	fd, err := unix.Open(a.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: a.dir, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var d net.Dialer
	return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", fd, protocol.SocketFile))
}
