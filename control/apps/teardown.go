package apps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/preview"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Argo CD's finalizers that have the hooks of a deletion run. With the resources finalizer they run as well.
const (
	finalizerPreDelete  = "pre-delete-finalizer.argocd.argoproj.io"
	finalizerPostDelete = "post-delete-finalizer.argocd.argoproj.io"
)

// tearDown removes everything that the Application made, with the hooks of its deletion, then the Application. Without the resources finalizer its
// objects stay, as in Argo CD. Where it is declared again meanwhile, what that says of finalizers and sources counts: so a deletion that is held up can be
// ended otherwise.
func (w *worker) tearDown(ctx context.Context, again *declared) (bool, error) {
	if again != nil && again.unreadable == "" {
		w.row.Finalizers, w.row.Spec.Source, w.row.Spec.Sources = again.Finalizers, again.Spec.Source, again.Spec.Sources
	}
	if !w.row.Deleting {
		w.row.Deleting = true
		if err := w.record(ctx, deploy.KindApplicationChanged, w.row.Definition, "system", nil); err != nil {
			return false, err
		}
	}
	for i, name := range append([]string{w.row.Cluster}, w.row.Left...) {
		if !w.cascades() && (i > 0 || !w.partingHooks()) {
			continue
		}
		gone, err := w.clear(ctx, name, i == 0 && w.partingHooks())
		if err != nil && ctx.Err() == nil {
			return false, w.stuck(ctx, err)
		}
		if err != nil || !gone {
			return false, err
		}
	}
	err := w.c.o.Ledger.Write(ctx, ledger.On("application/"+w.key), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "system", Kind: deploy.KindApplicationDeleted, Subject: "application/" + w.key, Cause: ledger.At(w.row.Definition)})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("record deletion: %w", err)
	}
	return true, nil
}

// cascades reports whether the objects go with the Application: in the foreground or the background, which is one here.
func (w *worker) cascades() bool {
	return slices.ContainsFunc(w.row.Finalizers, func(f string) bool {
		rest, found := strings.CutPrefix(f, preview.ResourcesFinalizer)
		return found && (rest == "" || rest == "/foreground" || rest == "/background")
	})
}

// partingHooks reports whether there are hooks of the deletion that are to run.
func (w *worker) partingHooks() bool {
	return len(w.row.DeletionHooks) > 0 && (w.cascades() || slices.ContainsFunc(w.row.Finalizers, func(f string) bool {
		return strings.HasPrefix(f, finalizerPreDelete) || strings.HasPrefix(f, finalizerPostDelete)
	}))
}

// stuck shows what holds a deletion up, and tries again.
func (w *worker) stuck(ctx context.Context, why error) error {
	w.condition(deploy.ConditionDeletion, why.Error())
	w.next(w.c.o.Now().Add(firstRetry))
	return w.recordChanges(ctx, deploy.KindApplicationChanged, w.row.Definition)
}

// clear takes the deletion on one cluster as far as it goes now; true when nothing of the Application is left there.
func (w *worker) clear(ctx context.Context, name string, hooks bool) (bool, error) {
	cluster, err := w.c.o.Targets.Named(name)
	if err != nil {
		return false, fmt.Errorf("delete objects: %w", err)
	}
	w.cluster = cluster
	for range 100 {
		done, acted, err := w.clearOnce(ctx, hooks)
		if err != nil || done || !acted {
			return done, err
		}
	}
	w.next(w.c.o.Now().Add(time.Second))
	return false, nil
}

// clearOnce takes the next step of a deletion; acted says that there may be another at once.
func (w *worker) clearOnce(ctx context.Context, hooks bool) (done, acted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	in := plan.Input{Options: w.deletionOptions(), KeepObjects: !w.cascades(), Operation: plan.Begin("", w.c.o.Now().UTC()), Now: w.c.o.Now().UTC()}
	if !w.row.OwnsNamespace {
		in.Made = w.home()
	}
	if in.Live, err = w.cluster.Target.List(ctx, w.key); err != nil {
		return false, false, fmt.Errorf("list objects: %w", err)
	}
	in.Live = slices.DeleteFunc(in.Live, deploy.Kept)
	if hooks {
		if err := w.withHooks(ctx, &in); err != nil {
			return false, false, err
		}
	}
	step, err := try(w, func() plan.Step { return plan.NextDeletion(in) })
	if err != nil {
		return false, false, err
	}
	op := step.Operation
	if op.Phase == plan.Succeeded {
		return true, false, nil
	}
	held, wake := step.Stuck, leaveLook
	if op.Done() {
		held, wake = op.Message+": "+wayOut, firstRetry
	}
	if !step.Wake.IsZero() {
		w.next(step.Wake)
	}
	if err := w.recordRemoval(ctx, hooks, op); err != nil {
		return false, false, err // what was found out is on record before anything is done
	}
	for _, a := range step.Actions {
		err := w.part(ctx, a)
		if ctx.Err() != nil {
			return false, false, ctx.Err() // Nothing is lost: the same step is decided again after the restart.
		}
		if errors.Is(err, deploy.ErrLeaving) {
			break // It is decided again when the object is gone.
		}
		if err != nil && a.Task == "" {
			return false, false, err
		}
		if op.Record(a, err, w.c.o.Now().UTC()); err != nil {
			break
		}
	}
	w.condition(deploy.ConditionDeletion, held)
	w.next(w.c.o.Now().Add(wake))
	return false, len(step.Actions) > 0 && !op.Done(), w.recordRemoval(ctx, hooks, op)
}

// recordRemoval puts on record how far a deletion got. Without hooks what is live says it.
func (w *worker) recordRemoval(ctx context.Context, hooks bool, op plan.Operation) error {
	if hooks {
		raw, err := json.Marshal(op)
		if err != nil {
			return fmt.Errorf("write the deletion: %w", err)
		}
		w.row.Removal = raw
	}
	w.row.Message = "being deleted"
	if op.Message != "" {
		w.row.Message += ": " + op.Message
	}
	return w.recordChanges(ctx, deploy.KindApplicationChanged, w.row.Definition)
}

// wayOut is what can be done about a deletion that a hook holds up.
const (
	wayOut      = "sync the Application to run its hooks again, or " + objectsStay
	objectsStay = "declare it again without the resources finalizer, then it goes and its objects stay"
)

func (w *worker) deletionOptions() plan.Options {
	o := w.options(false)
	o.Confirmed = w.row.Approved
	return o
}

// part carries out one step of a deletion. A namespace in which something stays, or others have objects, stays as well, and is nobody's.
func (w *worker) part(ctx context.Context, a plan.Action) error {
	opt := deploy.ApplyOptions{Application: w.key, Cause: w.row.Definition}
	switch {
	case a.Release:
		return w.cluster.Target.Release(ctx, a.Key, opt)
	case a.Delete:
		err := w.cluster.Target.Delete(ctx, a.Key, opt)
		if others := new(deploy.SharedError); errors.As(err, &others) {
			return w.cluster.Target.Release(ctx, a.Key, opt)
		}
		return err
	}
	opt.Replace, opt.Force = a.Replace, a.Force
	_, err := w.apply(ctx, a.Object, opt)
	return err
}

// withHooks adds what a deletion with hooks is decided from: the hooks, how they are judged, and how far it got.
func (w *worker) withHooks(ctx context.Context, in *plan.Input) (err error) {
	if len(w.row.Removal) > 0 {
		if in.Operation, err = onRecord(w.row.Removal, "deletion"); err != nil {
			return err
		}
	}
	if w.parting == nil && !in.Operation.Done() {
		if w.parting, err = w.hooksOfDeletion(ctx, in.Operation.Revision); err != nil {
			return fmt.Errorf("its hooks cannot be run (%s): %w: make its source readable, or %s",
				strings.Join(w.row.DeletionHooks, ", "), err, objectsStay)
		}
	}
	if in.Operation.Revision == "" && w.parting != nil {
		in.Operation.Revision = w.parting.commit
	}
	if w.parting != nil {
		in.Desired = w.parting.objects
	}
	in.Health, err = w.c.Judging(ctx, in.Live)
	return err
}

// hooksOfDeletion are the hooks that a deletion runs: those of the commit at which it began, or else of what should run now, within what the project
// allows.
func (w *worker) hooksOfDeletion(ctx context.Context, begun string) (*wanted, error) {
	projects, err := w.allowed(ctx)
	if err != nil {
		return nil, err
	}
	next, commits, err := w.named(ctx, begun)
	if err != nil {
		return nil, err
	}
	if err := w.render(ctx, next, commits); err != nil {
		return nil, err
	}
	next.objects = plan.DeletionHooks(next.objects)
	if err := w.permitted(ctx, projects, next.objects); err != nil {
		return nil, err
	}
	if err := w.hosts(ctx, next.objects); err != nil {
		return nil, err
	}
	return next, w.check(ctx, next)
}

// namesOf are the hooks of a deletion among objects, for people.
func namesOf(objects []*unstructured.Unstructured) []string {
	var names []string
	for _, o := range plan.DeletionHooks(objects) {
		name := o.GetName()
		if name == "" {
			name = o.GetGenerateName() + "…"
		}
		names = append(names, o.GetKind()+" "+name)
	}
	return names
}

// resume is a person's order while the Application is being deleted: it confirms what waits for that, and has hooks that failed run again.
func (w *worker) resume(ctx context.Context, r SyncRequest) error {
	op, err := onRecord(w.row.Removal, "deletion")
	if err != nil {
		return err
	}
	if !op.Done() && !r.Confirmed {
		return refusal{failure.Errorf(failure.Conflict, "%s is being deleted", w.key)}
	}
	if op.Done() {
		w.row.Removal, w.parting = nil, nil
	}
	w.row.Approved = w.row.Approved || r.Confirmed
	w.condition(deploy.ConditionDeletion, "")
	return w.record(ctx, deploy.KindApplicationChanged, w.row.Definition, r.Actor, nil)
}
