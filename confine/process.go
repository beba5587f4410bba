package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is one process of a pool, as its parent sees it.
type process struct {
	cmd *exec.Cmd
	// in and out are our ends of its standard input and output.
	in, out    *os.File
	complaints *bounded
	// ended is closed when the process is gone; waited is then what the system said of its end.
	ended  chan struct{}
	waited error

	served int
	// used is the processor time that it had used when it last answered.
	used time.Duration
	idle *time.Timer
}

// begin starts a process that serves, and waits until it has confined itself.
func (c Child) begin(ctx context.Context, isolate bool, setup request) (*process, error) {
	folder, err := emptyFolder()
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }() // the process has its own
	p, err := c.spawn(ctx, folder, isolate)
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(setup)
	if err == nil {
		var first reply
		first, err = p.ask(ctx, time.Now().Add(c.Timeout), input, 0)
		if err == nil && first.word == ready {
			return p, nil
		}
	}
	p.kill()
	if said := strings.TrimSpace(p.complaints.String()); said != "" {
		first, _, _ := strings.Cut(said, "\n")
		err = errors.New(first)
	}
	return nil, fmt.Errorf("start process: %w", errors.Join(err, p.waited))
}

// emptyFolder is all that a process of a pool can name where it is jailed. It has no name itself any more.
func emptyFolder() (*os.File, error) {
	name, err := os.MkdirTemp("", "tiphys-empty-")
	if err != nil {
		return nil, fmt.Errorf("make empty folder: %w", err)
	}
	folder, err := os.Open(name)
	if removed := os.Remove(name); err == nil && removed != nil {
		_ = folder.Close() // the other error counts
		err = removed
	}
	if err != nil {
		return nil, fmt.Errorf("make empty folder: %w", err)
	}
	return folder, nil
}

// spawn starts the process. It ends with ctx, and when its input ends.
func (c Child) spawn(ctx context.Context, folder *os.File, isolate bool) (_ *process, err error) {
	var ends [4]*os.File
	defer func() {
		for i, f := range ends {
			if f != nil && (err != nil || i == 0 || i == 3) { // the process's own ends are copies
				_ = f.Close()
			}
		}
	}()
	if ends[0], ends[1], err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	if ends[2], ends[3], err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	cmd, complaints := c.command(ctx, folder, isolate)
	cmd.Env = append(cmd.Env, "TZ=UTC") // what a program makes of times must not depend on the machine
	cmd.Stdin, cmd.Stdout = ends[0], ends[3]
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start process: %w", err)
	}
	p := &process{cmd: cmd, in: ends[1], out: ends[2], complaints: complaints, ended: make(chan struct{})}
	go func() {
		p.waited = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// ask gives the process a request, and waits for the answer until the deadline. After an error the process is of no more use.
func (p *process) ask(ctx context.Context, deadline time.Time, body []byte, most int64) (reply, error) {
	if err := errors.Join(p.in.SetWriteDeadline(deadline), p.out.SetReadDeadline(deadline)); err != nil {
		return reply{}, err
	}
	// A moment that is long past ends what is being waited for.
	stop := context.AfterFunc(ctx, func() {
		_ = errors.Join(p.in.SetWriteDeadline(time.Unix(1, 0)), p.out.SetReadDeadline(time.Unix(1, 0)))
	})
	a, err := p.exchange(body, most)
	if !stop() && err == nil {
		err = context.Cause(ctx) // the moment may be set at any time now
	}
	if err == nil {
		p.used = a.used
	}
	return a, err
}

func (p *process) exchange(body []byte, most int64) (reply, error) {
	if err := writeRequest(p.in, body); err != nil {
		return reply{}, err
	}
	return readReply(p.out, most)
}

// kill ends the process, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
	_ = errors.Join(p.in.Close(), p.out.Close()) // nobody reads or writes any more
}

// signalled tells whether a process that is gone was ended by a signal other than the one about processor time.
func (p *process) signalled() bool {
	var exit *exec.ExitError
	if !errors.As(p.waited, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() != syscall.SIGXCPU
}

// spent is the processor time that a process that is gone used since it last answered.
func (p *process) spent() time.Duration {
	if s := p.cmd.ProcessState; s != nil {
		return s.UserTime() + s.SystemTime() - p.used
	}
	return 0
}
