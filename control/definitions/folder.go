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

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// settleTime is how long a folder must be quiet before it is read: editors and git write files in several steps.
const settleTime = 150 * time.Millisecond

// Folder keeps the definitions of one folder of manifests in the store. It is a control.Service.
type Folder struct {
	dir      string
	store    *Store
	log      *slog.Logger
	troubles failure.Troubles
	// Loaded is called after each load, with what it did or why it was refused; may be nil.
	Loaded func(Change, error)
}

// NewFolder watches dir on behalf of the store.
func NewFolder(dir string, store *Store, log *slog.Logger) *Folder {
	return &Folder{dir: dir, store: store, log: log}
}

// Name implements control.Service.
func (f *Folder) Name() string { return "definitions" }

// Start implements control.Service.
func (f *Folder) Start(context.Context) error { return nil }

// Health implements control.Service: it waits for somebody to mend what cannot be loaded. The last good definitions stay.
func (f *Folder) Health() control.Health {
	if trouble := f.troubles.Text(); trouble != "" {
		return control.Health{State: control.Waiting, Reason: trouble}
	}
	return control.Health{}
}

// What of a folder can be in trouble.
const (
	loading  = "the folder was not loaded, and the last good definitions stay"
	watching = "changes of the folder may not be seen at once"
)

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
		case err := <-w.Errors: // events were lost, say: the folder is read as it is
			f.log.Warn("watch folder; reading all of it", "folder", f.dir, "error", err)
			quiet.Reset(settleTime)
		case <-quiet.C:
			unseen := f.noted(watching, f.watch(w))
			if failed := f.loadAndTell(ctx); failed || unseen {
				quiet.Reset(lookAgain)
			}
		}
	}
}

// lookAgain is when a folder that could not be loaded or watched is read again, if nothing changes in it before.
const lookAgain = 30 * time.Second

// noted shows an error until there is none any more, and reports whether there is one.
func (f *Folder) noted(what string, err error) bool {
	if err == nil {
		f.troubles.Over(what)
		return false
	}
	if f.troubles.Note(what, err) {
		f.log.Error(what, "folder", f.dir, "error", err)
	}
	return true
}

// loadAndTell loads the folder, tells what came of it, and reports whether it failed.
func (f *Folder) loadAndTell(ctx context.Context) (failed bool) {
	ch, err := f.Load(ctx)
	if ctx.Err() != nil {
		return false
	}
	for _, d := range ch.Diagnostics {
		f.log.Warn("manifest", "at", d.Position.String(), "severity", string(d.Severity), "message", d.Message, "hint", d.Hint)
	}
	if failed = f.noted(loading, err); !failed && len(ch.Set)+len(ch.Deleted) > 0 {
		f.log.Info("definitions loaded", "set", ch.Set, "deleted", ch.Deleted)
	}
	if f.Loaded != nil {
		f.Loaded(ch, err)
	}
	return failed
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
