// Package audit verifies the ledger beside the server: after an unclean end, and when somebody asks.
package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// checkpointFile keeps, in the data folder, the signed head up to which the ledger was found whole.
const checkpointFile = "ledger.verified"

// checkpointEvery is how many entries are verified between two checkpoints, so that a long verification that was ended can go on.
const checkpointEvery = 100_000

// Options of an Auditor. Ledger, Folder and Key are required.
type Options struct {
	Ledger ledger.Ledger
	// Folder is where the checkpoint is kept.
	Folder string
	// Key signs checkpoints; one that was signed by another key counts for none.
	Key ed25519.PrivateKey
	// Unclean says that the ledger was not closed by the process that had it open before: it is verified at once, with its storage.
	Unclean bool
	Now     func() time.Time
	Log     *slog.Logger
}

// Request is what is to be verified. The zero value is every entry.
type Request struct {
	// Since, if not zero, is an earlier head: its entry must be there, unchanged.
	Since ledger.Head `json:"since,omitzero"`
	// Fresh goes on from the last checkpoint instead of the start.
	Fresh bool `json:"fresh,omitempty"`
	// Storage has the pages and indexes of the storage checked too.
	Storage bool `json:"storage,omitempty"`
	// Rows has the lists derived anew from the entries and compared with those that are read.
	Rows bool `json:"rows,omitempty"`
}

// State is the verification that runs, or the last one.
type State struct {
	Request Request `json:"request"`
	// Reason says why: "asked", or "the server had ended uncleanly".
	Reason   string          `json:"reason,omitempty"`
	Running  bool            `json:"running"`
	Progress ledger.Progress `json:"progress"`
	// From is the head that it began at, zero for the start.
	From    ledger.Head `json:"from,omitzero"`
	Started time.Time   `json:"started,omitzero"`
	Ended   time.Time   `json:"ended,omitzero"`
	// Report is what was found; nil while it runs and where it could not be done, which Error explains.
	Report *ledger.Report `json:"report,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// ErrBusy says that another verification runs.
var ErrBusy = failure.New(failure.Conflict, "another verification of the ledger is running: wait for its end")

// Auditor verifies, one at a time. It is a control.Service.
type Auditor struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed when the state changes
}

var _ control.Service = (*Auditor)(nil)

// New returns an auditor; nothing happens until Run.
func New(o Options) *Auditor {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Auditor{o: o, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	if o.Unclean {
		_ = a.ask(Request{Fresh: true, Storage: true}, "the server had ended uncleanly") // nothing runs yet
	}
	return a
}

// Ask has the ledger verified, and returns at once. The same request as the one that runs joins it.
func (a *Auditor) Ask(r Request) error { return a.ask(r, "asked") }

func (a *Auditor) ask(r Request, reason string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.Running {
		if a.state.Request == r {
			return nil
		}
		return ErrBusy
	}
	a.set(State{Request: r, Reason: reason, Running: true, Started: a.o.Now().UTC()})
	select {
	case a.wake <- struct{}{}:
	default: // it is awake
	}
	return nil
}

// set is called with mu held.
func (a *Auditor) set(s State) {
	a.state = s
	close(a.changed)
	a.changed = make(chan struct{})
}

// State is the verification that runs, or the last one.
func (a *Auditor) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// Wait returns the state when no verification runs, or when ctx ends.
func (a *Auditor) Wait(ctx context.Context) State {
	for {
		a.mu.Lock()
		state, changed := a.state, a.changed
		a.mu.Unlock()
		if !state.Running {
			return state
		}
		select {
		case <-ctx.Done():
			return state
		case <-changed:
		}
	}
}

// Name implements control.Service.
func (*Auditor) Name() string { return "audit" }

// Start implements control.Service.
func (*Auditor) Start(context.Context) error { return nil }

// Run implements control.Service.
func (a *Auditor) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		}
		a.verify(ctx)
	}
}

// Health implements control.Service: a ledger that is not whole is an alarm.
func (a *Auditor) Health() control.Health {
	if t := a.Trouble(); t != "" {
		return control.Health{State: control.Failing, Reason: t, Since: a.State().Ended}
	}
	return control.Health{}
}

// Trouble says for people what the last verification found wrong; empty if nothing was.
func (a *Auditor) Trouble() string {
	r := a.State().Report
	switch {
	case r == nil || r.Whole():
		return ""
	case len(r.Faults) == 0 && len(r.Differences) > 0:
		return fmt.Sprintf("what is shown is not what was recorded (%s): stop the server and have the lists made again with `tiphys ledger repair`", r.Differences[0])
	case len(r.Damage) > 0:
		return fmt.Sprintf("the ledger's file is damaged (%s): stop the server, make a whole copy with `tiphys ledger repair`, and look at the disk", r.Damage[0])
	}
	return fmt.Sprintf("the ledger is not what was written (entry %d: %s): see `tiphys ledger verify`, and restore a backup", r.Faults[0].Seq, r.Faults[0].What)
}

// verify carries out what was asked for.
func (a *Auditor) verify(ctx context.Context) {
	a.mu.Lock()
	state := a.state
	a.mu.Unlock()
	from := ledger.Head{}
	var err error
	if state.Request.Fresh && state.Request.Since.Seq == 0 {
		if from, err = a.checkpoint(); err != nil {
			a.o.Log.Warn("the last checkpoint of the ledger's verification is not used: it is verified from the start", "error", err)
			from = ledger.Head{}
		}
	}
	saved := from.Seq
	report, err := a.o.Ledger.Verify(ctx, ledger.Check{Since: state.Request.Since, From: from, Storage: state.Request.Storage, Rows: state.Request.Rows, Progress: func(p ledger.Progress) {
		a.mu.Lock()
		state.From, state.Progress = from, p
		a.set(state)
		a.mu.Unlock()
		if p.Faults == 0 && !p.Rows && p.Checked.Seq >= saved+checkpointEvery {
			saved = p.Checked.Seq
			a.save(p.Checked)
		}
	}})
	if ctx.Err() != nil {
		return // it goes on from its checkpoint when it is asked for again
	}
	state.Running, state.From, state.Ended = false, from, a.o.Now().UTC()
	if err != nil {
		state.Error = err.Error()
		a.o.Log.Error("verify ledger", "error", err)
	} else {
		state.Report = &report
		if report.Whole() && report.Head.Seq > 0 {
			a.save(report.Head)
		}
		if !report.Whole() {
			a.o.Log.Error("the ledger is not whole", "faults", len(report.Faults), "damage", report.Damage, "rows", report.Differences)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set(state)
}

// checkpoint is the head up to which the ledger was found whole; zero if it never was.
func (a *Auditor) checkpoint() (ledger.Head, error) {
	var h ledger.Head
	raw, err := os.ReadFile(filepath.Join(a.o.Folder, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &h)
	}
	if err == nil {
		public, _ := a.o.Key.Public().(ed25519.PublicKey) // an Ed25519 key has one
		err = ledger.VerifyHead(h, public)
	}
	return h, err
}

// save keeps a checkpoint. One that is lost only makes the next verification longer.
func (a *Auditor) save(h ledger.Head) {
	h, err := ledger.SignHead(h, a.o.Key)
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(h)
	}
	path := filepath.Join(a.o.Folder, checkpointFile)
	if err == nil {
		err = datafolder.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		a.o.Log.Warn("keep the checkpoint of the ledger's verification", "error", err)
	}
}
