package definitions

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/tiphys/tiphys/manifest"
)

// settleTime is how long a folder must be quiet before it is read: editors and git write files in several steps.
const settleTime = 150 * time.Millisecond

// Folder keeps the definitions of one folder of manifests in the store.
type Folder struct {
	dir   string
	store *Store
	log   *slog.Logger
	// Loaded is called after each load, with what it did or why it was refused; may be nil.
	Loaded func(Change, error)
}

// NewFolder watches dir on behalf of the store.
func NewFolder(dir string, store *Store, log *slog.Logger) *Folder {
	return &Folder{dir: dir, store: store, log: log}
}

// Load reads the folder as a whole. If anything in it is bad nothing changes, and the error has file, line and column.
func (f *Folder) Load(ctx context.Context) (Change, error) {
	objects, diags, err := manifest.Load(os.DirFS(f.dir), ".")
	if err != nil {
		return Change{}, fmt.Errorf("read %s: %w", f.dir, err)
	}
	if err := manifest.FirstError(diags); err != nil {
		return Change{Diagnostics: diags}, err
	}
	ch, err := f.store.Replace(ctx, "folder:"+filepath.Base(f.dir), OriginFolder, objects)
	ch.Diagnostics = append(diags, ch.Diagnostics...)
	return ch, err
}

// Run loads the folder at each change until ctx ends. A bad file is reported and the last good set stays.
func (f *Folder) Run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.dir, err)
	}
	defer func() { _ = w.Close() }()
	if err := f.watch(w); err != nil {
		return err
	}
	quiet := time.NewTimer(0) // the first load is at once
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("watching the folder ended")
			}
			quiet.Reset(settleTime)
		case err := <-w.Errors:
			f.log.Error("watch folder", "folder", f.dir, "error", err)
			quiet.Reset(settleTime)
		case <-quiet.C:
			if err := f.watch(w); err != nil {
				f.log.Error("watch folder", "folder", f.dir, "error", err)
			}
			f.loadAndTell(ctx)
		}
	}
}

func (f *Folder) loadAndTell(ctx context.Context) {
	ch, err := f.Load(ctx)
	if ctx.Err() != nil {
		return
	}
	for _, d := range ch.Diagnostics {
		f.log.Warn("manifest", "at", d.Position.String(), "severity", string(d.Severity), "message", d.Message, "hint", d.Hint)
	}
	if err != nil {
		f.log.Error("the folder was not loaded; the last good definitions stay", "folder", f.dir, "error", err)
	} else if len(ch.Set)+len(ch.Deleted) > 0 {
		f.log.Info("definitions loaded", "set", ch.Set, "deleted", ch.Deleted)
	}
	if f.Loaded != nil {
		f.Loaded(ch, err)
	}
}

// watch adds every folder beneath; adding one twice is harmless.
func (f *Folder) watch(w *fsnotify.Watcher) error {
	return filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read folder of definitions: %w", err)
		}
		if d.IsDir() {
			return w.Add(path)
		}
		return nil
	})
}
