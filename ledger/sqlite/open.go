// Package sqlite keeps the ledger in one SQLite file.
//
// One goroutine writes. It takes all the decisions that wait, up to a bound, holds what each of them does in
// memory until it has succeeded, writes the whole batch in one transaction and answers after the commit: one
// flush to disk serves many. A pool of connections reads what has been committed.
package sqlite

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/tiphys/tiphys/ledger"
)

// Synchronous says when a commit counts as durable.
type Synchronous string

// The levels, after SQLite's pragma of the same name.
const (
	// Full, the default, flushes before each commit is answered: nothing that was acknowledged is lost when the power fails.
	Full Synchronous = "FULL"
	// Normal may lose the last commits when the power fails, never when only the program dies.
	Normal Synchronous = "NORMAL"
	// Off flushes nothing: for a ledger that is thrown away.
	Off Synchronous = "OFF"
)

// Sizes of SQLite's caches. The server has 100 MiB for everything; the kernel's page cache stands behind these.
const (
	defaultReaders = 4
	writerCacheKiB = 8 << 10
	readerCacheKiB = 4 << 10
)

// Options configure [Open].
type Options struct {
	// Path is the database file; its folder is made if it is missing. Empty means a throw-away ledger in a temporary
	// folder, which Close removes; its Synchronous is Off unless it is given.
	Path string
	// Synchronous is Full if empty.
	Synchronous Synchronous
	// Owner is the name under which this process owns partitions and claims work, which no process had before; it then has to acquire
	// what it decides on. Empty makes this process the owner of everything, since no other one can have the file open.
	Owner string
	// Key signs what is forgotten, and is what such signatures are checked with; nil forgets nothing and takes the key that a signature names.
	Key ed25519.PrivateKey
	// Projections derive rows from the entries, in this order.
	Projections []ledger.Projection
	// Now is the clock; time.Now if nil. The ledger's time stands still while the clock runs backwards.
	Now func() time.Time
	// Readers is the most reads at a time; 4 if 0.
	Readers int
	// Fault, if not nil, is called on the writer's goroutine at "append" (after each), "before-commit",
	// "after-commit" (durable, not yet answered) and "outbox-claim" (written, not yet committed), and on the claimer's at
	// "outbox-claimed" (durable, not yet answered). "append" and "after-commit" are called again for each entry, with a
	// space and its kind. Crash tests kill the process there.
	Fault func(point string)

	inline int // instead of inlineBody
}

// Ledger is the SQLite ledger; it is a [ledger.Ledger] and a [ledger.Eraser].
type Ledger struct {
	path   string
	remove string // the folder of a throw-away ledger
	lock   *os.File

	// reading
	readers *sql.DB
	reads   *statements
	changed broadcast

	// writing
	writes      *sql.DB
	writer      *writer
	copier      *copier // none for a ledger that is thrown away
	projections []deriver
	layout      atomic.Pointer[layout]
	rebuilding  sync.Mutex // held by whoever derives rows anew
	trouble     atomic.Pointer[error]
	background  sync.WaitGroup
	stopAll     context.CancelFunc
	own         *holder
	key         ed25519.PrivateKey
	unclean     bool

	closeOnce sync.Once
	closeErr  error
}

var (
	_ ledger.Ledger = (*Ledger)(nil)
	_ ledger.Eraser = (*Ledger)(nil)
)

// Open opens the ledger at o.Path, making or migrating it where needed. One process only may have it open: a
// second one gets a [LockedError]. ctx bounds the opening, not the life of the ledger.
func Open(ctx context.Context, o Options) (*Ledger, error) {
	l := &Ledger{path: o.Path, projections: derivers(o.Projections), own: &holder{name: o.Owner}, key: o.Key}
	if o.Owner == "" {
		l.own = &holder{name: soleOwner, sole: true}
	}
	if err := l.open(ctx, o); err != nil {
		return nil, fmt.Errorf("open ledger: %w", errors.Join(l.explain(err), l.release()))
	}
	return l, nil
}

func (l *Ledger) open(ctx context.Context, o Options) error {
	o, err := complete(o)
	if err != nil {
		return err
	}
	if err := l.place(); err != nil {
		return err
	}
	pages := autoCheckpointPages
	if o.Synchronous != Off {
		pages = behindCopierPages
	}
	if l.writes, err = connect(l.path, 1, o.Synchronous, writerCacheKiB, pages, false); err != nil {
		return err
	}
	if l.readers, err = connect(l.path, o.Readers, o.Synchronous, readerCacheKiB, pages, true); err != nil {
		return err
	}
	if o.Synchronous != Off {
		if l.copier, err = startCopier(l.path, o.Synchronous); err != nil {
			return err
		}
	}
	l.reads = newStatements(l.readers)
	s, err := newSession(ctx, l.writes)
	if err != nil {
		return err
	}
	if err = migrate(ctx, s); err == nil {
		l.writer, err = startWriter(ctx, l, s, o)
	}
	if err != nil {
		return errors.Join(err, s.close())
	}
	l.reads.outside = l.writer.outside
	stale, err := l.writer.survey()
	if err != nil {
		return err
	}
	var beside context.Context
	beside, l.stopAll = context.WithCancel(context.WithoutCancel(ctx))
	l.background.Go(func() { l.rebuildStale(beside, stale) })
	return nil
}

func complete(o Options) (Options, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Readers <= 0 {
		o.Readers = defaultReaders
	}
	switch {
	case o.Synchronous == "" && o.Path == "":
		o.Synchronous = Off
	case o.Synchronous == "":
		o.Synchronous = Full
	}
	switch o.Synchronous {
	case Full, Normal, Off:
		return o, nil
	}
	return o, fmt.Errorf("synchronous %q is none of FULL, NORMAL, OFF", o.Synchronous)
}

// place finds or makes the file, readable by its owner only, and takes the lock.
func (l *Ledger) place() (err error) {
	if l.path == "" {
		if l.remove, err = makeTemporary(); err != nil {
			return err
		}
		l.path = filepath.Join(l.remove, "ledger.db")
	}
	if l.path, err = filepath.Abs(l.path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	if l.lock, err = takeLock(l.path + ".lock"); err != nil {
		return err
	}
	// The last connection to close removes the log.
	if info, err := os.Stat(l.path + "-wal"); err == nil && info.Size() > 0 {
		l.unclean = true
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// connect makes a pool. The pragmas and their order follow PocketBase's (core/db_connect.go): the busy timeout comes first,
// because setting the others may have to wait for a lock.
func connect(path string, most int, s Synchronous, cacheKiB, checkpointPages int, readOnly bool) (*sql.DB, error) {
	pragmas := []string{
		"busy_timeout(10000)", "journal_mode(WAL)", "journal_size_limit(67108864)",
		fmt.Sprintf("synchronous(%s)", s), "foreign_keys(ON)", "temp_store(MEMORY)",
		fmt.Sprintf("cache_size(-%d)", cacheKiB), fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
	}
	if readOnly {
		pragmas = append(pragmas, "query_only(ON)")
	} else {
		// A page that is split or emptied keeps no copy of what was on it, so that what is erased later is gone.
		pragmas = append(pragmas, "secure_delete(FAST)")
	}
	v := url.Values{"_pragma": pragmas, "_dqs": {"0"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+v.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db, nil
}

// Unclean says that the process that had the ledger open before did not close it. Nothing that was acknowledged is lost by that; it is the moment
// to look whether the disk kept what it was given.
func (l *Ledger) Unclean() bool { return l.unclean }

// Path is the database file.
func (l *Ledger) Path() string { return l.path }

// Changed implements [ledger.Reader]. Close closes the channel too.
func (l *Ledger) Changed() <-chan struct{} { return l.changed.wait() }

// Close ends the ledger: decisions that have begun are finished, those that wait get [ledger.ErrClosed].
// Closing again does nothing.
func (l *Ledger) Close() error {
	l.closeOnce.Do(func() {
		l.stopAll()
		l.writer.stop()
		l.background.Wait()
		l.changed.send()
		if err := l.release(); err != nil {
			l.closeErr = fmt.Errorf("close ledger: %w", err)
		}
	})
	return l.closeErr
}

// release gives back whatever open took, in reverse.
func (l *Ledger) release() error {
	var errs []error
	if l.copier != nil {
		errs = append(errs, l.copier.close())
	}
	if l.readers != nil {
		l.reads.close()
		errs = append(errs, l.readers.Close())
	}
	if l.writes != nil {
		// The last connection to close copies the log into the database and removes it.
		errs = append(errs, l.writes.Close())
	}
	if l.lock != nil {
		errs = append(errs, dropLock(l.lock))
	}
	if l.remove != "" {
		errs = append(errs, os.RemoveAll(l.remove))
	}
	return errors.Join(errs...)
}

// temporaryPrefix names the folders of throw-away ledgers.
const temporaryPrefix = "tiphys-ledger-"

// makeTemporary makes the folder of a throw-away ledger, and removes those that killed processes left behind.
func makeTemporary() (string, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), temporaryPrefix+"*", "ledger.db.lock"))
	if err != nil {
		return "", err
	}
	for _, lock := range old {
		f, err := takeLock(lock)
		if err != nil {
			continue // in use, or not ours
		}
		if dir := filepath.Dir(lock); strings.HasPrefix(filepath.Base(dir), temporaryPrefix) {
			// What cannot be removed now is tried again by the next one.
			_ = os.RemoveAll(dir)
		}
		_ = dropLock(f)
	}
	return os.MkdirTemp("", temporaryPrefix)
}

// broadcast wakes everybody who waits, once per send.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
