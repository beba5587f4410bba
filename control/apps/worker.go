package apps

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
)

// worker is the state of one Application, a cache of its row, and what was made of it. Only its actor uses it, and after an error
// that is no refusal it is loaded anew.
type worker struct {
	c   *Controller
	key string

	row   deploy.ApplicationRow
	known bool // row is in the ledger
	// recorded is the row's JSON as the ledger has it.
	recorded []byte
	wanted   *wanted
	// desired are the objects of the present look: those that are wanted, and a preview's namespace.
	desired []*unstructured.Unstructured
	// made is the namespace that is made before the objects and is nobody's; nil if there is none to make.
	made *unstructured.Unstructured
	// changed are those of the desired objects that are not as they are wanted, since fields that are to be ignored are as they are live.
	changed map[*unstructured.Unstructured]bool
	// parting are the hooks of the deletion that is under way; nil if they are not known yet.
	parting *wanted
	// predictions are what dry runs gave.
	predictions predictions
	// leaves is what its definition and its project give it.
	leaves leave
	// cluster is where it runs: row.Cluster.
	cluster deploy.Cluster
	// due is when it wants to be woken; zero leaves it to the next poll.
	due time.Time
}

// load reads an Application from the ledger.
func (c *Controller) load(ctx context.Context, key string) (*worker, error) {
	w := &worker{c: c, key: key}
	row, err := c.row(ctx, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	if w.recorded, err = json.Marshal(row); err != nil {
		return nil, fmt.Errorf("read application %s: %w", key, err)
	}
	w.row, w.known = row, true
	return w, nil
}

// row is an Application as the ledger has it.
func (c *Controller) row(ctx context.Context, key string) (deploy.ApplicationRow, error) {
	var a deploy.ApplicationRow
	row, err := c.o.Ledger.Row(ctx, deploy.TableApplication, key)
	if err == nil {
		err = json.Unmarshal(row.Body, &a)
	}
	if err != nil {
		return a, fmt.Errorf("read application %s: %w", key, err)
	}
	return a, nil
}

// handle does what one message asks for.
func (c *Controller) handle(ctx context.Context, key string, w *worker, batch []message) []error {
	if order := batch[0].order; order != nil {
		err := order(ctx, w)
		c.apps.at(key, 0)
		return []error{err}
	}
	m := c.apps.take(key)
	w.due = time.Time{}
	gone, err := w.step(ctx, m.refresh)
	if gone {
		if c.apps.forget(key); w.known {
			c.poke() // It may have been declared again meanwhile.
		}
		*w = worker{c: c, key: key}
		return []error{nil}
	}
	if err != nil {
		if ctx.Err() == nil {
			err = errors.Join(err, c.show(ctx, key, err))
		}
		return []error{err}
	}
	wait := c.o.Poll
	if !w.due.IsZero() {
		wait = min(wait, max(w.due.Sub(c.o.Now()), time.Millisecond))
	}
	c.apps.at(key, wait)
	return nil
}

// show puts on an Application why it could not be looked after. The state of the actor is not trusted: the row is read anew.
func (c *Controller) show(ctx context.Context, key string, why error) error {
	w, err := c.load(ctx, key)
	if err != nil || !w.known {
		return err
	}
	w.row.Conditions = w.row.Conditions.Set(deploy.ConditionUnknown, why.Error(), c.o.Now())
	return w.recordChanges(ctx, deploy.KindApplicationChanged, 0)
}

func (w *worker) next(at time.Time) {
	if w.due.IsZero() || at.Before(w.due) {
		w.due = at
	}
}

// condition notes that something is so, or with an empty message that it is not.
func (w *worker) condition(kind, message string) {
	w.row.Conditions = w.row.Conditions.Set(kind, message, w.c.o.Now())
}

// step looks once; true when the Application is gone.
func (w *worker) step(ctx context.Context, refresh bool) (bool, error) {
	at, err := w.c.stands(ctx, w.key, w.row)
	if err != nil {
		return false, err
	}
	w.condition(deploy.ConditionUnknown, "")
	switch {
	case w.row.Deleting || at.gone:
		if !w.known {
			return true, nil
		}
		return w.tearDown(ctx, at.declared)
	case at.held != "":
		return false, w.hold(ctx, at)
	}
	if err := w.define(ctx, at.declared); err != nil {
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

// hold leaves what is there as it is, and shows why. Health goes on to be judged.
func (w *worker) hold(ctx context.Context, at standing) error {
	if !w.known {
		// Nothing of it was ever deployed; it is on record so that it can be seen.
		w.row.Namespace, w.row.Name, _ = strings.Cut(w.key, "/")
		w.row.Origin, w.row.Digest, w.row.Definition = at.declared.origin, at.declared.digest, at.declared.seq
		w.begun()
		w.row.Message = at.held
		w.condition(deploy.ConditionInvalidSpec, at.held)
		if err := w.record(ctx, deploy.KindApplicationSet, at.declared.seq, "system", nil); err != nil {
			return err
		}
		w.known = true
		return nil
	}
	w.wanted = &wanted{problem: at.held, kind: deploy.ConditionInvalidSpec}
	if err := w.locate(); err != nil {
		return err
	}
	return w.idle(ctx)
}

// begun fills in what a new row has.
func (w *worker) begun() {
	w.row.Created = w.c.o.Now().UTC()
	w.row.UID = uid(w.key, w.row.Created)
	w.row.Sync, w.row.Health = plan.SyncUnknown, deploy.Health{Status: health.Unknown}
	w.row.Since = w.row.Created
}

// define records a changed definition.
func (w *worker) define(ctx context.Context, d *declared) error {
	if w.known && w.row.Digest == d.digest && w.row.Origin == d.origin {
		return nil
	}
	w.row.Namespace, w.row.Name = d.Namespace, d.Name
	w.row.Labels, w.row.Annotations, w.row.Finalizers, w.row.Spec = d.Labels, d.Annotations, d.Finalizers, d.Spec
	w.row.Origin, w.row.Digest, w.row.Definition = d.origin, d.digest, d.seq
	w.row.MR, _ = strconv.Atoi(d.Annotations[promote.AnnotationMR])
	if !w.known {
		w.begun()
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
		a, err := w.c.row(ctx, w.key)
		if err != nil {
			return err
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

// causeOf is the newest event that told of a commit; 0 if none did.
func (c *Controller) causeOf(ctx context.Context, sha string) (int64, error) {
	if sha == "" {
		return 0, nil
	}
	rows, err := c.o.Ledger.List(ctx, ledger.Query{Table: event.TableEvent, Labels: map[string]string{"commit": sha}, Limit: 1})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	var e event.EventRow
	if err := json.Unmarshal(rows[0].Body, &e); err != nil {
		return 0, fmt.Errorf("read the event of commit %s: %w", sha, err)
	}
	return e.Seq, nil
}

// operation is the running or last sync.
func (w *worker) operation() (plan.Operation, error) {
	return onRecord(w.row.Operation, "sync")
}

// onRecord reads how far a sync or a deletion got; the zero value if none has begun.
func onRecord(raw json.RawMessage, what string) (op plan.Operation, err error) {
	if len(raw) == 0 {
		return op, nil
	}
	if err := json.Unmarshal(raw, &op); err != nil {
		return op, fmt.Errorf("read the %s on record: %w", what, err)
	}
	return op, nil
}

func (w *worker) setOperation(op plan.Operation) error {
	raw, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("write the sync: %w", err)
	}
	w.row.Operation = raw
	return nil
}
