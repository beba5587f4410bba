package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// Refresh implements executor.Volumes.
func (e *Executor) Refresh(ctx context.Context, p executor.Pod) error {
	e.mu.Lock()
	a := e.attempts[p.ID]
	e.mu.Unlock()
	if a == nil {
		return fmt.Errorf("refresh volumes of %s: %w", p.ID.Node, executor.ErrNotFound)
	}
	if err := a.refresh(ctx, &p); err != nil {
		return fmt.Errorf("refresh volumes of %s: %w", p.ID.Node, err)
	}
	return nil
}

func (a *attempt) refresh(ctx context.Context, p *executor.Pod) error {
	a.mu.Lock()
	begun, ip := a.taken || a.conn != nil, ""
	if begun {
		ip = a.ip
	}
	a.mu.Unlock()
	if !begun {
		return errNotRunning
	}
	b := &builder{e: a.e, a: &attempt{e: a.e, host: a.host, ip: ip}, pod: p, spec: &p.Pod.Spec}
	volumes, err := b.liveVolumes()
	if err != nil || len(volumes) == 0 {
		return err
	}
	shim, err := a.shim()
	if errors.Is(err, fs.ErrNotExist) {
		return errNotRunning
	}
	if err != nil {
		return err
	}
	if !shim.Files {
		return fmt.Errorf("the pod was begun by an earlier version, whose pods keep what they mount; restart it: %w", errors.ErrUnsupported)
	}
	answer, err := a.request(ctx, protocol.Request{Op: protocol.OpFiles, Volumes: volumes})
	if err == nil && answer.Code < 0 {
		err = errors.New(answer.Message)
	}
	return err
}

// liveVolumes are a pod's volumes whose files may change, with their files as of now, but for those of which something is not there.
func (b *builder) liveVolumes() ([]protocol.Volume, error) {
	var volumes []protocol.Volume
	for i := range b.spec.Volumes {
		v := &b.spec.Volumes[i]
		if !changes(v) {
			continue
		}
		files, err := b.files(v)
		if errors.As(err, new(missingError)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		volumes = append(volumes, protocol.Volume{Name: v.Name, Files: files})
	}
	return volumes, nil
}
