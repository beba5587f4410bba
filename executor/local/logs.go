package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/podlog"
	"github.com/tiphys/tiphys/executor/protocol"
)

// Logs implements executor.Logs.
func (e *Executor) Logs(ctx context.Context, id executor.ID, container string, o executor.LogOptions) (io.ReadCloser, error) {
	name := folderName(id)
	e.mu.Lock()
	a := e.attempts[id]
	e.mu.Unlock()
	dir := filepath.Join(e.o.Dir, "done", name)
	ended := func() bool { return true }
	if a != nil {
		dir = a.dir
		ended = func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.final != nil
		}
	}
	r, err := podlog.Open(ctx, filepath.Join(dir, protocol.LogFolder), container, podlog.Options{
		FromLine: o.FromLine, Follow: o.Follow, Timestamps: o.Timestamps, Ended: ended,
		Stopped: func() bool { return e.ctx.Err() != nil },
		Moved:   filepath.Join(e.o.Dir, "done", name, protocol.LogFolder),
	})
	if errors.Is(err, fs.ErrNotExist) {
		if a != nil && o.Follow {
			if _, e := os.Stat(a.dir); e == nil && hasContainer(append(a.pod.Pod.Spec.InitContainers, a.pod.Pod.Spec.Containers...), container) {
				return r, nil
			}
		}
		return nil, fmt.Errorf("read log of %s: %w", id.Node, executor.ErrNotFound)
	}
	return r, err
}
