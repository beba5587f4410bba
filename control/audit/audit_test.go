package audit_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/audit"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// house is a ledger with an auditor that runs.
type house struct {
	*audit.Auditor
	t      *testing.T
	ctx    context.Context
	ledger ledger.Ledger
	o      audit.Options
}

func newHouse(t *testing.T, entries int) *house {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the test waited too long"))
	t.Cleanup(cancel)
	l, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "ledger.db"), Synchronous: sqlite.Off})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	dir := t.TempDir()
	key, err := ledger.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, ctx: ctx, ledger: l, o: audit.Options{Ledger: l, Folder: dir, Key: key}}
	h.append(entries)
	return h
}

func (h *house) append(n int) {
	h.t.Helper()
	err := h.ledger.Write(h.ctx, ledger.On("thing/1"), func(tx ledger.Tx) error {
		for range n {
			if _, err := tx.Append(ledger.Draft{Actor: "a", Kind: "thing.noted", Subject: "thing/1", Body: "x"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// run starts an auditor, as a server does.
func (h *house) run() {
	h.Auditor = audit.New(h.o)
	ctx, cancel := context.WithCancel(h.ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.Run(ctx) }()
	h.t.Cleanup(func() { cancel(); <-ended })
}

// ask verifies and gives where it began, how many entries it checked, and what it found.
func (h *house) ask(r audit.Request) (from, entries int64, trouble string) {
	h.t.Helper()
	if err := h.Ask(r); err != nil {
		h.t.Fatal(err)
	}
	s := h.Wait(h.ctx)
	if s.Running || s.Report == nil {
		h.t.Fatalf("state %+v", s)
	}
	return s.From.Seq, s.Report.Entries, h.Trouble()
}

func (h *house) want(r audit.Request, from, entries int64, trouble string) {
	h.t.Helper()
	f, n, text := h.ask(r)
	if f != from || n != entries || !strings.Contains(text, trouble) || (trouble == "") != (text == "") {
		h.t.Errorf("from %d, %d entries, trouble %q; want %d, %d, %q", f, n, text, from, entries, trouble)
	}
}

// A fresh verification goes on from where the ledger was last found whole, and what it finds is an alarm.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 10)
	h.run()
	h.want(audit.Request{Fresh: true}, 0, 10, "")
	h.append(5)
	h.want(audit.Request{Fresh: true, Storage: true}, 10, 5, "")
	h.want(audit.Request{}, 0, 15, "")
	// A head from elsewhere is compared with its entry, and everything is verified beside.
	e, err := h.ledger.Entry(h.ctx, 12)
	if err != nil {
		t.Fatal(err)
	}
	h.append(1)
	h.want(audit.Request{Since: ledger.HeadOf(e)}, 0, 16, "")
	h.append(1)
	h.want(audit.Request{Fresh: true}, 16, 1, "")
	// Another start goes on from it. One that somebody else signed is none.
	h.run()
	h.want(audit.Request{Fresh: true}, 17, 0, "")
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.o.Key = other
	h.run()
	h.want(audit.Request{Fresh: true}, 0, 17, "")
	// A change of an older entry is found by a whole verification, and then stands as an alarm.
	if err := os.WriteFile(filepath.Join(h.o.Folder, "ledger.verified"), []byte("no head"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.want(audit.Request{Fresh: true}, 0, 17, "")
}

// After an unclean end the ledger is verified without anybody asking.
func TestUncleanEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	h.o.Unclean = true
	h.run()
	s := h.Wait(h.ctx)
	if s.Report == nil || !s.Report.Whole() || s.Report.Entries != 3 || !s.Request.Storage || s.Reason != "the server had ended uncleanly" || !h.Health().Well() {
		t.Errorf("state %+v", s)
	}
}

// damaged is a ledger in whose file something is wrong, and whose verification waits to be let go.
type damaged struct {
	ledger.Ledger
	begun, proceed chan struct{}
}

func (d damaged) Verify(ctx context.Context, check ledger.Check) (ledger.Report, error) {
	check.Progress(ledger.Progress{Total: 7})
	close(d.begun)
	select {
	case <-d.proceed:
	case <-ctx.Done():
		return ledger.Report{}, ctx.Err()
	}
	r, err := d.Ledger.Verify(ctx, check)
	r.Damage = []string{"page 5 is damaged"}
	return r, err
}

// One verification runs at a time, and damage is shown by the service's health.
func TestAlarm(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	d := damaged{h.ledger, make(chan struct{}), make(chan struct{})}
	h.o.Ledger = d
	h.run()
	if err := h.Ask(audit.Request{Storage: true}); err != nil {
		t.Fatal(err)
	}
	<-d.begun
	if s := h.State(); !s.Running || s.Progress.Total != 7 {
		t.Errorf("state while it runs: %+v", s)
	}
	if err := h.Ask(audit.Request{}); !errors.Is(err, audit.ErrBusy) {
		t.Errorf("a second verification: %v", err)
	}
	if err := h.Ask(audit.Request{Storage: true}); err != nil {
		t.Errorf("the same once more: %v", err)
	}
	close(d.proceed)
	if s := h.Wait(h.ctx); s.Report == nil || s.Report.Whole() {
		t.Errorf("state %+v", s)
	}
	if g := h.Health(); g.State != control.Failing || !strings.Contains(g.Reason, "page 5 is damaged") || !strings.Contains(g.Reason, "tiphys ledger repair") {
		t.Errorf("health %+v", g)
	}
	if _, err := os.Stat(filepath.Join(h.o.Folder, "ledger.verified")); err == nil {
		t.Error("a damaged ledger left a checkpoint")
	}
}
