package sqlite

import (
	"context"
	"database/sql"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// autoCheckpointPages (of 4 KiB) of log make the commit that reaches them copy the log into the database. Where a copier runs
	// it is only for the case that the copier cannot keep up.
	autoCheckpointPages = 4000
	behindCopierPages   = 16_000
	// copyEvery bytes of entries and rows wake the copier.
	copyEvery = 4 << 20
	// maxLogBytes of log, which only a reader that stays long can cause, make the writer wait for the readers and start the log anew.
	maxLogBytes = 128 << 20
	// checkLogEvery is the number of commits between two looks at the size of the log.
	checkLogEvery = 256
	// longLogPages of log are begun anew when there is a moment for it: right after a commit when all has been copied.
	longLogPages = 6000
	// passTimeout bounds one pass.
	passTimeout = time.Minute
)

// copier copies the log into the database beside the writer, so that no decision waits for it.
type copier struct {
	db   *sql.DB
	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}
	// one is held by whoever copies: SQLite refuses a second one at a time.
	one sync.Mutex
	// long says that the log has been copied but for what was written meanwhile, and is long.
	long atomic.Bool
}

func startCopier(path string, s Synchronous) (*copier, error) {
	db, err := connect(path, 1, s, readerCacheKiB, behindCopierPages, false)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &copier{db: db, wake: make(chan struct{}, 1), stop: cancel, done: make(chan struct{})}
	go c.loop(ctx)
	return c, nil
}

func (c *copier) loop(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.pass(ctx)
	}
}

// pass copies what may be copied without anybody waiting. What fails is tried again at the next wake, and by SQLite itself when the
// log has grown.
func (c *copier) pass(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	c.one.Lock()
	defer c.one.Unlock()
	var busy, pages, copied int
	if err := c.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied); err == nil && pages >= longLogPages {
		c.long.Store(true)
	}
}

func (c *copier) close() error {
	c.stop()
	<-c.done
	return c.db.Close()
}

// checkpoint keeps the log short after a commit of so many bytes.
func (w *writer) checkpoint(bytes int) {
	w.commits++
	if c := w.ledger.copier; c != nil {
		if w.uncopied += bytes; w.uncopied >= copyEvery {
			w.uncopied = 0
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
		if c.long.Load() && c.one.TryLock() {
			// What is left is little. Nothing is written after it before the next transaction, which finds all copied and begins
			// the log anew.
			c.long.Store(false)
			w.copyLog("PASSIVE")
			c.one.Unlock()
		}
	}
	if w.commits%checkLogEvery != 0 {
		return
	}
	if info, err := os.Stat(w.ledger.path + "-wal"); err != nil || info.Size() < maxLogBytes {
		return
	}
	w.truncateLog()
}

// truncateLog copies the log into the database and empties it. It is tried again later where readers are in the way.
func (w *writer) truncateLog() {
	if c := w.ledger.copier; c != nil {
		c.one.Lock()
		defer c.one.Unlock()
	}
	w.copyLog("TRUNCATE")
}

func (w *writer) copyLog(mode string) {
	var busy, pages, copied int
	_ = w.session.conn.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &copied)
}
