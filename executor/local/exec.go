package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

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
	answer := make(chan protocol.Event, 1)
	a.mu.Lock()
	a.nextExec++
	number := a.nextExec
	a.execs[number] = answer
	err := a.sendLocked(protocol.Request{Op: protocol.OpExec, Container: container, Args: command, Number: number})
	if err != nil || a.final != nil {
		delete(a.execs, number)
		a.mu.Unlock()
		return 0, nil, fmt.Errorf("run command in %s: the pod is not running", id.Node)
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.execs, number)
		a.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return 0, nil, fmt.Errorf("run command in %s: %w", id.Node, ctx.Err())
	case ev, ok := <-answer:
		switch {
		case !ok:
			return 0, nil, fmt.Errorf("run command in %s: the pod ended", id.Node)
		case ev.Code < 0:
			return 0, nil, fmt.Errorf("run command in %s: %s", id.Node, ev.Message)
		case ev.Message != "":
			return ev.Code, append(ev.Output, ev.Message...), nil
		}
		return ev.Code, ev.Output, nil
	}
}
