package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// queue is the outbox queue of firings; lease bounds one attempt.
const (
	queue = "trigger"
	lease = 2 * time.Minute
)

// The labels that runs of sensors carry, beside those of [event.LabelRepo] and its kin.
const (
	labelFiring = "tiphys.dev/firing"
	labelSensor = "events.argoproj.io/sensor"
	labelTrig   = "events.argoproj.io/trigger"
)

func (c *Controller) fireAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-c.work:
			c.fire(ctx, f)
		}
	}
}

// The names under which Health shows what does not succeed.
const (
	workClaim = "take up firings"
	workFire  = "record firings"
)

// leftovers carries out firings that an earlier process left, that failed, that wait for their turn, or that found the
// queue full.
func (c *Controller) leftovers(ctx context.Context) {
	var rest time.Duration
	for ctx.Err() == nil {
		works, err := c.o.Ledger.Outbox().Claim(ctx, queue, 32, lease)
		if err != nil {
			rest = c.pause(ctx, workClaim, err, rest)
			continue
		}
		rest = 0
		c.health.fine(workClaim)
		for _, w := range works {
			c.leftover(ctx, w)
		}
		if len(works) > 0 {
			continue
		}
		next, err := c.o.Ledger.Outbox().Next(ctx, queue)
		d := 5 * time.Second
		if err == nil && !next.IsZero() {
			d = min(d, max(next.Sub(c.o.Now()), time.Millisecond))
		}
		wait(ctx, nil, d)
	}
}

// pause shows what fails, and waits longer than the last time. It returns how long that was.
func (c *Controller) pause(ctx context.Context, what string, err error, last time.Duration) time.Duration {
	rest := min(max(2*last, firstRest), longestRest)
	if ctx.Err() == nil && c.health.fails(what, err, c.o.Now()) {
		c.o.Log.Error("the events room fails and tries again", "to", what, "after", rest, "error", err)
	}
	_ = c.clock.Wait(ctx, c.clock.Now().Add(rest)) // the caller looks at the context
	return rest
}

// leftover carries out one item of the outbox. One that nobody can read is a dead letter at once: nothing mends it.
func (c *Controller) leftover(ctx context.Context, w ledger.Work) {
	var f sensor.Firing
	if err := json.Unmarshal(w.Body, &f); err != nil || f.Template == nil {
		f = sensor.Firing{Key: w.Key, Problem: fmt.Sprintf("the firing cannot be read: %v", errOr(err, "it has no template"))}
	}
	c.fire(ctx, f)
}

// fire carries a firing out once and records how that went. One that is being carried out already is left to who does it; one that could
// not be recorded is handed out again by the outbox.
func (c *Controller) fire(ctx context.Context, f sensor.Firing) {
	if _, busy := c.firing.LoadOrStore(f.Key, true); busy {
		return
	}
	defer c.firing.Delete(f.Key)
	err := c.attempt(ctx, f)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		c.health.fine(workFire)
	case c.health.fails(workFire, err, c.o.Now()):
		c.o.Log.Error("a firing could not be recorded and is carried out again later", "firing", f.Key, "error", err)
	}
}

// attempt is one attempt of a firing. A firing whose trigger has fired as often as it may is put off: nobody waits for its turn.
func (c *Controller) attempt(ctx context.Context, f sensor.Firing) error {
	row, err := c.o.Ledger.Row(ctx, event.TableFiring, f.Key)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && row.State != "pending" {
		return c.write(ctx, f.Key, func(tx ledger.Tx) error { return tx.Cancel(queue, f.Key) }) // settled by another hand
	}
	if err != nil {
		return fmt.Errorf("read firing %s: %w", f.Key, err)
	}
	var before event.FiringRow
	if err := json.Unmarshal(row.Body, &before); err != nil {
		return fmt.Errorf("read firing %s: %w", f.Key, err)
	}
	attempt := before.Attempts + 1
	if attempt == 1 { // what is tried again had its turn
		if at := c.rates.turn(f, c.o.Now()); at.After(c.o.Now()) {
			return c.write(ctx, f.Key, func(tx ledger.Tx) error { return enqueue(tx, f, at, ledger.At(row.Seq)) })
		}
	}
	settled := event.Settled{Key: f.Key, Attempt: attempt}
	kind := event.KindDone
	var again time.Duration
	settled.Result, err = c.carryOut(ctx, f, row.Seq)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.o.Fault("fired")
	if err != nil {
		kind, settled.Error = event.KindFailed, err.Error()
		again, settled.Dead = nextTry(f, attempt, err, rand.Float64()) //nolint:gosec // a wait is no secret
		c.o.Log.Warn("firing failed", "firing", f.Key, "attempt", attempt, "dead", settled.Dead, "reason", err)
	}
	return c.settle(ctx, f, before, row.Seq, kind, settled, again)
}

// settle records how an attempt went.
func (c *Controller) settle(ctx context.Context, f sensor.Firing, before event.FiringRow, seq int64, kind string, settled event.Settled, again time.Duration) error {
	by := before.Sensor
	var letter *sensor.Firing
	err := c.write(ctx, f.Key, func(tx ledger.Tx) error {
		letter = nil
		rec, err := tx.Append(ledger.Draft{Actor: "sensor:" + by, Kind: kind, Subject: "firing/" + f.Key, Cause: ledger.At(seq), Body: settled})
		switch {
		case err != nil:
			return err
		case kind == event.KindFailed && !settled.Dead:
			return enqueue(tx, f, tx.Now().Add(again), ledger.At(seq))
		case settled.Dead:
			if letter, err = deadLetter(tx, f, before.EventID, rec, lease); err != nil {
				return err
			}
		}
		return tx.Cancel(queue, f.Key)
	})
	if err == nil && letter != nil {
		c.hand(*letter)
	}
	return err
}

// maxWrites is how often a firing is tried to be recorded before the outbox hands it out again.
const maxWrites = 6

// write records what became of a firing. It tries for some time: to carry it out again is worse than to wait.
func (c *Controller) write(ctx context.Context, key string, do func(ledger.Tx) error) error {
	rest := firstRest
	for n := 1; ; n++ {
		err := c.o.Ledger.Write(ctx, ledger.On("firing/"+key), do)
		if err == nil || n == maxWrites || ctx.Err() != nil {
			return err
		}
		if err := c.clock.Wait(ctx, c.clock.Now().Add(rest)); err != nil {
			return err
		}
		rest *= 2
	}
}

// enqueue has a firing carried out later.
func enqueue(tx ledger.Tx, f sensor.Firing, due time.Time, cause ledger.Ref) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode firing %s: %w", f.Key, err)
	}
	return tx.Enqueue(ledger.Work{Queue: queue, Key: f.Key, Due: due, Cause: cause, Body: raw})
}

// deadLetter fires the dead-letter trigger of a firing that has failed for good, once. nil if it has none, or if that one
// cannot be carried out itself.
func deadLetter(tx ledger.Tx, f sensor.Firing, eventID string, cause ledger.Ref, lease time.Duration) (*sensor.Firing, error) {
	if f.DLQ == nil {
		return nil, nil
	}
	letter := *f.DLQ
	letter.Key = f.Key + "/dlq"
	if _, err := tx.Get(event.TableFiring, letter.Key); !errors.Is(err, ledger.ErrNotFound) {
		return nil, err // it was fired when this one died before
	}
	err := writeFiring(tx, "firing/"+letter.Key, eventID, letter, cause, lease)
	if err != nil || letter.Problem != "" {
		return nil, err
	}
	return &letter, nil
}

// firingHorizon is how long a firing cannot be made again. Nobody decides on an event that old.
const firingHorizon = 400 * 24 * time.Hour

// writeFiring records a firing and has it carried out: by whoever holds the lease, or by the next that looks. One that
// cannot be carried out is dead from the start, and has its dead-letter trigger fired.
func writeFiring(tx ledger.Tx, subject, eventID string, f sensor.Firing, cause ledger.Ref, lease time.Duration) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode firing %s: %w", f.Key, err)
	}
	actor := "sensor:" + f.Sensor
	fired, err := tx.Append(ledger.Draft{
		Actor: actor, Kind: event.KindFired, Subject: subject, Cause: cause, Unique: event.FiringKey(f.Key), Horizon: firingHorizon,
		Body: event.Fired{Key: f.Key, EventID: eventID, Sensor: f.Sensor, Trigger: f.Trigger, Number: f.Number, Events: f.Events, Firing: raw},
	})
	if err != nil {
		return err
	}
	if f.Problem == "" {
		return tx.Enqueue(ledger.Work{Queue: queue, Key: f.Key, Due: tx.Now(), Lease: lease, Cause: fired, Body: raw})
	}
	dead, err := tx.Append(ledger.Draft{Actor: actor, Kind: event.KindFailed, Subject: subject, Cause: fired,
		Body: event.Settled{Key: f.Key, Error: f.Problem, Dead: true}})
	if err != nil {
		return err
	}
	_, err = deadLetter(tx, f, eventID, dead, 0)
	return err
}

// errFinal marks failures that no repetition mends.
var errFinal = errors.New("cannot be carried out")

// nextTry says when a failed firing is tried again, or that it is a dead letter. chance is from 0 to 1.
func nextTry(f sensor.Firing, attempt int, err error, chance float64) (time.Duration, bool) {
	steps, wait := backoff(f.RetryStrategy)
	var invalid *workflow.InvalidError
	if attempt >= steps || errors.Is(err, errFinal) || errors.As(err, &invalid) {
		return 0, true
	}
	return wait(attempt, chance), false
}

// longestWait bounds a wait between two attempts.
const longestWait = 24 * time.Hour

// backoff reads a retry strategy: how often, and how long to wait after which attempt. What it does not say is as in
// argo-events (common.Convert2WaitBackoff): 5 attempts, 1s, factor 1 and jitter 1. A wait is lengthened by up to jitter
// times itself; a factor of 0 leaves it as it is (wait.Backoff of apimachinery). Without a strategy there is one attempt.
func backoff(b *manifest.EventBackoff) (steps int, wait func(attempt int, chance float64) time.Duration) {
	steps, first, factor, jitter := 1, time.Second, 1.0, 1.0
	if b != nil {
		if steps = int(b.Steps); steps <= 0 {
			steps = 5
		}
		if text := b.Duration.Text(); text != "" {
			if d, err := time.ParseDuration(text); err == nil {
				first = d
			} else if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				first = time.Duration(n) // a bare number is in nanoseconds
			}
		}
		if n, err := strconv.ParseFloat(b.Factor.Text(), 64); err == nil && n > 0 {
			factor = n
		}
		if n, err := strconv.ParseFloat(b.Jitter.Text(), 64); err == nil {
			jitter = n
		}
	}
	return steps, func(attempt int, chance float64) time.Duration {
		d := float64(first) * math.Pow(factor, float64(attempt-1)) * (1 + chance*max(jitter, 0))
		return time.Duration(max(0, min(d, float64(longestWait))))
	}
}

// Redrive sends a dead letter again, with all its attempts.
func (c *Controller) Redrive(ctx context.Context, key, actor string) error {
	was, err := c.o.Ledger.Row(ctx, event.TableFiring, key)
	if err != nil {
		return fmt.Errorf("firing %s: %w", key, err)
	}
	firing, err := c.fired(ctx, key, was.Seq)
	if err != nil {
		return err
	}
	return c.o.Ledger.Write(ctx, ledger.On("firing/"+key), func(tx ledger.Tx) error {
		row, err := tx.Get(event.TableFiring, key)
		if err != nil {
			return fmt.Errorf("firing %s: %w", key, err)
		}
		if row.State != "dead" {
			return fmt.Errorf("firing %s is %s: only a dead one can be sent again: %w", key, row.State, ledger.ErrExists)
		}
		rec, err := tx.Append(ledger.Draft{Actor: actor, Kind: event.KindRedriven, Subject: "firing/" + key, Cause: ledger.At(row.Seq), Body: event.Settled{Key: key}})
		if err != nil {
			return err
		}
		return tx.Enqueue(ledger.Work{Queue: queue, Key: key, Due: tx.Now(), Cause: rec, Body: firing})
	})
}

// fired goes back from the entry that last changed a firing to the one that made it, and gives the whole firing. What
// settles a firing names what was so before as its cause.
func (c *Controller) fired(ctx context.Context, key string, seq int64) (json.RawMessage, error) {
	for seq > 0 {
		entry, err := c.o.Ledger.Entry(ctx, seq)
		if err != nil {
			return nil, fmt.Errorf("read firing %s: %w", key, err)
		}
		if entry.Kind != event.KindFired {
			seq = entry.Cause
			continue
		}
		body, err := ledger.Read[event.Fired](entry)
		if err != nil || body.Key != key || len(body.Firing) == 0 {
			return nil, fmt.Errorf("read firing %s: entry %d does not hold it (its body may have been erased): %w", key, seq, errOr(err, "not found"))
		}
		return body.Firing, nil
	}
	return nil, fmt.Errorf("read firing %s: %w", key, ledger.ErrNotFound)
}

func (c *Controller) carryOut(ctx context.Context, f sensor.Firing, cause int64) (string, error) {
	if f.Problem != "" {
		return "", fmt.Errorf("%s: %w", f.Problem, errFinal)
	}
	t, limit := f.Template, lease/2
	if t.HTTP != nil && t.HTTP.Timeout > 0 {
		limit = min(time.Duration(t.HTTP.Timeout)*time.Second, sensor.MaxRequest)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the trigger took longer than %s", limit))
	defer cancel()
	switch f.Type {
	case "argoWorkflow":
		return c.workflow(ctx, f, t.ArgoWorkflow.Operation, t.ArgoWorkflow.Source, cause)
	case "k8s":
		return c.workflow(ctx, f, t.K8S.Operation, t.K8S.Source, cause)
	case "http":
		return c.request(ctx, f)
	case "log":
		c.o.Log.Info("log trigger", "sensor", f.Sensor, "trigger", f.Trigger, "events", f.Events)
		return "logged", nil
	}
	return "", fmt.Errorf("trigger type %q is understood but not run by this version (use http): %w", f.Type, errFinal)
}

// workflow makes a run of the trigger's object, once however often it is tried.
func (c *Controller) workflow(ctx context.Context, f sensor.Firing, operation string, src *manifest.TriggerSource, cause int64) (string, error) {
	raw, given, source := f.Resource, f.Given, place{}
	if raw == nil {
		var err error
		if raw, given, err = c.fetch(ctx, f, src); err != nil {
			return "", err
		}
		source = placeOf(src)
	}
	var objects []manifest.Object
	var diags []manifest.Diagnostic
	err := c.o.Quarantine.Try(firingItem(f), func() error {
		objects, diags = manifest.Decode("trigger "+f.Trigger, raw)
		return nil
	})
	if err != nil {
		return "", deadIfQuarantined(err)
	}
	if manifest.Failed(diags) || len(objects) != 1 {
		return "", fmt.Errorf("the trigger's object: %w: %w", errOr(manifest.FirstError(diags), "it is not one object"), errFinal)
	}
	if operation != "" && operation != "create" && operation != "submit" {
		return "", fmt.Errorf("operation %q is understood but not run by this version (use submit or create): %w", operation, errFinal)
	}
	// A name is no claim to a namespace: neither what lies elsewhere, nor an event, nor who may declare sensors in one chooses whose Secrets a run may use.
	if ns := objects[0].Namespace; ns != "" && ns != namespaceOf(f) {
		return "", fmt.Errorf("the trigger's object is for namespace %q, and those of this sensor may only be for its own, %q: leave metadata.namespace out, or declare the sensor there: %w",
			ns, namespaceOf(f), errFinal)
	}
	if objects[0].Kind == "Workflow" {
		return c.submit(ctx, f, objects[0], given, src, source, cause)
	}
	if f.Type == "argoWorkflow" {
		return "", fmt.Errorf("an argoWorkflow trigger submits a Workflow, and its object is a %s (a k8s trigger declares one): %w", objects[0].Kind, errFinal)
	}
	if len(given) > 0 {
		return "", fmt.Errorf("the event gives a text with {{ for %s of the trigger's object, and what is declared is read as a template later: %w",
			strings.Join(given[0].Path, "."), errFinal)
	}
	return c.define(ctx, f, objects)
}

func errOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

func (c *Controller) define(ctx context.Context, f sensor.Firing, objects []manifest.Object) (string, error) {
	who := access.Identity{Actor: "sensor:" + f.Sensor, Verified: true, Role: access.SensorTrigger}
	for i := range objects {
		objects[i].Namespace = namespaceOf(f)
		o := objects[i]
		if err := c.o.Policy.Can(who, access.Create, o.Kind, o.Namespace, o.Name); err != nil {
			return "", fmt.Errorf("declare the trigger's object: %w: %w", err, errFinal)
		}
	}
	ch, err := c.o.Definitions.Apply(ctx, who.Actor, who.Actor, objects)
	if err != nil {
		return "", fmt.Errorf("apply the trigger's object: %w", err)
	}
	return fmt.Sprint(append(ch.Set, ch.Unchanged...)), nil
}

func (c *Controller) submit(ctx context.Context, f sensor.Firing, obj manifest.Object, given []manifest.Given, src *manifest.TriggerSource, source place, cause int64) (string, error) {
	sum := sha256.Sum256([]byte(f.Key))
	mark := hex.EncodeToString(sum[:8])
	labels, seq, err := c.labels(ctx, f)
	if err != nil {
		return "", err
	}
	labels[labelFiring] = mark
	origin, err := c.origin(ctx, f, src)
	if err != nil {
		return "", err
	}
	run, err := c.o.Runs.Submit(ctx, runs.Submission{
		Object: obj, Given: given, Namespace: namespaceOf(f), Labels: labels, Actor: "sensor:" + f.Sensor, Cause: cause, Event: seq,
		Events: slices.Sorted(maps.Values(f.Events)), Source: source.url, Revision: source.revision, Origin: origin, Unique: "run-of/" + f.Key, Item: firingItem(f),
	})
	err = deadIfQuarantined(err)
	if errors.Is(err, ledger.ErrExists) {
		rows, lerr := c.o.Ledger.List(ctx, ledger.Query{Table: "run", Labels: map[string]string{labelFiring: mark}, Limit: 1})
		if lerr == nil && len(rows) == 1 {
			return "run/" + rows[0].Key, nil
		}
	}
	if err != nil {
		return "", err
	}
	return "run/" + runs.Key(run.Namespace, run.Name), nil
}

// deadIfQuarantined makes a firing that is quarantined a dead letter.
func deadIfQuarantined(err error) error {
	if quarantine.IsQuarantined(err) {
		return fmt.Errorf("%w: %w", err, errFinal)
	}
	return err
}

func namespaceOf(f sensor.Firing) string {
	for i := range f.Sensor {
		if f.Sensor[i] == '/' {
			return f.Sensor[:i]
		}
	}
	return "default"
}

// labels say what a run was made for; seq is the event's entry.
func (c *Controller) labels(ctx context.Context, f sensor.Firing) (map[string]string, int64, error) {
	out := map[string]string{labelSensor: f.Sensor, labelTrig: f.Trigger}
	var latest int64
	for _, seq := range f.Events {
		e, err := c.bySeq(ctx, seq)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read event %d: %w", seq, err)
		}
		if seq > latest {
			latest = seq
			out[event.LabelEvent] = e.ID
		}
		gitLabels(e.Git, out)
	}
	return out, latest, nil
}

func gitLabels(g *event.Git, out map[string]string) {
	if g == nil {
		return
	}
	set := func(k, v string) {
		if v != "" {
			out[k] = v
		}
	}
	set(event.LabelRepo, g.Repo.FullName)
	set(event.LabelBranch, g.Branch)
	set(event.LabelTag, g.Tag)
	set(event.LabelCommit, g.SHA)
	if g.PR != nil {
		set(event.LabelMR, strconv.Itoa(g.PR.Number))
		set(event.LabelBranch, g.PR.SourceBranch)
		set(event.LabelCommit, g.PR.HeadSHA)
	}
}
