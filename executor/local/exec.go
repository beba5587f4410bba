package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// errNotRunning says that a pod does not run yet, or no more.
var errNotRunning = errors.New("the pod is not running")

// Exec implements executor.Commands.
func (e *Executor) Exec(ctx context.Context, id executor.ID, container string, command []string) (int, []byte, error) {
	e.mu.Lock()
	a := e.attempts[id]
	e.mu.Unlock()
	if a == nil {
		return 0, nil, fmt.Errorf("run command in %s: %w", id.Node, executor.ErrNotFound)
	}
	if len(command) == 0 {
		return 0, nil, errors.New("run command: none is given")
	}
	ev, err := a.request(ctx, protocol.Request{Op: protocol.OpExec, Container: container, Args: command})
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("run command in %s: %w", id.Node, err)
	case ev.Code < 0:
		return 0, nil, fmt.Errorf("run command in %s: %s", id.Node, ev.Message)
	case ev.Message != "":
		return ev.Code, append(ev.Output, ev.Message...), nil
	}
	return ev.Code, ev.Output, nil
}

// request has the pod's init do something, and gives its answer.
func (a *attempt) request(ctx context.Context, r protocol.Request) (protocol.Event, error) {
	a.mu.Lock()
	alone := a.taken && a.conn == nil && a.final == nil
	a.mu.Unlock()
	if alone {
		return a.askAlone(ctx, r)
	}
	return a.ask(ctx, r)
}

// askAlone is request over a connection of its own.
func (a *attempt) askAlone(ctx context.Context, r protocol.Request) (protocol.Event, error) {
	var e protocol.Event
	conn, err := a.dial(ctx)
	if err != nil {
		return e, errNotRunning
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return e, errNotRunning
	}
	if err := json.NewDecoder(conn).Decode(&e); err != nil {
		if ctx.Err() != nil {
			return e, ctx.Err()
		}
		return e, errors.New("the pod ended")
	}
	return e, nil
}

// ask is request over the connection to the shim that there is.
func (a *attempt) ask(ctx context.Context, r protocol.Request) (protocol.Event, error) {
	answer := make(chan protocol.Event, 1)
	a.mu.Lock()
	a.nextExec++
	r.Number = a.nextExec
	a.execs[r.Number] = answer
	err := a.sendLocked(r)
	if err != nil || a.final != nil {
		delete(a.execs, r.Number)
		a.mu.Unlock()
		return protocol.Event{}, errNotRunning
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.execs, r.Number)
		a.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return protocol.Event{}, ctx.Err()
	case ev, ok := <-answer:
		if !ok {
			return ev, errors.New("the pod ended")
		}
		return ev, nil
	}
}
