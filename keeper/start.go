package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// startWait is how long a keeper may take until it serves.
const startWait = 30 * time.Second

// logName is the file of what keepers complain of.
const logName = "keeper.log"

// start starts a keeper in a session of its own and waits until it serves.
func (c *Client) start(ctx context.Context, takeOver bool) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	o := config{Version: c.o.Version, Listen: c.o.Listen, Own: c.o.Own, PerClient: c.o.PerClient, TLS: c.o.TLS, Wait: c.o.Wait, TakeOver: takeOver, Listener: c.port != nil && !takeOver}
	told, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	log, err := openLog(filepath.Join(c.dir, logName))
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	defer func() { _ = log.Close() }()
	answer, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	defer func() { _ = answer.Close() }()
	// It must outlive this process: neither its context nor its session are ours, and it has nothing of our environment.
	cmd := &exec.Cmd{
		Path: c.o.Command[0], Args: append([]string{"tiphys"}, c.o.Command[1:]...), Dir: c.dir, Env: []string{"GOTRACEBACK=single"},
		Stdin: bytes.NewReader(told), Stdout: theirs, Stderr: log, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if o.Listener {
		cmd.ExtraFiles = []*os.File{c.port}
	}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it lives on; if it dies, the connection says so
	defer context.AfterFunc(ctx, func() { _ = answer.Close() })()
	var r readiness
	if err := json.NewDecoder(answer).Decode(&r); err != nil {
		_ = cmd.Process.Kill() // one that comes too late would have the port that somebody else serves by then
		return fmt.Errorf("start the keeper: it said nothing (see %s): %w", log.Name(), errors.Join(err, ctx.Err()))
	}
	if r.Error != "" {
		return &StartError{Reason: r.Error}
	}
	return nil
}

// StartError is what a keeper said that could not start.
type StartError struct{ Reason string }

func (e *StartError) Error() string { return e.Reason }

func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
}
