package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/schema"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
)

// object is one object: its record in the ledger, and the same decoded.
type object struct {
	deploy.ObjectRecord
	live *unstructured.Unstructured
	// last is the entry that last changed it, the cause of what follows from it.
	last int64
	// recorded is the record as the ledger has it; without a uid it has none.
	recorded deploy.ObjectRecord
	// spec caches the typed form; see typedOf.
	spec any
}

func (o *object) deleting() bool { return o.live.GetDeletionTimestamp() != nil }

// view is a copy of the object as everybody sees it.
func (o *object) view() *unstructured.Unstructured {
	u := o.live.DeepCopy()
	if o.last > 0 {
		u.SetResourceVersion(strconv.FormatInt(o.last, 10))
	}
	return u
}

// restore brings the object back to what the ledger has.
func (o *object) restore() error {
	if o.recorded.UID == "" {
		return nil // It was never there, and nobody refers to it.
	}
	live := &unstructured.Unstructured{}
	if err := live.UnmarshalJSON(o.recorded.Object); err != nil {
		return fmt.Errorf("read object %s: %w", o.Key, err)
	}
	o.ObjectRecord, o.live, o.spec = o.recorded, live, nil
	return nil
}

// id names the pod's present attempt at the executor.
func (o *object) id() executor.ID {
	return executor.ID{Owner: OwnerPrefix + o.UID, Node: o.Key.Name, Attempt: o.Attempt}
}

// typedOf decodes an object once for each of its states.
func typedOf[T any](o *object) *T {
	if cached, ok := o.spec.(*T); ok {
		return cached
	}
	var typed T
	// What cannot be decoded was refused by Check; a zero value wants nothing.
	_ = json.Unmarshal(o.ObjectRecord.Object, &typed)
	o.spec = &typed
	return &typed
}

// encode brings the record in line with live.
func (o *object) encode() error {
	raw, err := o.live.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write %s: %w", o.Key, err)
	}
	o.ObjectRecord.Object, o.spec = raw, nil
	return nil
}

func (t *Target) load(ctx context.Context) error {
	query := ledger.Query{Table: deploy.TableObject, Oldest: true, Limit: 1000}
	for {
		rows, err := t.o.Ledger.List(ctx, query)
		if err != nil {
			return fmt.Errorf("read objects: %w", err)
		}
		for _, row := range rows {
			if cmp.Or(row.Labels["cluster"], deploy.InCluster) != cmp.Or(t.o.Cluster, deploy.InCluster) {
				continue
			}
			o, err := t.readObject(ctx, row)
			if err != nil {
				return err
			}
			if o != nil {
				t.index(o)
			}
		}
		if len(rows) < query.Limit {
			return nil
		}
		last := rows[len(rows)-1]
		query.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
	}
}

func (t *Target) index(o *object) {
	t.objects.put(o)
	if o.Key.Kind == "Pod" && o.Key.Group == "" && t.pods[o.UID] == nil {
		t.pods[o.UID] = &pod{object: o}
	}
}

// children gives the objects of a kind that an object owns; t.mu is held.
func (t *Target) children(owner *object, kind string) []*object {
	return t.objects.owned(owner, kind)
}

// change is one thing to write about an object.
type change struct {
	kind  string
	o     *object
	cause int64
	actor string
	// note is for a deletion: what went wrong on the way.
	note string
}

// write records changes in one transaction. On failure the objects are again as the ledger has them: the caller gives up what it
// was about to do, and the next reconcile tries again. t.mu is held.
func (t *Target) write(ctx context.Context, changes ...change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := t.record(ctx, changes); err != nil {
		for _, c := range changes {
			err = errors.Join(err, c.o.restore())
		}
		return err
	}
	t.troubles.Over(recording)
	for _, c := range changes {
		if c.kind == deploy.KindObjectDeleted {
			t.objects.remove(c.o)
			delete(t.pods, c.o.UID)
			t.untroubled(c.o)
		} else {
			c.o.recorded = c.o.ObjectRecord
			t.index(c.o)
		}
		t.hints.add(deploy.Change{Application: c.o.Application, Key: c.o.Key, Time: t.o.Now()})
	}
	return nil
}

// record writes changes, and notes the entry of each.
func (t *Target) record(ctx context.Context, changes []change) error {
	for _, c := range changes {
		if c.kind != deploy.KindObjectDeleted {
			if err := c.o.encode(); err != nil {
				return err
			}
		}
	}
	made := make([]ledger.Ref, len(changes))
	err := t.o.Ledger.Write(ctx, ledger.On("object/"+changes[0].o.RowKey()), func(tx ledger.Tx) error {
		for i, c := range changes {
			draft := ledger.Draft{Actor: c.actor, Kind: c.kind, Subject: "object/" + c.o.RowKey(), Cause: ledger.At(c.cause)}
			if draft.Actor == "" {
				draft.Actor = "system"
			}
			if c.kind != deploy.KindObjectDeleted {
				draft.Body = c.o.ObjectRecord
			} else {
				draft.Body = deploy.ObjectGone{Application: c.o.Application, Note: c.note}
			}
			var err error
			if made[i], err = tx.Append(draft); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record objects: %w", err)
	}
	for i, c := range changes {
		c.o.last = made[i].Seq()
	}
	return nil
}

// log writes changes where nobody waits for the answer: a failure is shown, and everything is tried again.
func (t *Target) log(changes ...change) bool {
	if err := t.write(t.ctx, changes...); err != nil {
		t.again(recording, err, time.Second)
		return false
	}
	return true
}

// setStatus replaces an object's status and records it if it is another. The change is on the object only after
// it is recorded. t.mu is held.
func (t *Target) setStatus(o *object, status any, cause int64) {
	raw, err := json.Marshal(status)
	var tree map[string]any
	if err == nil {
		// Through the decoder of unstructured, so that numbers have the same types on both sides.
		u := &unstructured.Unstructured{}
		if err = u.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"Status","x":` + string(raw) + `}`)); err == nil {
			tree, _ = u.Object["x"].(map[string]any)
		}
	}
	what := "write the status of " + o.Key.String()
	if err != nil {
		t.wrong(what, err)
		return
	}
	t.troubles.Over(what)
	before := o.live.Object["status"]
	if reflect.DeepEqual(before, any(tree)) {
		return
	}
	o.live.Object["status"] = tree
	t.log(change{kind: deploy.KindObjectChanged, o: o, cause: cause})
}

// child makes an object that another owns.
func (t *Target) child(owner *object, apiVersion, kind, name string, tree map[string]any) *object {
	u := &unstructured.Unstructured{Object: tree}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetName(name)
	u.SetNamespace(owner.Key.Namespace)
	uid := newUID()
	now := t.o.Now().UTC()
	u.SetUID(metaUID(uid))
	u.SetCreationTimestamp(metav1.NewTime(now))
	u.SetGeneration(1)
	u.SetOwnerReferences([]metav1.OwnerReference{owner.ownedBy()})
	return &object{live: u, ObjectRecord: deploy.ObjectRecord{Key: deploy.KeyOf(u), Cluster: owner.Cluster, Application: owner.Application, For: owner.For, UID: uid,
		Created: now, Cause: owner.Cause, Defaults: schema.Version}} // those of the template that it is made of
}
