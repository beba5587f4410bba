package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// launches is how often a pod is ordered whose keeper went away before it took the order.
const launches = 3

// launch has the pod run, and follows it until it goes on by itself.
func (a *attempt) launch(ctx context.Context, spec *protocol.Spec) error {
	for range launches {
		if again, err := a.order(ctx, spec); !again {
			return err
		}
	}
	return errors.New("start pod: the keeper of pods goes away")
}

// order starts the shim, gives it its order, and follows it. It reports whether the order reached nobody: a keeper that
// is ending may still be handed a pod.
func (a *attempt) order(ctx context.Context, spec *protocol.Spec) (again bool, err error) {
	done, err := a.e.turn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	a.e.o.Fault("shim-start")
	start := a.startShim
	if a.e.keeper != nil {
		start = a.e.keeper.connect
	}
	conn, err := start()
	if err != nil {
		return false, fmt.Errorf("start shim: %w", err)
	}
	a.e.o.Fault("shim-order")
	in := json.NewDecoder(conn)
	if err := a.begun(conn, spec); err != nil {
		again = a.untaken()
		a.withdraw(conn)
		if _, unread := a.record(); unread == nil {
			a.settle() // it says better what went wrong
			return false, nil
		}
		return again, err
	}
	if a.e.keeper != nil {
		done() // it is followed to its end
	}
	if err := a.follow(in); err != nil {
		return false, err
	}
	return a.untaken(), nil
}

// launching is how many pods are launched at the same time: what a launch needs for a moment, descriptors above all, is
// then bounded, whoever starts how many.
const launching = 16

// turn waits until one of those that are launched is through; the caller says when it is itself, once or more often.
func (e *Executor) turn(ctx context.Context) (done func(), err error) {
	select {
	case e.launching <- struct{}{}:
		return sync.OnceFunc(func() { <-e.launching }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begun sends the order and sees the pod off.
func (a *attempt) begun(conn net.Conn, spec *protocol.Spec) error {
	if err := a.speakOver(conn, protocol.Request{Op: protocol.OpSpec, Spec: spec}); err != nil {
		return fmt.Errorf("order pod: %w", err)
	}
	a.e.o.Fault("shim-launch")
	a.mu.Lock()
	stopped := a.stopped
	a.mu.Unlock()
	if stopped {
		_ = a.send(protocol.Request{Op: protocol.OpStop})
	}
	return nil
}

// untaken says that the keeper went away without a claim to the attempt, so that nothing of it has run and nothing will.
func (a *attempt) untaken() bool {
	if a.e.keeper == nil || a.e.ctx.Err() != nil {
		return false
	}
	a.mu.Lock()
	settled := a.final != nil || a.refused != ""
	a.mu.Unlock()
	if settled {
		return false // and acknowledged, maybe: its folder is elsewhere
	}
	_, err := os.Lstat(filepath.Join(a.dir, protocol.ShimFile))
	return errors.Is(err, fs.ErrNotExist)
}

// withdraw takes back an order of which nothing has run, and waits until the shim has let go of it.
func (a *attempt) withdraw(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(acknowledgeWait))
	if c, ok := conn.(*net.UnixConn); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, conn)
	a.letGo()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn, a.enc = nil, nil
}

// startShim starts the shim in a session of its own, with the attempt's folder as its working folder and a
// socket as its standard input: orders hold secrets, so they are never in an argument or in a file.
func (a *attempt) startShim() (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, err
	}
	errors, err := os.OpenFile(filepath.Join(a.dir, "shim.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	defer func() { _ = errors.Close() }()
	cmd := &exec.Cmd{
		Path: a.e.program.path, Args: []string{"tiphys-init", "shim"}, Dir: a.dir, Env: []string{"GOMAXPROCS=1"},
		Stdin: theirs, Stderr: errors, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		_ = conn.Close()
		return nil, few(err)
	}
	pid := cmd.Process.Pid
	_ = cmd.Process.Release() // its end is the reaper's business
	a.mu.Lock()
	a.notices = true
	a.mu.Unlock()
	a.e.reaper.add(pid, func() { a.shimEnded(pid) })
	return conn, nil
}

// few tells want of descriptors in the start of a process. What the child is to have is moved to the next number, and one
// beyond the limit is called bad, though all that it is given is open.
func few(err error) error {
	if errors.Is(err, syscall.EBADF) {
		return &executor.TransientError{Err: fmt.Errorf("%w: too many open files", err)}
	}
	return err
}

// shimEnded takes in that a shim, a child of this process, is gone. While it is followed that is up to who follows it. It may
// be one that went away because another, which an earlier server started, has the attempt.
func (a *attempt) shimEnded(pid int) {
	if shim, err := a.shimAnywhere(); err == nil && shim.PID != pid && shim.Alive() {
		return
	}
	a.setGone()
	a.mu.Lock()
	open := a.conn == nil && a.taken && a.final == nil
	a.mu.Unlock()
	if open && a.e.ctx.Err() == nil {
		a.e.spawn(a.settle)
	}
}

// follow takes in what the shim says until it hangs up, and concludes the attempt, or until the pod goes on by itself: from
// then on its shim sends notices. An error says that the shim gave the attempt back for want of something.
func (a *attempt) follow(in *json.Decoder) error {
	a.watchOver()
	started := false
	for {
		var e protocol.Event
		if err := in.Decode(&e); err != nil {
			break
		}
		switch e.Event {
		case protocol.EventPID:
			a.e.network.handedOver(a.name)
			a.mu.Lock()
			a.initPID = e.PID
			a.mu.Unlock()
		case protocol.EventStarted:
			started = true
			a.noteStarted(e)
		case protocol.EventExec:
			a.mu.Lock()
			answer := a.execs[e.Number]
			delete(a.execs, e.Number)
			a.mu.Unlock()
			if answer != nil {
				answer <- e
			}
		case protocol.EventEnded:
			a.settle()
		case protocol.EventFailed:
			// Only a shim that found the attempt taken, or could not take it, says this.
			if e.Reason == protocol.ReasonScarce {
				a.awaitHangUp(in)
				return &executor.TransientError{Err: errors.New("start pod: " + e.Message)}
			}
			a.e.o.Log.Error("shim refused", "attempt", a.name, "error", e.Message)
			if e.Reason != protocol.EventAborted {
				a.mu.Lock()
				a.refused = e.Message
				a.mu.Unlock()
			}
		}
		if (started || e.Event == protocol.EventTold) && a.goesOn() {
			return nil
		}
	}
	a.hungUp()
	return nil //nolint:nilerr // a shim that hangs up is looked after by hungUp
}

// awaitHangUp waits until a shim that gave the attempt back is gone: until then the attempt's folder says that it has it, and the next shim
// would go away again.
func (a *attempt) awaitHangUp(in *json.Decoder) {
	a.mu.Lock()
	if c, ok := a.conn.(net.Conn); ok {
		_ = c.SetReadDeadline(time.Now().Add(acknowledgeWait))
	}
	a.mu.Unlock()
	var e protocol.Event
	for in.Decode(&e) == nil {
		continue
	}
	a.letGo()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn, a.enc = nil, nil
}

// watchOver has the pod's storage looked at, if it is limited.
func (a *attempt) watchOver() {
	if limit := podLimits(&a.pod.Pod.Spec).storage; limit > 0 {
		a.watched.Do(func() { a.e.spawn(func() { a.watchStorage(limit) }) })
	}
}

// goesOn closes the connection to a shim that sends notices, and reports whether it has: not while an answer is awaited.
func (a *attempt) goesOn() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.notices || a.conn == nil || len(a.execs) > 0 {
		return false
	}
	_ = a.conn.Close()
	a.forget()
	a.conn, a.enc, a.taken = nil, nil, true
	return true
}

func (a *attempt) noteStarted(e protocol.Event) {
	if a.pod.Main != "" && a.pod.Main != e.Container && !slices.Contains(a.pod.Set, e.Container) {
		return
	}
	a.mu.Lock()
	first := !a.running
	a.running, a.startedAt, a.scarce = true, e.Time, ""
	r := a.runningReport()
	r.StartedAt = e.Time
	a.mu.Unlock()
	if first {
		a.tell(r)
	}
}

// hungUp finds out what the end of the connection means.
func (a *attempt) hungUp() {
	a.letGo()
	a.mu.Lock()
	done := a.final != nil
	for n, answer := range a.execs {
		delete(a.execs, n)
		close(answer)
	}
	a.mu.Unlock()
	if a.e.keeper != nil {
		if a.untaken() {
			return // it is ordered again
		}
		a.setGone() // the keeper hangs up when nothing of the pod is left
		if !done && a.e.ctx.Err() == nil {
			a.settle()
		}
		return
	}
	a.mu.Lock()
	a.conn, a.enc, a.taken = nil, nil, true
	a.mu.Unlock()
	if done || a.e.ctx.Err() != nil {
		return
	}
	// Without a word it is ending: its end is seen by the reaper, or by who looks now and then.
	if a.shimGone() {
		a.settle()
	}
}

// shim reads who runs the attempt.
func (a *attempt) shim() (protocol.Shim, error) {
	var s protocol.Shim
	data, err := os.ReadFile(filepath.Join(a.dir, protocol.ShimFile))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(data, &s)
}

// shimAnywhere is shim, also of an attempt that was acknowledged meanwhile.
func (a *attempt) shimAnywhere() (protocol.Shim, error) {
	s, err := a.shim()
	if errors.Is(err, fs.ErrNotExist) {
		var data []byte
		if data, err = os.ReadFile(filepath.Join(a.e.o.Dir, "done", a.name, protocol.ShimFile)); err == nil {
			err = json.Unmarshal(data, &s)
		}
	}
	return s, err
}

// shimGone reports whether the shim is no more. Where that cannot be told for want of something it is taken to live.
func (a *attempt) shimGone() bool {
	shim, err := a.shimAnywhere()
	if err != nil {
		return !executor.Scarce(err)
	}
	return !shim.Alive()
}

// scan takes over the attempts of an earlier executor.
func (e *Executor) scan() error {
	entries, err := os.ReadDir(filepath.Join(e.o.Dir, "live"))
	if err != nil {
		return fmt.Errorf("scan attempts: %w", err)
	}
	for _, entry := range entries {
		dir := filepath.Join(e.o.Dir, "live", entry.Name())
		pod, host, err := readPod(dir)
		if executor.Scarce(err) {
			return fmt.Errorf("scan attempts: %s: %w", entry.Name(), err) // nothing is wrong with it
		}
		if why := unreadable(entry.Name(), dir, pod.ID, err); why != nil {
			e.setAside(entry.Name(), pod, host, why)
			continue
		}
		if err != nil {
			_ = os.RemoveAll(dir) // the start was not on record yet, so it was not confirmed and nothing ran
			continue
		}
		a := newAttempt(e, pod.ID, pod, host)
		e.attempts[pod.ID], e.names[a.name] = a, a
		if err := e.resume(a); err != nil {
			return fmt.Errorf("scan attempts: %s: %w", entry.Name(), err)
		}
	}
	return nil
}

// resume attaches to an attempt, or concludes it. The error is a want of something for which neither can be decided: that a file cannot
// be read now does not say that it is not there.
func (e *Executor) resume(a *attempt) error {
	if a.ip = e.network.recall(a.name, &a.pod, a.dir); a.ip == "" && !a.ownNetwork() {
		a.ip = machineAddress
	}
	r, err := a.keptReport()
	if err == nil {
		e.conclude(a, r)
		return nil
	}
	var shim protocol.Shim
	if !executor.Scarce(err) {
		shim, err = a.shim()
	}
	if executor.Scarce(err) {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		// On record, but never executed: whoever ordered it orders it again, with its secrets.
		if e.stoppedBefore(a.name) {
			a.neverRun()
			return nil
		}
		a.awaitsOrder()
		return nil
	}
	if err != nil || !shim.Alive() {
		a.settle()
		return nil //nolint:nilerr // a shim that cannot be read about is judged by the record that it left
	}
	a.notices, a.taken = shim.Notices, true
	e.watch(a)
	e.spawn(func() { a.reconnect(shim) })
	return nil
}

// awaitsOrder says that the attempt is on record and that nothing of it was executed.
func (a *attempt) awaitsOrder() {
	a.mu.Lock()
	a.idle, a.taken = true, false
	a.mu.Unlock()
	r := a.report(executor.Pending, executor.ReasonNotLaunched, notLaunched)
	r.StartedAt, r.FinishedAt = time.Time{}, time.Time{}
	a.tell(r)
}

// givenBack reports whether a shim that an earlier executor started has let go of the attempt, of which it ran nothing: the pod's network
// went away with that executor. It removes its file before it ends.
func (a *attempt) givenBack() bool {
	a.mu.Lock()
	taken := a.taken && a.conn == nil
	a.mu.Unlock()
	if !taken {
		return false
	}
	_, err := os.Lstat(filepath.Join(a.dir, protocol.ShimFile))
	return errors.Is(err, fs.ErrNotExist)
}

// conclude takes over an attempt with a final report. Its shim may still hold the pod for the artifacts, which are saved.
func (e *Executor) conclude(a *attempt, r executor.Report) {
	shim, err := a.shim()
	held := err == nil && shim.Alive()
	a.taken = held
	a.conclude(r)
	if !held {
		e.removeGroups(a.name) // a shim that was killed has left them
		return
	}
	e.watch(a)
	e.spawn(func() {
		if err := a.send(protocol.Request{Op: protocol.OpRelease}); err != nil && shim.Alive() {
			e.o.Log.Warn("release a pod that has ended", "attempt", a.name, "error", err)
		}
	})
}

func (a *attempt) attach() {
	if err := a.send(protocol.Request{Op: protocol.OpAttach}); err != nil {
		a.hungUp()
		return
	}
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	if err := a.follow(json.NewDecoder(conn)); err != nil {
		a.e.o.Log.Warn("attach to a pod", "attempt", a.name, "error", err)
	}
}

// reconnect tries a shim that lives but does not answer, until one of the two changes.
func (a *attempt) reconnect(shim protocol.Shim) {
	for shim.Alive() && a.e.ctx.Err() == nil {
		done, err := a.e.turn(a.e.ctx)
		if err != nil {
			return
		}
		if err := a.connect(a.e.ctx); err == nil {
			if !a.notices {
				done() // it is followed to its end
			}
			a.attach()
			done()
			return
		}
		done()
		pause(a.e.ctx, reconnectPause)
	}
	if a.e.ctx.Err() == nil {
		a.settle()
	}
}
