package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/preview"
	"github.com/tiphys/tiphys/ledger"
)

// tearDown removes everything that the Application made, then the Application. Without the resources finalizer its
// objects stay, as in Argo CD.
func (w *worker) tearDown(ctx context.Context) (bool, error) {
	if !w.row.Deleting {
		w.row.Deleting = true
		if err := w.record(ctx, deploy.KindApplicationChanged, w.row.Definition, "system", nil); err != nil {
			return false, err
		}
	}
	cascade := slices.ContainsFunc(w.row.Finalizers, func(f string) bool { return strings.HasPrefix(f, preview.ResourcesFinalizer) })
	if cascade {
		for _, name := range append([]string{w.row.Cluster}, w.row.Left...) {
			empty, err := w.clear(ctx, name)
			if err != nil && ctx.Err() == nil {
				return false, w.stuck(ctx, err)
			}
			if err != nil || !empty {
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

// stuck shows why the objects of an Application that is being deleted cannot go, and tries again.
func (w *worker) stuck(ctx context.Context, why error) error {
	w.condition(deploy.ConditionDeletion, why.Error())
	w.next(w.c.o.Now().Add(firstRetry))
	return w.recordChanges(ctx, deploy.KindApplicationChanged, w.row.Definition)
}

// clear deletes the Application's objects on a cluster; true when none is left. A namespace in which others have objects stays and is nobody's.
func (w *worker) clear(ctx context.Context, name string) (bool, error) {
	cluster, err := w.c.o.Targets.Named(name)
	if err != nil {
		return false, fmt.Errorf("delete objects: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	live, err := cluster.Target.List(ctx, w.key)
	if err != nil {
		return false, fmt.Errorf("list objects: %w", err)
	}
	for _, o := range slices.Backward(live) {
		if len(o.GetOwnerReferences()) > 0 || o.GetDeletionTimestamp() != nil {
			continue
		}
		opt := deploy.ApplyOptions{Application: w.key, Cause: w.row.SyncSeq}
		err := error(&deploy.SharedError{})
		if key := deploy.KeyOf(o); (key != w.home() || w.row.MR != 0 || w.row.OwnsNamespace) && !plan.OptionsOf(o, w.options(false)).NoDelete {
			err = cluster.Target.Delete(ctx, key, opt)
		}
		var others *deploy.SharedError
		if errors.As(err, &others) {
			err = cluster.Target.Release(ctx, deploy.KeyOf(o), opt)
		}
		if err != nil {
			return false, err
		}
	}
	return len(live) == 0, nil
}
