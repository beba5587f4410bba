package posts

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/forgetest"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/secret"
)

const sha = "2222222222222222222222222222222222222222"

// desk is a controller over a real ledger, with a forge elsewhere and time that the test moves.
type desk struct {
	*Controller
	t     *testing.T
	forge *forgetest.Scripted
	now   time.Time
}

type token struct{}

func (token) Token(context.Context) (secret.Value, error) {
	return secret.New(forgetest.ScriptedToken), nil
}

// Instance implements Instances: "lab" is the one forge.
func (d *desk) Instance(_ context.Context, name string) (forge.Instance, error) {
	if name != "ci/lab" {
		return forge.Instance{}, fmt.Errorf("forge %s: %w", name, forge.ErrNotFound)
	}
	return forge.Instance{Name: name, Forge: d.forge.Client(token{})}, nil
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, forge: forgetest.NewScripted(t), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	clock := func() time.Time { return d.now }
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Now: clock, Projections: []ledger.Projection{Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d.Controller = New(Options{Ledger: l, Forges: d, Now: clock, Log: slog.New(slog.DiscardHandler)})
	return d
}

func (d *desk) status(name, state string) {
	d.t.Helper()
	ctx := forge.WithBy(d.t.Context(), forge.By{Actor: "step:x"})
	if err := d.SetStatus(ctx, "ci/lab", "team/harbour", sha, forge.Status{State: state, Context: name}); err != nil {
		d.t.Fatal(err)
	}
}

// pass lets time go by, and sends what is due then. It returns how long the next waits; -1 if nothing is left.
func (d *desk) pass(by time.Duration) time.Duration {
	d.t.Helper()
	d.now = d.now.Add(by)
	next, err := d.send(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	if next.IsZero() {
		return -1
	}
	return next.Sub(d.now)
}

// there are the statuses that the forge has.
func (d *desk) there() string {
	var all []string
	for _, s := range d.forge.Statuses(sha) {
		all = append(all, s.Context+" "+s.State)
	}
	return strings.Join(all, ", ")
}

// states are the rows: "state attempts" by the last part of the key.
func (d *desk) states() map[string]string {
	d.t.Helper()
	rows, err := d.o.Ledger.List(d.t.Context(), ledger.Query{Table: Table})
	if err != nil {
		d.t.Fatal(err)
	}
	out := map[string]string{}
	for _, row := range rows {
		var r Row
		if err := json.Unmarshal(row.Body, &r); err != nil {
			d.t.Fatal(err)
		}
		out[row.Key[strings.LastIndex(row.Key, "/")+1:]] = fmt.Sprint(r.State, " ", r.Attempts)
	}
	return out
}

// A forge that is down for a minute loses nothing: it gets the latest status of each context when it is back, once.
func TestAForgeThatIsDownLosesNothing(t *testing.T) {
	d := newDesk(t)
	d.forge.Trouble("down", 0)
	d.status("build", "pending")
	d.status("lint", "running")
	if err := d.Comment(t.Context(), "ci/lab", "team/harbour", 1, "preview", "http://mr-1"); err != nil {
		t.Fatal(err)
	}
	d.pass(0)
	d.status("build", "success") // takes the place of pending
	for range 4 {
		d.pass(15 * time.Second)
	}
	if h := d.Health(); h.Well() && h.Reason == "" {
		t.Error("nothing shows that the forge is down")
	}
	d.forge.Trouble("", 0)
	for range 10 {
		if d.pass(30*time.Second) == -1 {
			break
		}
	}
	if got := d.there(); got != "build success, lint running" && got != "lint running, build success" {
		t.Errorf("the forge has %s", got)
	}
	if got := d.forge.Comments(); fmt.Sprint(got) != "[http://mr-1]" {
		t.Errorf("comments %q", got)
	}
	for key, state := range d.states() {
		if !strings.HasPrefix(state, "sent ") {
			t.Errorf("%s is %s", key, state)
		}
	}
	if h := d.Health(); h.Reason != "" {
		t.Errorf("it is up again, and health says %s", h.Reason)
	}
	asked := d.forge.Requests()
	d.status("build", "success")
	if d.pass(time.Hour) != -1 || d.forge.Requests() != asked {
		t.Error("what was said already was said again")
	}
}

// A forge that limits requests is left alone for as long as it says, with everything.
func TestALimitIsKept(t *testing.T) {
	d := newDesk(t)
	d.forge.Trouble("limited", 10*time.Minute)
	d.status("build", "pending")
	d.status("lint", "running")
	if next := d.pass(0); next != 10*time.Minute || d.forge.Requests() != 1 {
		t.Errorf("the next waits %s after %d requests", next, d.forge.Requests())
	}
	d.pass(9 * time.Minute)
	d.status("test", "running")
	d.pass(0)
	if d.forge.Requests() != 1 {
		t.Errorf("within the time it was asked %d times", d.forge.Requests())
	}
	d.forge.Trouble("", 0)
	if next := d.pass(time.Minute); next != -1 || len(d.forge.Statuses(sha)) != 3 {
		t.Errorf("afterwards the next waits %s, and the forge has %s", next, d.there())
	}
}

// An answer that did not arrive is asked for again; what was done is there once.
func TestALostAnswerIsRepeated(t *testing.T) {
	d := newDesk(t)
	d.forge.Trouble("lost", 0)
	if err := d.Comment(t.Context(), "ci/lab", "team/harbour", 1, "preview", "http://mr-1"); err != nil {
		t.Fatal(err)
	}
	next := d.pass(0)
	d.forge.Trouble("", 0)
	if d.pass(next) != -1 || len(d.forge.Comments()) != 1 {
		t.Errorf("comments %q", d.forge.Comments())
	}
}

// What a forge will never take is given up, and says why; what comes behind it is sent.
func TestWhatIsNeverTakenIsGivenUp(t *testing.T) {
	d := newDesk(t)
	if err := d.Comment(t.Context(), "ci/lab", "team/harbour", 4711, "preview", "text"); err != nil {
		t.Fatal(err)
	}
	d.status("build", "success")
	if next := d.pass(0); next != -1 || d.there() != "build success" {
		t.Errorf("the next waits %s, and the forge has %s", next, d.there())
	}
	if got := fmt.Sprint(d.states()); got != "map[build:sent 1 preview:failed 1]" {
		t.Errorf("states %s", got)
	}
	if err := d.SetStatus(t.Context(), "ci/none", "r", sha, forge.Status{State: "success"}); failure.KindOf(err) != failure.NotFound {
		t.Errorf("a forge that is not declared: %v", err)
	}
	d.forge.Trouble("refused", 0)
	d.status("build", "failed")
	for d.pass(5*time.Minute) != -1 {
		if d.forge.Requests() > 1000 {
			t.Fatal("it is never given up")
		}
	}
	if got := d.states()["build"]; !strings.HasPrefix(got, "failed ") {
		t.Errorf("after a day it is %s", got)
	}
}
