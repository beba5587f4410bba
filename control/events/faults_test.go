package events

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// failing is a ledger of which some writes fail at their end, as on a full disk: nothing of them is kept.
type failing struct {
	ledger.Ledger
	writes int // that fail from now on
}

var errDisk = errors.New("the disk is full")

func (f *failing) Write(ctx context.Context, about ledger.Scope, fn func(ledger.Tx) error) error {
	return f.Ledger.Write(ctx, about, func(tx ledger.Tx) error {
		err := fn(tx)
		if f.writes > 0 {
			f.writes--
			return errors.Join(err, errDisk)
		}
		return err
	})
}

// fail has the next writes of a room fail. Its waits pass at once.
func (r *room) fail(writes int) {
	r.o.Ledger = &failing{Ledger: r.o.Ledger, writes: writes}
	r.clock = patient{r}
}

// patient is a clock for which a wait is over as soon as it begins.
type patient struct{ r *room }

func (p patient) Now() time.Time { return p.r.now }

func (p patient) Wait(ctx context.Context, until time.Time) error {
	p.r.now = until
	return ctx.Err()
}

// A firing that was carried out and could not be recorded is recorded later, and not carried out again.
func TestAFiringThatIsNotRecordedIsNotCarriedOutAgain(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer s.Close()
	r := newRoom(t, nil)
	f := httpFiring("f", s.URL)
	r.write(f)
	r.fail(3)
	r.fire(t.Context(), f)
	for range 3 {
		r.due(lease)
	}
	if got := r.state("f"); got != "done 1" || asked != 1 {
		t.Errorf("the firing is %q and was carried out %d times", got, asked)
	}
}

// A firing that nobody can read is a dead letter with its reason, and does not come again.
func TestAnUnreadableFiringIsADeadLetter(t *testing.T) {
	r := newRoom(t, nil)
	r.write(httpFiring("f", "http://127.0.0.1:1"))
	r.now = r.now.Add(2 * lease)
	works, err := r.o.Ledger.Outbox().Claim(t.Context(), queue, 1, lease)
	if err != nil || len(works) != 1 {
		t.Fatal(works, err)
	}
	works[0].Body = json.RawMessage(`{"key": 1}`)
	r.leftover(t.Context(), works[0])
	if got := r.state("f"); !strings.HasPrefix(got, "dead 1 the firing cannot be read") || r.next() != -1 {
		t.Errorf("the firing is %q, the next waits %s", got, r.next())
	}
}

const both = `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s, namespace: ports}
spec:
  dependencies:
  - {name: a, eventSourceName: in, eventName: a}
  - {name: b, eventSourceName: in, eventName: b}
  triggers: [{template: {name: say, log: {}}}]
`

func (r *room) declare(text string) {
	r.t.Helper()
	objects, _ := manifest.Decode("s.yaml", []byte(text))
	if _, err := r.o.Definitions.Apply(r.t.Context(), "user:ada", "api", objects); err != nil {
		r.t.Fatal(err)
	}
}

// step decides on what is new, and gives what the latest decision says.
func (r *room) step(after int64) (int64, error) {
	r.t.Helper()
	for {
		next, err := r.decideSome(r.t.Context(), after)
		if err != nil || next == after {
			return next, err
		}
		after = next
	}
}

func (r *room) decisions() []string {
	r.t.Helper()
	entries, err := r.o.Ledger.Entries(r.t.Context(), ledger.EntryQuery{Kinds: []string{event.KindDecided}})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		d, err := ledger.Read[event.Decided](e)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, one := range d.Decisions {
			out = append(out, one.Sensor+" "+one.Outcome)
		}
	}
	return out
}

func (r *room) happens(subject string) {
	r.t.Helper()
	e := event.Event{ID: r.newID(), Type: "webhook", Namespace: "ports", Source: "in", Subject: subject, Time: r.now, Data: json.RawMessage(`{}`)}
	if _, _, err := r.Record(r.t.Context(), e, 0); err != nil {
		r.t.Fatal(err)
	}
}

// What a sensor decided and could not record it has not decided: its memory is that of the ledger, and it decides again.
func TestMemoryIsNeverAheadOfTheLedger(t *testing.T) {
	r := newRoom(t, nil)
	r.declare(both)
	after, err := r.step(0)
	if err != nil {
		t.Fatal(err)
	}
	r.happens("a")
	if after, err = r.step(after); err != nil {
		t.Fatal(err)
	}
	r.happens("b")
	r.fail(1)
	if _, err := r.step(after); !errors.Is(err, errDisk) {
		t.Fatalf("the decision that is not on record is the error %v", err)
	}
	if after, err = r.step(after); err != nil {
		t.Fatal(err)
	}
	r.happens("b") // a memory that was ahead would be empty, or full once more
	if _, err = r.step(after); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.decisions(), ", "); got != "ports/s waiting, ports/s fired, ports/s waiting" {
		t.Errorf("decided %s", got)
	}
}

// A sensor whose memory cannot be read says so, and the others decide.
func TestASensorThatCannotDecideKeepsNoOtherFromIt(t *testing.T) {
	r := newRoom(t, nil)
	r.declare(both)
	r.declare(strings.ReplaceAll(both, "name: s,", "name: other,"))
	err := r.o.Ledger.Write(t.Context(), ledger.On("event/x"), func(tx ledger.Tx) error {
		return tx.Put(ledger.Row{Table: event.TableSensorState, Key: "ports/s/say", Owner: "ports/s", Time: r.now, Body: json.RawMessage(`"no state"`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	r.happens("a")
	if _, err := r.step(0); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.decisions(), ", "); got != "ports/other waiting, ports/s error" {
		t.Errorf("decided %s", got)
	}
	states, err := r.Waiting(t.Context())
	if err != nil || len(states) != 2 || states[0].Problem != "" || states[1].Problem == "" {
		t.Errorf("sensors %+v, %v", states, err)
	}
}
