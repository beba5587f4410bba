package apps

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/preview"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/ledger"
)

// worker looks after one Application; only its own goroutine uses what is below orders.
type worker struct {
	c      *Controller
	key    string
	kick   chan struct{}
	orders chan order

	mu       sync.Mutex
	refresh  bool
	told     bool
	declared *declared // what should be; nil if it should go

	row   deploy.ApplicationRow
	known bool // row is in the ledger
	// recorded is the row's JSON as the ledger has it.
	recorded []byte
	wanted   *wanted
	// cluster is where it runs: row.Cluster.
	cluster deploy.Cluster
	at      time.Time
}

func (w *worker) wake(refresh bool) {
	w.mu.Lock()
	w.refresh = w.refresh || refresh
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// declare tells what the Application should be; nil that it should go.
func (w *worker) declare(d *declared) {
	w.mu.Lock()
	w.declared, w.told = d, true
	w.mu.Unlock()
	w.wake(false)
}

func (w *worker) run(ctx context.Context) {
	w.recorded, _ = json.Marshal(w.row)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case o := <-w.orders:
			o.done <- o.do(ctx, w)
		case <-w.kick:
		case <-timer.C:
		}
		w.at = time.Time{}
		done, err := w.step(ctx)
		if done {
			return
		}
		if err != nil && ctx.Err() == nil {
			w.c.o.Log.Error("application could not be looked after; trying again", "application", w.key, "error", err)
			w.next(w.c.o.Now().Add(5 * time.Second))
		}
		wait := w.c.o.Poll
		if !w.at.IsZero() {
			wait = min(wait, max(w.at.Sub(w.c.o.Now()), time.Millisecond))
		}
		timer.Reset(wait)
	}
}

func (w *worker) next(at time.Time) {
	if w.at.IsZero() || at.Before(w.at) {
		w.at = at
	}
}

// step looks once; true when the Application is gone.
func (w *worker) step(ctx context.Context) (bool, error) {
	w.mu.Lock()
	d, told, refresh := w.declared, w.told, w.refresh
	w.refresh = false
	w.mu.Unlock()
	if !told {
		return false, nil // After a start, before the definitions were read: nothing is deleted by mistake.
	}
	if d == nil || w.row.Deleting {
		if !w.known {
			return true, nil
		}
		return w.tearDown(ctx)
	}
	if err := w.define(ctx, d); err != nil {
		return false, err
	}
	if err := w.locate(); err != nil {
		return false, err
	}
	if refresh || w.wanted == nil {
		w.resolve(ctx)
	}
	return false, w.reconcile(ctx)
}

// define records a changed definition.
func (w *worker) define(ctx context.Context, d *declared) error {
	if w.known && w.row.Digest == d.digest && w.row.Origin == d.origin {
		return nil
	}
	before := w.row
	w.row.Namespace, w.row.Name = d.Namespace, d.Name
	w.row.Labels, w.row.Annotations, w.row.Finalizers, w.row.Spec = d.Labels, d.Annotations, d.Finalizers, d.Spec
	w.row.Origin, w.row.Digest, w.row.Definition = d.origin, d.digest, d.seq
	w.row.MR, _ = strconv.Atoi(d.Annotations[promote.AnnotationMR])
	if !w.known {
		w.row.Created = w.c.o.Now().UTC()
		w.row.UID = uid(w.key, w.row.Created)
		w.row.Sync, w.row.Health = plan.SyncUnknown, deploy.Health{Status: health.Unknown}
		w.row.Since = w.row.Created
	}
	// As in Argo CD an operation asks for one sync: it is on record until that begins. The definition keeps it, so that
	// it counts again when the definition changes.
	w.row.Requested = nil
	if d.Operation != nil && d.Operation.Sync != nil {
		raw, err := json.Marshal(d.Operation)
		if err != nil {
			return fmt.Errorf("write operation: %w", err)
		}
		w.row.Requested = raw
	}
	if err := w.record(ctx, deploy.KindApplicationSet, d.seq, "system", nil); err != nil {
		w.row = before
		return err
	}
	w.known, w.wanted = true, nil
	return nil
}

func uid(key string, at time.Time) string {
	sum := sha256.Sum256([]byte(key + at.Format(time.RFC3339Nano)))
	return hex.EncodeToString(sum[:16])
}

// record writes the row as it is now. Afterwards the row is as the ledger has it.
func (w *worker) record(ctx context.Context, kind string, cause int64, actor string, d *deploy.Deployment) error {
	var made ledger.Ref
	err := w.c.o.Ledger.Write(ctx, ledger.On("application/"+w.key), func(tx ledger.Tx) (err error) {
		made, err = tx.Append(ledger.Draft{Actor: actor, Kind: kind, Subject: "application/" + w.key, Cause: ledger.At(cause),
			Body: deploy.ApplicationEntry{Application: w.row, Deployment: d}})
		return err
	})
	if err != nil {
		return fmt.Errorf("record %s: %w", kind, err)
	}
	if kind == deploy.KindSyncStarted {
		w.row.SyncSeq = made.Seq()
	}
	if d != nil {
		row, err := w.c.o.Ledger.Row(ctx, deploy.TableApplication, w.key)
		if err != nil {
			return fmt.Errorf("read application: %w", err)
		}
		var a deploy.ApplicationRow
		if err := json.Unmarshal(row.Body, &a); err != nil {
			return fmt.Errorf("read application: %w", err)
		}
		w.row.Current = a.Current
	}
	if w.recorded, err = json.Marshal(w.row); err != nil {
		return fmt.Errorf("write application: %w", err)
	}
	if kind == deploy.KindSyncStarted {
		w.recorded = nil // The entry could not hold its own sequence: the next record does.
	}
	return nil
}

// recordChanges writes the row if it is not what the ledger has.
func (w *worker) recordChanges(ctx context.Context, kind string, cause int64) error {
	raw, err := json.Marshal(w.row)
	if err != nil {
		return fmt.Errorf("write application: %w", err)
	}
	if bytes.Equal(raw, w.recorded) {
		return nil
	}
	return w.record(ctx, kind, cause, "system", nil)
}

// tearDown removes everything that the Application made, then the Application. Without the resources finalizer its
// objects stay, as in Argo CD.
func (w *worker) tearDown(ctx context.Context) (bool, error) {
	if !w.row.Deleting {
		w.row.Deleting = true
		if err := w.record(ctx, deploy.KindApplicationChanged, w.row.Definition, "system", nil); err != nil {
			w.row.Deleting = false
			return false, err
		}
	}
	cascade := slices.ContainsFunc(w.row.Finalizers, func(f string) bool { return strings.HasPrefix(f, preview.ResourcesFinalizer) })
	if cascade {
		for _, name := range append([]string{w.row.Cluster}, w.row.Left...) {
			if empty, err := w.clear(ctx, name); err != nil || !empty {
				w.next(w.c.o.Now().Add(time.Second))
				return false, err
			}
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

// clear deletes the Application's objects on a cluster; true when none is left.
func (w *worker) clear(ctx context.Context, name string) (bool, error) {
	cluster, err := w.c.o.Targets.Named(name)
	if err != nil {
		return false, fmt.Errorf("delete objects: %w", err)
	}
	live, err := cluster.Target.List(ctx, w.key)
	if err != nil {
		return false, fmt.Errorf("list objects: %w", err)
	}
	for _, o := range slices.Backward(live) {
		if len(o.GetOwnerReferences()) > 0 || o.GetDeletionTimestamp() != nil {
			continue
		}
		if err := cluster.Target.Delete(ctx, deploy.KeyOf(o), deploy.ApplyOptions{Application: w.key, Cause: w.row.SyncSeq}); err != nil {
			return false, err
		}
	}
	return len(live) == 0, nil
}

// reconcile compares, judges and syncs.
func (w *worker) reconcile(ctx context.Context) error {
	if w.wanted == nil || w.wanted.problem != "" {
		return w.idle(ctx)
	}
	for range 100 {
		live, err := w.cluster.Target.List(ctx, w.key)
		if err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		comparison := w.compare(ctx, live)
		w.judge(live)
		op := w.operation()
		if op.Phase != plan.Running {
			if err := w.beginRequested(ctx, comparison, op); err != nil {
				return err
			}
			if op = w.operation(); op.Phase != plan.Running {
				return w.recordChanges(ctx, w.changeKind(), w.row.SyncSeq)
			}
		}
		acted, err := w.advance(ctx, op, live, comparison)
		if err != nil || !acted {
			return err
		}
	}
	w.next(w.c.o.Now().Add(time.Second))
	return nil
}

// idle records why nothing can be deployed, and keeps judging what runs.
func (w *worker) idle(ctx context.Context) error {
	live, err := w.cluster.Target.List(ctx, w.key)
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	w.judge(live)
	if w.wanted != nil {
		w.row.Sync, w.row.Message = plan.SyncUnknown, w.wanted.problem
	}
	w.next(w.c.o.Now().Add(30 * time.Second))
	return w.recordChanges(ctx, w.changeKind(), w.row.Definition)
}

func (w *worker) changeKind() string {
	var old deploy.ApplicationRow
	if json.Unmarshal(w.recorded, &old) == nil && old.Health.Status != w.row.Health.Status {
		return deploy.KindHealthChanged
	}
	return deploy.KindApplicationChanged
}

func (w *worker) operation() plan.Operation {
	var op plan.Operation
	if len(w.row.Operation) > 0 {
		_ = json.Unmarshal(w.row.Operation, &op) // We wrote it ourselves.
	}
	return op
}

func (w *worker) setOperation(op plan.Operation) {
	raw, err := json.Marshal(op)
	if err == nil {
		w.row.Operation = raw
	}
}

// judge sets the health from what is live of what is wanted; before anything is wanted, of all that is there.
func (w *worker) judge(live []*unstructured.Unstructured) {
	var objects []health.Judged
	there := map[deploy.Key]*unstructured.Unstructured{}
	for _, o := range live {
		there[deploy.KeyOf(o)] = o
		if w.wanted == nil && len(o.GetOwnerReferences()) == 0 {
			objects = append(objects, health.Judged{Key: deploy.KeyOf(o), Live: o, Hook: plan.IsHook(o)})
		}
	}
	if w.wanted != nil {
		for _, o := range w.wanted.objects {
			key := deploy.KeyOf(o)
			objects = append(objects, health.Judged{Key: key, Live: there[key], Hook: plan.IsHook(o)})
		}
	}
	h := w.c.Health().Aggregate(objects)
	if len(objects) == 0 && w.wanted != nil && w.wanted.problem != "" {
		h = deploy.Health{Status: health.Missing, Message: w.wanted.problem}
	}
	if h.Status != w.row.Health.Status {
		w.row.Since = w.c.o.Now().UTC()
	}
	w.row.Health = h
}

// compare asks the target what applying would give, which is compared with what is there.
func (w *worker) compare(ctx context.Context, live []*unstructured.Unstructured) plan.Comparison {
	predicted := make([]*unstructured.Unstructured, 0, len(w.wanted.objects))
	w.row.Problems = append(slices.Clone(w.wanted.notes), w.remnants()...)
	for _, o := range w.wanted.objects {
		p, err := w.apply(ctx, o, deploy.ApplyOptions{Application: w.key, DryRun: true})
		if err != nil {
			w.row.Problems = append(w.row.Problems, err.Error())
			p = o
		}
		predicted = append(predicted, p)
	}
	comparison := plan.Compare(predicted, live, plan.Views{Predicted: true, Ignore: w.row.Spec.IgnoreDifferences})
	w.row.Sync, w.row.Message = comparison.Status, ""
	if raw, err := json.Marshal(comparison.Resources); err == nil {
		w.row.Resources = raw
	}
	return comparison
}
