// Package hold keeps a server that was restored from a backup from acting until somebody releases it. What ran after the backup was made is not
// in the record any more, so that going on would do it a second time: the operator looks at what would happen (the plan) and says go.
//
// That a server is held is an entry of its ledger, which the restore writes, and so is its release. Nothing else says so: a server that
// is killed meanwhile is as held as before.
package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Subject is what the entries of restores and releases are about.
const Subject = "server/restore"

// The kinds of entries.
const (
	KindRestored = "server.restored"
	KindReleased = "server.released"
)

// Restored is the body of a server.restored entry.
type Restored struct {
	// Epoch is the server's from now on: a number above all that it had before.
	Epoch int64 `json:"epoch"`
	// Backup is the id of the backup, and Made when it was begun.
	Backup string    `json:"backup"`
	Made   time.Time `json:"made"`
	// Head is the last entry of the ledger in the backup.
	Head ledger.Head `json:"head"`
	// WithoutKeys says that the keys were not restored: what they sealed cannot be read.
	WithoutKeys bool `json:"withoutKeys,omitempty"`
}

// Released is the body of a server.released entry.
type Released struct {
	Epoch int64 `json:"epoch"`
	// Left are the items of the plan that were left out.
	Left []string `json:"left,omitempty"`
}

// State says whether a server is held.
type State struct {
	// Epoch is 0 for a server that was never restored.
	Epoch int64 `json:"epoch"`
	Held  bool  `json:"held"`
	// Since is when it was restored, from what; zero for one that never was.
	Since    time.Time `json:"since,omitzero"`
	Restored Restored  `json:"restored,omitzero"`
	// Seq is the entry that says so.
	Seq int64 `json:"seq,omitempty"`
}

// Read reads the state from a ledger.
func Read(ctx context.Context, l ledger.Reader) (State, error) {
	var s State
	entries, err := l.Entries(ctx, ledger.EntryQuery{Subject: Subject, Newest: true, Limit: 2})
	if err != nil {
		return s, fmt.Errorf("read whether the server is held: %w", err)
	}
	for i, e := range entries {
		if e.Kind != KindRestored {
			continue // released; the one before it says from what
		}
		if err := json.Unmarshal(e.Body, &s.Restored); err != nil {
			return s, fmt.Errorf("read whether the server is held: entry %d: %w", e.Seq, err)
		}
		s.Epoch, s.Held, s.Since, s.Seq = s.Restored.Epoch, i == 0, e.Time, e.Seq
		return s, nil
	}
	return s, nil
}

// Raise records a restore. The epoch is the time in milliseconds, and above the one before: a backup that is restored twice gives
// two epochs, unlike a count would.
func Raise(ctx context.Context, l ledger.Ledger, r Restored, actor string, now time.Time) (State, error) {
	before, err := Read(ctx, l)
	if err != nil {
		return before, err
	}
	r.Epoch = max(now.UnixMilli(), before.Epoch+1)
	err = l.Write(ctx, ledger.On(Subject), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: actor, Kind: KindRestored, Subject: Subject, Body: r})
		return err
	})
	if err != nil {
		return before, fmt.Errorf("record the restore: %w", err)
	}
	return Read(ctx, l)
}

// ErrHeld refuses what would act.
var ErrHeld = failure.New(failure.RetryAfter, "the server was restored from a backup and is held: nothing acts until it is released")

// Hint says what to do about ErrHeld.
const Hint = "see what would then happen with: tiphys restore --plan; then: tiphys restore --release"

// retryAfter is when a sender that was refused is told to come again.
const retryAfter = time.Minute

// Hold is the state of a server that runs. Create it with New; methods are safe for concurrent use.
type Hold struct {
	ledger   ledger.Ledger
	released chan struct{}
	begun    chan struct{}

	mu    sync.Mutex
	state State
	// waiting is how many services wait for the release, or for their start after it.
	waiting int
}

// New returns the hold of a server that was opened in a state.
func New(l ledger.Ledger, s State) *Hold {
	h := &Hold{ledger: l, released: make(chan struct{}), begun: make(chan struct{}), state: s}
	if !s.Held {
		close(h.released)
		close(h.begun)
	}
	return h
}

// State gives the state now.
func (h *Hold) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// Refuse is the error of who would act while the server is held, or is released and does not do all of its work yet; nil otherwise.
func (h *Hold) Refuse() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.state.Held && h.waiting == 0 {
		return nil
	}
	return failure.Later(retryAfter, failure.WithHint(ErrHeld, Hint))
}

// Reason says for people that the server is held and since when; empty if it is not.
func (h *Hold) Reason() string {
	s := h.State()
	if !s.Held {
		return ""
	}
	return fmt.Sprintf("held since %s after a restore of the state of %s: see tiphys restore --plan",
		s.Since.UTC().Format(time.RFC3339), s.Restored.Made.UTC().Format(time.RFC3339))
}

// Wait waits until the server is released; an error is the context's.
func (h *Hold) Wait(ctx context.Context) error {
	select {
	case <-h.released:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Begun waits until every service that was held has started; an error is the context's.
func (h *Hold) Begun(ctx context.Context) error {
	select {
	case <-h.begun:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// started notes that a service which was held has started.
func (h *Hold) started() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting--; h.waiting == 0 {
		close(h.begun)
	}
}

// Release records the release and lets everything act from now on. left are the items of the plan that were left out. Releasing what is
// released already is a Conflict.
func (h *Hold) Release(ctx context.Context, actor string, left []string) (State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.state.Held {
		return h.state, failure.Errorf(failure.Conflict, "release the server: it is not held")
	}
	body := Released{Epoch: h.state.Epoch, Left: left}
	err := h.ledger.Write(ctx, ledger.On(Subject), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: actor, Kind: KindReleased, Subject: Subject, Cause: ledger.At(h.state.Seq), Body: body,
			Unique: fmt.Sprintf("%s/%d", KindReleased, h.state.Epoch)})
		return err
	})
	if err != nil && !errors.Is(err, ledger.ErrExists) {
		return h.state, fmt.Errorf("release the server: %w", err)
	}
	h.state.Held = false
	close(h.released)
	if h.waiting == 0 {
		close(h.begun)
	}
	return h.state, nil
}

// Service makes a service start when the server is released. Until then it is shown as waiting. It is called before the release.
func (h *Hold) Service(s control.Service) control.Service {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.Held {
		h.waiting++
	}
	return &held{hold: h, inner: s, waits: h.state.Held}
}

// held is a service that waits for the release.
type held struct {
	hold  *Hold
	inner control.Service
	// waits says that it has not started since the release; Run alone has it.
	waits bool

	mu      sync.Mutex
	started bool
}

// Name implements control.Service.
func (s *held) Name() string { return s.inner.Name() }

// Start implements control.Service.
func (s *held) Start(ctx context.Context) error {
	if s.hold.State().Held {
		return nil
	}
	if err := s.inner.Start(ctx); err != nil {
		return err
	}
	s.note(true)
	return nil
}

// Run implements control.Service.
func (s *held) Run(ctx context.Context) error {
	if s.hold.Wait(ctx) != nil {
		return nil // its end was asked for
	}
	if !s.isStarted() {
		if err := s.inner.Start(ctx); err != nil {
			return err
		}
		s.note(true)
	}
	if s.waits {
		s.waits = false
		s.hold.started()
	}
	// One that gives up is started again by Start.
	defer s.note(false)
	return s.inner.Run(ctx)
}

// Health implements control.Service.
func (s *held) Health() control.Health {
	if !s.isStarted() {
		if state := s.hold.State(); state.Held {
			return control.Health{State: control.Waiting, Reason: s.hold.Reason(), Since: state.Since}
		}
		return control.Health{State: control.Starting}
	}
	return s.inner.Health()
}

func (s *held) note(started bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = started
}

func (s *held) isStarted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}
