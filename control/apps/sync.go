package apps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

func (w *worker) options(automated bool) plan.Options {
	o := plan.Options{Automated: automated, Manifest: w.leaves.manifest, Preview: w.row.MR != 0, Deadline: w.c.o.Deadline, HookDeadline: w.c.o.HookDeadline}
	if p := w.row.Spec.SyncPolicy; p != nil {
		o = o.WithSyncOptions(p.SyncOptions)
		if automated && p.Automated != nil {
			o.Prune, o.AllowEmpty = p.Automated.Prune, p.Automated.AllowEmpty
		}
	}
	if r := w.row.Asked; r != nil && !automated {
		o.Prune, o.Resources, o.Confirmed = r.Prune, r.Resources, r.Confirmed
		o = o.WithSyncOptions(r.SyncOptions)
	}
	return o
}

// begin starts a sync if one was asked for or the policy wants one.
func (w *worker) begin(ctx context.Context, comparison plan.Comparison, last plan.Operation) error {
	revision, actor := w.wanted.revision, "system"
	if w.row.Asked != nil {
		actor = w.row.Asked.Actor
		w.row.Retries = 0
	} else {
		v := plan.Auto(plan.AutoInput{Policy: w.row.Spec.SyncPolicy, Comparison: comparison, Revision: revision, Last: last,
			Retries: w.row.Retries, Heals: w.row.Heals, Now: w.c.o.Now()})
		if !v.At.IsZero() {
			w.next(v.At)
		}
		if !v.Sync {
			w.giveUp(v)
			return w.adopt(ctx, comparison)
		}
		switch {
		case v.Retry:
			w.row.Retries++
		case v.Heal:
			w.row.Heals++
		default:
			w.row.Retries, w.row.Heals = 0, 0
		}
	}
	w.condition(deploy.ConditionSync, "")
	if err := w.setOperation(plan.Begin(revision, w.c.o.Now().UTC())); err != nil {
		return err
	}
	return w.record(ctx, deploy.KindSyncStarted, w.wanted.cause, actor, nil)
}

// giveUp shows that the automated sync failed and is not tried again.
func (w *worker) giveUp(v plan.Verdict) {
	message := ""
	if v.Stuck {
		message = v.Reason
	}
	w.condition(deploy.ConditionSync, message)
}

// beginRequested starts the sync that the definition asks for, if there is one, and else what begin would. That it began
// and is asked for no more is one entry.
func (w *worker) beginRequested(ctx context.Context, comparison plan.Comparison, last plan.Operation) error {
	if len(w.row.Requested) == 0 || w.row.Asked != nil {
		return w.begin(ctx, comparison, last)
	}
	var o manifest.Operation
	if err := json.Unmarshal(w.row.Requested, &o); err != nil {
		return fmt.Errorf("read the operation that was asked for: %w", err)
	}
	if o.Sync == nil {
		return errors.New("read the operation that was asked for: it asks for no sync")
	}
	r := SyncRequest{Actor: "system", Prune: o.Sync.Prune, Resources: o.Sync.Resources, SyncOptions: slices.Clone(o.Sync.SyncOptions)}
	if by := o.InitiatedBy; by != nil && by.Username != "" {
		r.Actor = "user:" + by.Username + " (unverified)" // anybody can write this into a definition
	}
	if s := o.Sync.SyncStrategy; s != nil && s.Hook != nil && s.Hook.Force {
		r.SyncOptions = append(r.SyncOptions, "Force=true")
	}
	w.row.Asked, w.row.Requested = &r, nil
	return w.begin(ctx, comparison, last)
}

// adopt notes what is deployed where no sync is needed to have it: a new release with the same images, for instance.
func (w *worker) adopt(ctx context.Context, comparison plan.Comparison) error {
	if comparison.Status != plan.Synced || w.row.Current == "" || (w.row.Revision == w.wanted.commit && w.row.Release == w.wanted.release) {
		return nil
	}
	op := plan.Begin(w.wanted.revision, w.c.o.Now().UTC())
	op.Phase, op.Message, op.FinishedAt, op.Planned = plan.Succeeded, "nothing differs", w.c.o.Now().UTC(), true
	if err := w.setOperation(op); err != nil {
		return err
	}
	return w.deployed(ctx, w.wanted.cause, "system")
}

// advance carries out the next step of the running sync; true if there may be another at once.
func (w *worker) advance(ctx context.Context, op plan.Operation, live []*unstructured.Unstructured, comparison plan.Comparison, rules health.Rules) (bool, error) {
	automated := w.row.Asked == nil
	step, err := try(w, func() plan.Step {
		return plan.Next(plan.Input{Desired: w.desired, Live: live, OutOfSync: comparison.OutOfSync(), Options: w.options(automated),
			Made: w.madeKey(), Operation: op, Newest: w.wanted.revision, Health: rules, Now: w.c.o.Now().UTC()})
	})
	if err != nil {
		return false, err
	}
	op = step.Operation
	if op.Done() {
		return true, w.finish(ctx, op)
	}
	if !step.Wake.IsZero() {
		w.next(step.Wake)
	}
	if w.made != nil {
		return w.furnished(ctx, op)
	}
	for _, a := range step.Actions {
		err := w.do(ctx, a)
		if ctx.Err() != nil {
			return false, ctx.Err() // Nothing is lost: the same step is decided again after the restart.
		}
		if now := w.c.o.Now().UTC(); errors.Is(err, deploy.ErrLeaving) && now.Before(op.StartedAt.Add(leavePatience)) {
			w.next(now.Add(leaveLook)) // It is decided again when the object is gone.
			break
		}
		op.Record(a, err, w.c.o.Now().UTC())
		if err != nil {
			break
		}
	}
	if err := w.setOperation(op); err != nil {
		return false, err
	}
	return len(step.Actions) > 0, w.recordChanges(ctx, deploy.KindSyncStep, w.row.SyncSeq)
}

// furnished makes the namespace before anything else of a sync.
func (w *worker) furnished(ctx context.Context, op plan.Operation) (bool, error) {
	_, err := w.cluster.Target.Apply(ctx, w.made, deploy.ApplyOptions{Cause: w.row.SyncSeq})
	switch now := w.c.o.Now().UTC(); {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, deploy.ErrLeaving) && now.Before(op.StartedAt.Add(leavePatience)):
		w.next(now.Add(leaveLook))
		return false, w.recordChanges(ctx, deploy.KindSyncStep, w.row.SyncSeq)
	case err != nil:
		op.Record(plan.Action{}, fmt.Errorf("make namespace %s: %w", w.made.GetName(), err), now)
		return true, w.finish(ctx, op)
	}
	return true, nil
}

// madeKey is the namespace among what is desired that nobody wrote: a preview's.
func (w *worker) madeKey() deploy.Key {
	if w.wanted.namespace == nil {
		return deploy.Key{}
	}
	return deploy.KeyOf(w.wanted.namespace)
}

// leavePatience is how long after its beginning a sync waits for objects that are on their way out, to make them anew; leaveLook is how often it looks
// where nobody tells.
const (
	leavePatience = 5 * time.Minute
	leaveLook     = time.Second
)

func (w *worker) do(ctx context.Context, a plan.Action) error {
	options := deploy.ApplyOptions{Application: w.key, Cause: w.row.SyncSeq, Replace: a.Replace, Force: a.Force}
	if a.Delete {
		return w.cluster.Target.Delete(ctx, a.Key, options)
	}
	_, err := w.apply(ctx, a.Object, options)
	return err
}

// finish records how a sync ended.
func (w *worker) finish(ctx context.Context, op plan.Operation) error {
	if err := w.setOperation(op); err != nil {
		return err
	}
	actor := "system"
	if w.row.Asked != nil {
		actor = w.row.Asked.Actor
	}
	partial := w.row.Asked != nil && len(w.row.Asked.Resources) > 0
	w.row.Asked = nil
	if op.Phase != plan.Succeeded || partial {
		return w.record(ctx, deploy.KindSyncFinished, w.row.SyncSeq, actor, nil)
	}
	return w.deployed(ctx, w.row.SyncSeq, actor)
}

// deployed records what runs now, as a new line of the history where it is another than before.
func (w *worker) deployed(ctx context.Context, cause int64, actor string) error {
	x := w.wanted
	same := w.row.Current != "" && w.row.Revision == x.commit && w.row.Release == x.release
	w.row.Revision, w.row.Release, w.row.Images, w.row.URLs = x.commit, x.release, x.images, x.urls
	if same {
		return w.record(ctx, deploy.KindSyncFinished, cause, actor, nil)
	}
	d := &deploy.Deployment{Release: x.release, Version: x.version, Commit: x.commit, Branch: x.branch, MR: x.mr, Actor: x.actor,
		Images: x.images, Sources: x.sources, URLs: x.urls, Releases: x.of}
	return w.record(ctx, deploy.KindSyncFinished, cause, actor, d)
}

// syncNow is a person's sync.
func (w *worker) syncNow(ctx context.Context, r SyncRequest) error {
	if w.known && w.row.Deleting {
		return w.resume(ctx, r)
	}
	op, err := w.ready(ctx)
	if err != nil {
		return err
	}
	if op.Phase == plan.Running {
		return refusal{failure.Errorf(failure.Conflict, "a sync is running already; wait for it to end")}
	}
	w.resolve(ctx)
	if w.wanted.problem != "" {
		return refusal{failure.Errorf(failure.Conflict, "nothing can be synced: %s", w.wanted.problem)}
	}
	w.row.Asked = &r
	return w.begin(ctx, plan.Comparison{}, op)
}

// ready says whether an Application can be given an order, and what it does.
func (w *worker) ready(ctx context.Context) (plan.Operation, error) {
	if !w.known {
		return plan.Operation{}, refusal{fmt.Errorf("%s: %w", w.key, ErrNotFound)}
	}
	at, err := w.c.stands(ctx, w.key, w.row)
	if err != nil {
		return plan.Operation{}, err
	}
	if w.row.Deleting || at.gone {
		return plan.Operation{}, refusal{failure.Errorf(failure.Conflict, "%s is being deleted", w.key)}
	}
	if at.held != "" {
		return plan.Operation{}, refusal{failure.Errorf(failure.Conflict, "%s", at.held)}
	}
	if err := w.define(ctx, at.declared); err != nil {
		return plan.Operation{}, err
	}
	if err := w.locate(); err != nil {
		return plan.Operation{}, err
	}
	return w.operation()
}

// pin holds the Application at a release or commit, or lets it go.
func (w *worker) pin(ctx context.Context, to, actor string) error {
	op, err := w.ready(ctx)
	if err != nil {
		return err
	}
	commit, err := w.ran(ctx, to)
	if err != nil {
		return err
	}
	w.row.Pinned, w.wanted = pinnedTo(to, commit), nil
	if op.Phase != plan.Running && !w.row.Spec.SyncPolicy.IsAutomated() {
		w.row.Asked = &SyncRequest{Actor: actor, Prune: true}
	}
	w.resolve(ctx)
	if to != "" && w.wanted.problem != "" {
		return failure.Errorf(failure.Conflict, "roll back to %s: %s", to, w.wanted.problem)
	}
	return w.record(ctx, deploy.KindApplicationSet, 0, actor, nil)
}
