package apps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/manifest"
)

func (w *worker) options(automated bool) plan.Options {
	o := plan.Options{Automated: automated, Deadline: w.c.o.Deadline, HookDeadline: w.c.o.HookDeadline}
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
	before, revision, actor := w.row, w.wanted.revision, "system"
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
	w.setOperation(plan.Begin(revision, w.c.o.Now().UTC()))
	if err := w.record(ctx, deploy.KindSyncStarted, w.wanted.cause, actor, nil); err != nil {
		w.row = before // what is not on record has not begun
		return err
	}
	return nil
}

// beginRequested starts the sync that the definition asks for, if there is one, and else what begin would. That it began
// and is asked for no more is one entry.
func (w *worker) beginRequested(ctx context.Context, comparison plan.Comparison, last plan.Operation) error {
	if len(w.row.Requested) == 0 || w.row.Asked != nil {
		return w.begin(ctx, comparison, last)
	}
	requested := w.row.Requested
	var o manifest.Operation
	if err := json.Unmarshal(requested, &o); err != nil || o.Sync == nil {
		return fmt.Errorf("read the operation that was asked for: %w", err)
	}
	r := SyncRequest{Actor: "system", Prune: o.Sync.Prune, Resources: o.Sync.Resources, SyncOptions: slices.Clone(o.Sync.SyncOptions)}
	if by := o.InitiatedBy; by != nil && by.Username != "" {
		r.Actor = "user:" + by.Username + " (unverified)" // anybody can write this into a definition
	}
	if s := o.Sync.SyncStrategy; s != nil && s.Hook != nil && s.Hook.Force {
		r.SyncOptions = append(r.SyncOptions, "Force=true")
	}
	w.row.Asked, w.row.Requested = &r, nil
	err := w.begin(ctx, comparison, last)
	if err != nil {
		w.row.Asked, w.row.Requested = nil, requested
	}
	return err
}

// adopt notes what is deployed where no sync is needed to have it: a new release with the same images, for instance.
func (w *worker) adopt(ctx context.Context, comparison plan.Comparison) error {
	if comparison.Status != plan.Synced || w.row.Current == "" || (w.row.Revision == w.wanted.commit && w.row.Release == w.wanted.release) {
		return nil
	}
	op := plan.Begin(w.wanted.revision, w.c.o.Now().UTC())
	op.Phase, op.Message, op.FinishedAt, op.Planned = plan.Succeeded, "nothing differs", w.c.o.Now().UTC(), true
	w.setOperation(op)
	return w.deployed(ctx, w.wanted.cause, "system")
}

// advance carries out the next step of the running sync; true if there may be another at once.
func (w *worker) advance(ctx context.Context, op plan.Operation, live []*unstructured.Unstructured, comparison plan.Comparison) (bool, error) {
	automated := w.row.Asked == nil
	step := plan.Next(plan.Input{Desired: w.wanted.objects, Live: live, OutOfSync: comparison.OutOfSync(), Options: w.options(automated),
		Operation: op, Newest: w.wanted.revision, Health: w.c.Health(), Now: w.c.o.Now().UTC()})
	op = step.Operation
	if op.Done() {
		return true, w.finish(ctx, op)
	}
	if !step.Wake.IsZero() {
		w.next(step.Wake)
	}
	for _, a := range step.Actions {
		err := w.do(ctx, a)
		if ctx.Err() != nil {
			return false, ctx.Err() // Nothing is lost: the same step is decided again after the restart.
		}
		op.Record(a, err, w.c.o.Now().UTC())
		if err != nil {
			break
		}
	}
	w.setOperation(op)
	return len(step.Actions) > 0, w.recordChanges(ctx, deploy.KindSyncStep, w.row.SyncSeq)
}

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
	w.setOperation(op)
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
		Images: x.images, Sources: x.sources, URLs: x.urls}
	return w.record(ctx, deploy.KindSyncFinished, cause, actor, d)
}

// syncNow is a person's sync.
func (w *worker) syncNow(ctx context.Context, r SyncRequest) error {
	if w.operation().Phase == plan.Running {
		return errors.New("a sync is running already; wait for it to end")
	}
	w.resolve(ctx)
	if w.wanted == nil || w.wanted.problem != "" {
		problem := "it has not been read yet"
		if w.wanted != nil {
			problem = w.wanted.problem
		}
		return fmt.Errorf("nothing can be synced: %s", problem)
	}
	w.row.Asked = &r
	err := w.begin(ctx, plan.Comparison{}, w.operation())
	if err != nil {
		w.row.Asked = nil
	}
	return err
}

// pin holds the Application at a release or commit, or lets it go.
func (w *worker) pin(ctx context.Context, to, actor string) error {
	before := w.row
	w.row.Pinned, w.wanted = to, nil
	if w.operation().Phase != plan.Running && !w.row.Spec.SyncPolicy.IsAutomated() {
		w.row.Asked = &SyncRequest{Actor: actor, Prune: true}
	}
	w.resolve(ctx)
	if w.wanted == nil || (to != "" && w.wanted.problem != "") {
		problem := "it has not been read yet"
		if w.wanted != nil {
			problem = w.wanted.problem
		}
		w.row, w.wanted = before, nil
		return fmt.Errorf("roll back to %s: %s", to, problem)
	}
	if err := w.record(ctx, deploy.KindApplicationSet, 0, actor, nil); err != nil {
		w.row, w.wanted = before, nil
		return err
	}
	return nil
}
