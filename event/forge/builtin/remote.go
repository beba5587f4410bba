// Package builtin is the Git remote that is part of the server: bare repositories in a folder, served over
// Git's smart HTTP protocol by the system's git, with merge requests kept in the ledger.
//
// What is on disk and what is in the ledger are kept together without a common transaction: before a ref is
// changed the intention is recorded (push.intended), afterwards each change is confirmed (ref.changed and its
// event, and what it does to merge requests, in one transaction). Whatever is missing after a crash is found
// by comparing the refs with the ledger ([Remote.Reconcile]); the recorded intention says who made the change
// and why. A change is confirmed once, because confirming moves the ledger's idea of the ref.
package builtin

import (
	"strconv"

	"github.com/tiphys/tiphys/repo/git"

	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Options of a Remote. Dir, Ledger and Hook are required.
type Options struct {
	// Dir holds the bare repositories and nothing else; it is made if it does not exist.
	Dir string
	// Ledger is the record. It must have been opened with [Projection].
	Ledger ledger.Ledger
	// Hook is the absolute path of the executable that git runs as pre-receive and post-receive hook; see [HookMain].
	Hook string
	// Callers says who sends a request; nil means that nobody is authenticated and that everybody may create repositories.
	Callers forge.Callers
	// BaseURL is the server's address as users write it, without a trailing slash: "http://localhost:8080".
	BaseURL string
	// Names are further host names under which the server is reached: URLs with them name this remote's repositories, too.
	Names []string
	// CreateOnPush lets anybody who may push create a repository by its first push; else only an admin may.
	CreateOnPush bool
	// Record writes an event of a repository and returns its entry; nil appends an event.received entry, whose subject lives with the repository.
	Record func(tx ledger.Tx, repo string, e event.Event, cause ledger.Ref) (ledger.Ref, error)
	// Address names the EventSource under which a repository's events appear; nil means namespace default,
	// source git, and the repository's name as the event name.
	Address func(repo string) (namespace, source, subject string)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log receives what no caller can be told; nil discards it.
	Log *slog.Logger
	// Fault is called at the named points of a push and of a merge, for crash tests: ref-update (intended,
	// refs not changed yet), before-confirm (refs changed, not recorded), after-confirm (recorded); and at repo-record, when
	// a new repository is on record and not on disk.
	Fault func(point string)
	// Git is the git executable; empty means the first in PATH.
	Git string
	// MaxPush is the most bytes of one push, compressed or not; 0 means 2 GiB.
	MaxPush int64
	// Idle ends a transfer in which nothing moves for that long; 0 means 2 minutes.
	Idle time.Duration
	// Longest is the most time that one transfer may take; 0 means 1 hour.
	Longest time.Duration
}

// anybody takes everybody.
type anybody struct{}

// Caller implements [forge.Callers].
func (anybody) Caller(*http.Request) (forge.Caller, error) { return forge.Caller{Creates: true}, nil }

// Remote is the built-in Git remote. It implements forge.Forge. Every method is safe for concurrent use.
type Remote struct {
	opt      Options
	ledger   ledger.Ledger
	log      *slog.Logger
	git      *git.Runner
	listener net.Listener
	socket   string
	troubles failure.Troubles

	mu    sync.Mutex
	locks map[string]chan struct{}
	live  map[string]*livePush
	wg    sync.WaitGroup
}

// New checks git and the folder, and starts to listen for hooks. Call [Remote.Reconcile] before serving, and Close at the end.
func New(opt Options) (*Remote, error) {
	if opt.Dir == "" || opt.Ledger == nil || opt.Hook == "" {
		return nil, errors.New("open git remote: folder, ledger and hook executable are required")
	}
	if err := opt.setDefaults(); err != nil {
		return nil, err
	}
	r := &Remote{opt: opt, ledger: opt.Ledger, log: opt.Log, locks: map[string]chan struct{}{}, live: map[string]*livePush{}}
	for _, dir := range []string{opt.Dir, filepath.Join(opt.Dir, trashFolder)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open git remote: %w", err)
		}
	}
	hooks, err := installHooks(opt.Dir, opt.Hook)
	if err != nil {
		return nil, fmt.Errorf("open git remote: install hooks: %w", err)
	}
	r.git = newGit(opt.Git, hooks, opt.MaxPush)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.git.CheckVersion(ctx); err != nil {
		return nil, fmt.Errorf("open git remote: %w", err)
	}
	if err := r.initBare(ctx, filepath.Join(opt.Dir, emptyRepository), "main"); err != nil {
		return nil, fmt.Errorf("open git remote: %w", err)
	}
	if err := r.listenForHooks(ctx); err != nil {
		return nil, fmt.Errorf("open git remote: listen for hooks: %w", err)
	}
	return r, nil
}

func (o *Options) setDefaults() error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("open git remote: %w", err)
	}
	o.Dir = dir
	o.BaseURL = strings.TrimRight(o.BaseURL, "/")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	if o.Callers == nil {
		o.Callers = anybody{}
	}
	if o.Record == nil {
		o.Record = recordEvent
	}
	if o.Address == nil {
		o.Address = func(repo string) (string, string, string) { return "default", "git", repo }
	}
	if o.MaxPush <= 0 {
		o.MaxPush = 2 << 30
	}
	if o.Idle <= 0 {
		o.Idle = 2 * time.Minute
	}
	if o.Longest <= 0 {
		o.Longest = time.Hour
	}
	return nil
}

// Close stops listening for hooks and waits for the hook calls in progress.
func (r *Remote) Close() error {
	err := r.listener.Close()
	r.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close git remote: %w", err)
	}
	return nil
}

// reconciling is what is in trouble while repositories cannot be compared with the record.
const reconciling = "compare the repositories with the record"

// Trouble says for people what does not succeed and is tried again; empty for nothing.
func (r *Remote) Trouble() string { return r.troubles.Text() }

// Settle is [Remote.Reconcile] of a server, which a repository that cannot be compared does not keep from serving the others: it is trouble, and
// tried again after a while.
func (r *Remote) Settle(ctx context.Context, again time.Duration) {
	err := r.Reconcile(ctx)
	if err == nil || ctx.Err() != nil {
		r.troubles.Over(reconciling)
		return
	}
	if r.troubles.Note(reconciling, err) {
		r.log.Error("reconcile git repositories; trying again", "after", again, "error", err)
	}
}

// Run reconciles at once and then every so often until the context ends, which is no error.
func (r *Remote) Run(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		r.Settle(ctx, every)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// lock keeps others from settling or merging in one repository. Everything that reads a repository's state in
// order to change it holds the lock from the reading to the commit.
func (r *Remote) lock(ctx context.Context, repo string) (unlock func(), err error) {
	r.mu.Lock()
	c, ok := r.locks[repo]
	if !ok {
		c = make(chan struct{}, 1)
		r.locks[repo] = c
	}
	r.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for repository %s: %w", repo, ctx.Err())
	}
}

// newID is a random name for a push, with its time in front so that names sort.
func (r *Remote) newID() (string, error) {
	var b [10]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return r.opt.Now().UTC().Format("20060102T150405.000000") + "-" + hex.EncodeToString(b[:]), nil
}

// newGit runs git as the remote's repositories need it.
func newGit(path, hooks string, maxPush int64) *git.Runner {
	return git.New(path,
		git.Setting{Key: "core.hooksPath", Value: hooks},
		git.Setting{Key: "receive.advertisePushOptions", Value: "true"},
		git.Setting{Key: "receive.autogc", Value: "false"}, // gc would outlive the push; Maintain does it
		git.Setting{Key: "receive.maxInputSize", Value: strconv.FormatInt(maxPush, 10)},
		git.Setting{Key: "receive.hideRefs", Value: mrRefs},
		git.Setting{Key: "transfer.fsckObjects", Value: "true"},
		git.Setting{Key: "transfer.hideRefs", Value: "refs/tiphys"},
		git.Setting{Key: "transfer.advertiseSID", Value: "false"},
		git.Setting{Key: "protocol.version", Value: "2"},
		git.Setting{Key: "uploadpack.allowFilter", Value: "true"},
		git.Setting{Key: "gc.autoDetach", Value: "false"},
		git.Setting{Key: "core.fsync", Value: "committed,loose-object,reference"}, // a confirmed push must survive a power cut
	)
}
