package runs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// The tables of runs and their nodes.
const (
	tableRun     = "run"
	tableNode    = "node"
	tableAttempt = "attempt"
)

// Submission is a run to be made.
type Submission struct {
	// Object is the Workflow's manifest.
	Object manifest.Object
	// Given marks what in it is not the manifest author's.
	Given []manifest.Given
	// Namespace is used where the manifest has none; empty means "default".
	Namespace   string
	Parameters  map[string]string
	Entrypoint  string
	Labels      map[string]string
	Annotations map[string]string
	Actor       string
	// Cause is the ledger entry that led to the run, Event the event's entry; 0 for none. Events are the entries of
	// all events that a condition put together, Event among them.
	Cause, Event int64
	Events       []int64
	// Source is the URL that the manifest was read from, and Revision what was asked of the repository there: a ref, a commit or HEAD, and
	// empty for what is no repository. Both are empty if it was not read from one.
	Source, Revision string
	// Origin is whoever declared the definition that the run is made of; empty for none.
	Origin string
	// Role is that of the person who submits the run by hand; empty for others.
	Role access.Role
	// Unique, if not empty, makes a second submission with it return the first run's name and ErrExists.
	Unique        string
	ScheduledTime *time.Time
	// Name overrides the manifest's name.
	Name string
	// Item is what leads to the submission, if that is done again after a restart.
	Item quarantine.Item
	// again is set for a run that repeats another one.
	again *again
	// Keep makes a bad manifest a run that Failed at once, with the reason, instead of refusing it: for a Workflow
	// that exists as an object before anybody judges it.
	Keep bool
}

// submitTries bounds how often a submission is tried again with objects that it turned out to need.
const submitTries = 20

// Submit makes a run. A bad manifest is a *workflow.InvalidError.
func (c *Controller) Submit(ctx context.Context, s Submission) (workflow.Run, error) {
	cmd, err := c.submitCommand(ctx, s)
	if err != nil {
		return workflow.Run{}, err
	}
	if err = c.tryValidate(ctx, s, &cmd); err != nil && !s.keeps(&cmd, err) {
		return workflow.Run{}, err
	}
	key := Key(cmd.Namespace, cmd.Name)
	for range submitTries {
		err = c.runs.Ask(ctx, key, &message{command: cmd, cause: s.Cause, unique: s.Unique, item: s.Item})
		if err == nil {
			return c.Summary(ctx, cmd.Namespace, cmd.Name)
		}
		if s.keeps(&cmd, err) {
			continue
		}
		var missing *workflow.MissingError
		if !errors.As(err, &missing) {
			return workflow.Run{}, err
		}
		found, err := c.objects(ctx, missing.Refs)
		if err != nil {
			return workflow.Run{}, err
		}
		for ref, raw := range found {
			cmd.Objects[ref] = raw
		}
	}
	return workflow.Run{}, fmt.Errorf("submit %s: it still needs objects after %d rounds of look-ups: %w", key, submitTries, err)
}

// keeps notes a refusal in the command of a submission that is kept, and reports whether it did.
func (s Submission) keeps(cmd *workflow.Submit, err error) bool {
	var invalid *workflow.InvalidError
	if !s.Keep || cmd.Invalid != "" || !errors.As(err, &invalid) {
		return false
	}
	cmd.Invalid = invalid.Error()
	if err := manifest.FirstError(invalid.Diagnostics); err != nil {
		cmd.Invalid = err.Error()
	}
	return true
}

// tryValidate is validate, of what may be quarantined.
func (c *Controller) tryValidate(ctx context.Context, s Submission, cmd *workflow.Submit) error {
	return c.compute(Key(cmd.Namespace, cmd.Name), s.Item, func() error { return c.validate(ctx, s, cmd) })
}

// validate refuses a manifest with errors, and one whose pods go beyond their rights as far as can be seen now, each with its place.
// Warnings go with the command, so that the run shows them.
func (c *Controller) validate(ctx context.Context, s Submission, cmd *workflow.Submit) error {
	if c.o.Validator != nil {
		object, err := manifest.Masked(s.Object, s.Given)
		if err != nil {
			return err
		}
		diags := c.o.Validator.Validate(ctx, object, s.terms(cmd.Namespace))
		if manifest.Failed(diags) {
			return &workflow.InvalidError{Diagnostics: diags}
		}
		cmd.Warnings = s.placed(diags)
	}
	diags, err := c.foresee(ctx, s, *cmd)
	if err != nil {
		return err
	}
	if len(diags) > 0 {
		return &workflow.InvalidError{Diagnostics: diags}
	}
	return nil
}

// placed gives what was found in the manifest of a run that is repeated the places of that run's file, as far as they are known.
func (s Submission) placed(diags []manifest.Diagnostic) []manifest.Diagnostic {
	if s.again == nil {
		return diags
	}
	out := slices.Clone(diags)
	for i := range out {
		out[i].Position = workflow.PositionAt(s.again.positions, out[i].Path)
	}
	return out
}

func (c *Controller) submitCommand(ctx context.Context, s Submission) (workflow.Submit, error) {
	ns := first(s.Object.Namespace, s.Namespace, "default")
	name := first(s.Name, s.Object.Name)
	if name == "" && s.Object.GenerateName != "" {
		name = s.Object.GenerateName + suffix()
	}
	if name == "" {
		return workflow.Submit{}, &workflow.InvalidError{Diagnostics: []manifest.Diagnostic{{
			Position: s.Object.Position, Severity: manifest.SeverityError, Path: "metadata.name",
			Message: "a workflow needs metadata.name or metadata.generateName",
		}}}
	}
	platform, err := c.platform(ctx, s)
	if err != nil {
		return workflow.Submit{}, err
	}
	claimed, err := c.claimed(ctx, s)
	if err != nil {
		return workflow.Submit{}, fmt.Errorf("find out whom run %s acts for: %w", name, err)
	}
	policy, err := c.o.Executors.Policy(ctx)
	if err != nil {
		return workflow.Submit{}, err
	}
	cmd := workflow.Submit{
		Claims: &claimed, Grants: policy.Given(claimed.Subject(), ns),
		Platform: platform,
		Meta:     c.meta(first(s.Actor, system)), UID: newUID(), Namespace: ns, Name: name,
		Workflow: s.Object.Tree.JSON(), Positions: workflow.Positions(s.Object.Tree), Given: s.Given, Parameters: s.Parameters, Entrypoint: s.Entrypoint,
		Labels: s.Labels, Annotations: s.Annotations, Objects: map[workflow.Ref]json.RawMessage{},
		Defaults: c.o.Defaults, Event: s.Event, ScheduledTime: s.ScheduledTime,
	}
	if s.again != nil {
		cmd.Positions, cmd.Earlier = s.again.positions, s.again.earlier
	}
	return cmd, nil
}

// Control carries out a person's command on a run. What the engine refuses is a *workflow.RefusedError.
func (c *Controller) Control(ctx context.Context, namespace, name string, cmd workflow.Control) error {
	cmd.Meta = c.meta(first(cmd.Actor, system))
	return c.runs.Ask(ctx, Key(namespace, name), &message{command: cmd})
}

// Status gives a run as Argo's Workflow object with its status.
func (c *Controller) Status(ctx context.Context, namespace, name string) (json.RawMessage, error) {
	type shown struct {
		raw json.RawMessage
		err error
	}
	s, err := view(ctx, c, Key(namespace, name), func(r *live) shown {
		object, err := workflow.Object(r.state)
		if err != nil {
			return shown{err: err}
		}
		raw, err := json.Marshal(object)
		return shown{raw, err}
	})
	if err != nil {
		return nil, err
	}
	return s.raw, s.err
}

// Summary gives a run's row.
func (c *Controller) Summary(ctx context.Context, namespace, name string) (workflow.Run, error) {
	row, err := c.o.Ledger.Row(ctx, tableRun, Key(namespace, name))
	if errors.Is(err, ledger.ErrNotFound) {
		return workflow.Run{}, fmt.Errorf("%w: %s/%s", ErrNotFound, namespace, name)
	}
	if err != nil {
		return workflow.Run{}, fmt.Errorf("read run: %w", err)
	}
	var run workflow.Run
	if err := json.Unmarshal(row.Body, &run); err != nil {
		return workflow.Run{}, fmt.Errorf("decode run: %w", err)
	}
	return run, nil
}

// Wait returns when the run has ended.
func (c *Controller) Wait(ctx context.Context, namespace, name string) (workflow.Run, error) {
	for {
		changed := c.o.Ledger.Changed()
		run, err := c.Summary(ctx, namespace, name)
		if err != nil || run.Phase.Done() {
			return run, err
		}
		select {
		case <-ctx.Done():
			return run, context.Cause(ctx)
		case <-changed:
		}
	}
}

func first(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}

// suffix completes a generateName with five characters of Kubernetes' alphabet (no vowels, nothing to misread).
func suffix() string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, 5)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

// newUID makes a random (version 4) UUID.
func newUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// Lint says what would keep a submission from running, without making a run: an *workflow.InvalidError or nil.
func (c *Controller) Lint(ctx context.Context, s Submission) error {
	cmd, err := c.submitCommand(ctx, s)
	if err == nil {
		err = c.validate(ctx, s, &cmd)
	}
	if err != nil {
		return err
	}
	for range submitTries {
		_, err = workflow.Decide(workflow.NewState(), cmd)
		var missing *workflow.MissingError
		if !errors.As(err, &missing) {
			return err
		}
		found, err := c.objects(ctx, missing.Refs)
		if err != nil {
			return err
		}
		for ref, raw := range found {
			cmd.Objects[ref] = raw
		}
	}
	return fmt.Errorf("lint %s: it still needs objects after %d rounds of look-ups: %w", cmd.Name, submitTries, err)
}

// KindDeleted is the kind of entries that take a run and some of its rows out of lists; its entries stay.
const KindDeleted = "history.deleted"

// deletedRows is the body of run.deleted: the rows that go.
type deletedRows struct {
	Tables map[string][]string `json:"tables"`
}

// Delete takes a finished run out of lists. One that still runs is refused, unless it is stalled: what it has running is then stopped.
// Its claims, and what its pods pushed, go with it.
func (c *Controller) Delete(ctx context.Context, namespace, name, actor string) error {
	key := Key(namespace, name)
	err := c.abandon(ctx, key)
	var forgets forget
	if err == nil {
		forgets, err = c.forgetting(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("delete run %s: %w", key, err)
	}
	if err := c.runs.Ask(ctx, key, &message{eraser: first(actor, system), forgets: forgets}); err != nil {
		return err
	}
	return c.o.Quarantine.Forget(ctx, quarantine.Item{Kind: quarantine.KindRun, Key: key}, first(actor, system))
}

// abandon stops what a run has running whose entries cannot be replayed, before it is deleted: nobody else will.
func (c *Controller) abandon(ctx context.Context, key string) error {
	row, err := c.o.Ledger.Row(ctx, tableRun, key)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && !isStalled(row) {
		return nil
	}
	var live []executor.Report
	if err == nil {
		live, err = c.o.Executors.List(ctx)
	}
	if err != nil {
		return err
	}
	for _, rep := range live {
		if rep.ID.Owner != c.uidOf(key) || rep.Phase.Done() {
			continue
		}
		if err := c.o.Executors.Stop(ctx, rep.ID, 0); err != nil {
			return fmt.Errorf("stop %s: %w", rep.ID.Node, err)
		}
	}
	return nil
}

// deletePage is how many rows one entry deletes at most.
const deletePage = 1000

func deleteRun(tx ledger.Tx, key, actor string) error {
	row, err := tx.Get(tableRun, key)
	if err != nil {
		return fmt.Errorf("delete run %s: %w", key, err)
	}
	if !workflow.Phase(row.State).Done() && !isStalled(row) {
		return fmt.Errorf("delete run %s: it is %s, stop or terminate it first: %w", key, row.State, ErrRunning)
	}
	hide := func(body deletedRows) error {
		_, err := tx.Append(ledger.Draft{Actor: actor, Kind: KindDeleted, Subject: subject(key), Cause: ledger.At(row.Seq), Body: body})
		return err
	}
	for _, table := range []string{tableNode, tableAttempt} {
		for {
			rows, err := tx.List(ledger.Query{Table: table, Owner: key, Limit: deletePage})
			if err != nil {
				return fmt.Errorf("delete run %s: %w", key, err)
			}
			if len(rows) == 0 {
				break
			}
			keys := make([]string, len(rows))
			for i := range rows {
				keys[i] = rows[i].Key
			}
			if err := hide(deletedRows{Tables: map[string][]string{table: keys}}); err != nil {
				return err
			}
		}
	}
	return hide(deletedRows{Tables: map[string][]string{tableRun: {key}}})
}

// ErrRunning says that a run has not ended.
var ErrRunning = failure.New(failure.Conflict, "the run has not ended")
