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
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/plan"
)

// reconcile compares, judges and syncs.
func (w *worker) reconcile(ctx context.Context) error {
	if w.wanted.problem != "" {
		return w.idle(ctx)
	}
	for range 100 {
		if acted, err := w.advanceOnce(ctx); err != nil || !acted {
			return err
		}
	}
	w.next(w.c.o.Now().Add(time.Second))
	return nil
}

// advanceOnce looks at what is live and takes the next step of a sync; true if there may be another at once.
func (w *worker) advanceOnce(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	live, err := w.cluster.Target.List(ctx, w.key)
	if err != nil {
		return false, fmt.Errorf("list objects: %w", err)
	}
	live, note, err := w.furnish(ctx, live)
	if i := (invalid{}); errors.As(err, &i) {
		return false, w.refused(ctx, live, i)
	}
	if err != nil {
		return false, err
	}
	comparison, err := w.compare(ctx, live)
	if err != nil {
		return false, err
	}
	if note != "" {
		w.row.Problems = append(w.row.Problems, note)
	}
	rules, err := w.judge(ctx, live)
	if err != nil {
		return false, err
	}
	op, err := w.operation()
	if err != nil {
		return false, err
	}
	if op.Phase != plan.Running {
		if err := w.beginRequested(ctx, comparison, op); err != nil {
			return false, err
		}
		if op, err = w.operation(); err != nil || op.Phase != plan.Running {
			return false, errors.Join(err, w.recordChanges(ctx, w.changeKind(), w.row.SyncSeq))
		}
	}
	return w.advance(ctx, op, live, comparison, rules)
}

// idle records why nothing can be deployed, and keeps judging what runs.
func (w *worker) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	live, err := w.cluster.Target.List(ctx, w.key)
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	w.desired = w.wanted.objects
	return w.stays(ctx, live, w.wanted.kind, w.wanted.problem)
}

// refused records that what is wanted may not be deployed.
func (w *worker) refused(ctx context.Context, live []*unstructured.Unstructured, why error) error {
	w.desired = w.wanted.objects
	return w.stays(ctx, live, deploy.ConditionInvalidSpec, why.Error())
}

// stays records why what runs stays as it is, and how it is.
func (w *worker) stays(ctx context.Context, live []*unstructured.Unstructured, kind, problem string) error {
	w.row.Sync, w.row.Message = plan.SyncUnknown, problem
	w.blame(kind, problem)
	if _, err := w.judge(ctx, live); err != nil {
		return err
	}
	w.next(w.c.o.Now().Add(30 * time.Second))
	return w.recordChanges(ctx, w.changeKind(), w.row.Definition)
}

// blame notes what keeps an Application from being deployed, if anything does.
func (w *worker) blame(kind, problem string) {
	for _, one := range []string{deploy.ConditionInvalidSpec, deploy.ConditionComparison} {
		if one == kind {
			w.condition(one, problem)
		} else {
			w.condition(one, "")
		}
	}
}

func (w *worker) changeKind() string {
	var old deploy.ApplicationRow
	if json.Unmarshal(w.recorded, &old) == nil && old.Health.Status != w.row.Health.Status {
		return deploy.KindHealthChanged
	}
	return deploy.KindApplicationChanged
}

// judge sets the health from what is live of what is wanted; while it is not known what is wanted, of all that is there.
//
// It gives how health is judged in this step. If a program of the operator cannot be run now the health stays as it was, and the error says why.
func (w *worker) judge(ctx context.Context, live []*unstructured.Unstructured) (health.Rules, error) {
	all := len(w.wanted.objects) == 0 && w.wanted.problem != ""
	var objects []health.Judged
	there := map[deploy.Key]*unstructured.Unstructured{}
	for _, o := range live {
		there[deploy.KeyOf(o)] = o
		if all && len(o.GetOwnerReferences()) == 0 {
			objects = append(objects, health.Judged{Key: deploy.KeyOf(o), Live: o, Hook: !plan.Managed(o)})
		}
	}
	if !all {
		for _, o := range w.desired {
			key := deploy.KeyOf(o)
			objects = append(objects, health.Judged{Key: key, Live: there[key], Hook: !plan.Managed(o)})
		}
	}
	rules, err := w.c.Judging(ctx, live)
	if err != nil {
		return rules, err
	}
	h, err := try(w, func() deploy.Health { return rules.Aggregate(objects) })
	if err != nil {
		return rules, err
	}
	if len(objects) == 0 && w.wanted.problem != "" {
		h = deploy.Health{Status: health.Missing, Message: w.wanted.problem}
	}
	if h.Status != w.row.Health.Status {
		w.row.Since = w.c.o.Now().UTC()
	}
	w.row.Health = h
	return rules, nil
}

// compare compares what applying would give with what is there.
func (w *worker) compare(ctx context.Context, live []*unstructured.Unstructured) (plan.Comparison, error) {
	predicted, problems, err := w.predict(ctx, live)
	if err != nil {
		return plan.Comparison{}, err
	}
	w.row.Problems = slices.Concat(w.wanted.notes, plan.Ignored(w.desired, w.options(true)), w.unrespected(), w.remnants(), w.c.customProblems(), problems)
	comparison, err := try(w, func() plan.Comparison {
		return plan.Compare(predicted, live, plan.Views{Predicted: true, Ignore: w.row.Spec.IgnoreDifferences})
	})
	if err != nil {
		return comparison, err
	}
	if w.made != nil {
		comparison.Status = plan.OutOfSync
		comparison.Resources = append([]plan.Resource{{Key: deploy.KeyOf(w.made), Status: plan.OutOfSync, Differences: []string{""}}}, comparison.Resources...)
	}
	w.row.Sync, w.row.Message = comparison.Status, ""
	w.blame("", "")
	w.condition(deploy.ConditionEmpty, w.wanted.empty())
	raw, err := json.Marshal(comparison.Resources)
	if err != nil {
		return comparison, fmt.Errorf("write comparison: %w", err)
	}
	w.row.Resources = raw
	return comparison, nil
}

// sharedWith says which of the objects belong to others.
func sharedWith(refused []*deploy.OwnedError) string {
	var lines []string
	for i, one := range refused {
		if i == 10 {
			lines = append(lines, fmt.Sprintf("and %d more", len(refused)-i))
			break
		}
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "; ")
}
