package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// trashDelay is how long working files stay after their attempt was acknowledged. Removing them beside running
// pods costs those time: ext4 without a journal searches for inodes past all that were freed in the last 5 s.
const trashDelay = 5 * time.Second

// trash removes the working files of attempts that are over.
type trash struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	items  []trashItem
	timer  *time.Timer
	closed bool
	work   sync.WaitGroup
}

type trashItem struct {
	gone <-chan struct{} // the shim has ended, and with it what it had mounted
	path string
}

// newTrash takes over what an earlier executor had no time for.
func newTrash(dir string, log *slog.Logger) *trash {
	t := &trash{dir: dir, log: log}
	entries, err := os.ReadDir(dir)
	if err != nil {
		log.Warn("read trash", "folder", dir, "error", err)
	}
	over := make(chan struct{})
	close(over)
	for _, entry := range entries {
		t.add(over, filepath.Join(dir, entry.Name()))
	}
	return t
}

func (t *trash) add(gone <-chan struct{}, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items = append(t.items, trashItem{gone, path})
	if t.timer == nil && !t.closed {
		t.timer = time.AfterFunc(trashDelay, t.later)
	}
}

// setAside moves away what an earlier server prepared for the attempt when it was killed. It is not removed at once: a
// git that fetched an artifact for that server may still be writing there, and goes on in the folder that was moved.
func (a *attempt) setAside() error {
	if _, err := os.Lstat(a.workFolder()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	trash := a.e.trash.dir
	if a.e.o.Scratch != "" {
		trash = a.e.o.Scratch
	}
	dir, err := os.MkdirTemp(trash, "before-")
	if err != nil {
		return fmt.Errorf("set aside what was prepared before: %w", err)
	}
	if err := os.Rename(a.workFolder(), filepath.Join(dir, "work")); err != nil {
		return fmt.Errorf("set aside what was prepared before: %w", err)
	}
	over := make(chan struct{})
	close(over)
	a.e.trash.add(over, dir)
	return nil
}

// discard gives the disk back what a pod that has ended wrote, whether or not its end can be put on record yet: a full
// disk may be what keeps it from that.
func (a *attempt) discard() {
	if a.e.o.Scratch != "" {
		return
	}
	if err := a.moveWork(); err != nil {
		a.e.o.Log.Warn("discard working files", "attempt", a.name, "error", err) // the acknowledgement tries again
	}
}

// moveWork moves the working files to the trash, if they are still with the attempt.
func (a *attempt) moveWork() error {
	to := filepath.Join(a.e.trash.dir, a.name)
	if err := os.Rename(a.workFolder(), to); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	a.e.trash.add(a.gone, to)
	return nil
}

func (t *trash) later() {
	t.mu.Lock()
	t.timer = nil
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.work.Add(1)
	t.mu.Unlock()
	defer t.work.Done()
	t.empty()
}

func (t *trash) empty() {
	t.mu.Lock()
	items := t.items
	t.items = nil
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), acknowledgeWait)
	defer cancel()
	for _, item := range items {
		select {
		case <-item.gone:
		case <-ctx.Done():
			// Mounts of a shim that hangs are in its own namespace: its files can go.
		}
		if err := os.RemoveAll(item.path); err != nil {
			t.log.Warn("remove working files", "folder", item.path, "error", err)
		}
	}
}

// close removes what is there at once.
func (t *trash) close() {
	t.mu.Lock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.work.Wait()
	t.empty()
}
