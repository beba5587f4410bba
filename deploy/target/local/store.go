package local

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
)

// object is one object: its record in the ledger, and the same decoded.
type object struct {
	deploy.ObjectRecord
	live *unstructured.Unstructured
	// last is the entry that last changed it, the cause of what follows from it.
	last int64
	// spec caches the typed form; see typedOf.
	spec any
}

func (o *object) deleting() bool { return o.live.GetDeletionTimestamp() != nil }

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
			o := &object{live: &unstructured.Unstructured{}, last: row.Seq}
			if err := json.Unmarshal(row.Body, &o.ObjectRecord); err != nil {
				return fmt.Errorf("read object %s: %w", row.Key, err)
			}
			if err := o.live.UnmarshalJSON(o.ObjectRecord.Object); err != nil {
				return fmt.Errorf("read object %s: %w", row.Key, err)
			}
			t.index(o)
		}
		if len(rows) < query.Limit {
			return nil
		}
		last := rows[len(rows)-1]
		query.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
	}
}

func (t *Target) index(o *object) {
	t.objects[o.Key] = o
	if o.Key.Kind == "Pod" && t.pods[o.UID] == nil {
		t.pods[o.UID] = &pod{object: o}
	}
}

func (t *Target) byUID(uid string) *object {
	for _, o := range t.objects {
		if o.UID == uid {
			return o
		}
	}
	return nil
}

// children gives the objects of a kind that an object owns; t.mu is held.
func (t *Target) children(owner *object, kind string) []*object {
	var found []*object
	for _, o := range t.objects {
		if o.Key.Kind != kind || o.Key.Namespace != owner.Key.Namespace {
			continue
		}
		for _, r := range o.live.GetOwnerReferences() {
			if string(r.UID) == owner.UID {
				found = append(found, o)
			}
		}
	}
	return found
}

// change is one thing to write about an object.
type change struct {
	kind  string
	o     *object
	cause int64
	actor string
}

// write records changes in one transaction. On failure memory is not to be trusted, so the caller gives up what it
// was about to do and the next reconcile tries again. t.mu is held.
func (t *Target) write(ctx context.Context, changes ...change) error {
	if len(changes) == 0 {
		return nil
	}
	for _, c := range changes {
		if c.kind != deploy.KindObjectDeleted {
			if err := c.o.encode(); err != nil {
				return err
			}
		}
	}
	made := make([]ledger.Ref, len(changes))
	err := t.o.Ledger.Write(ctx, ledger.On("object/"+changes[0].o.Key.String()), func(tx ledger.Tx) error {
		for i, c := range changes {
			draft := ledger.Draft{Actor: c.actor, Kind: c.kind, Subject: "object/" + c.o.Key.String(), Cause: ledger.At(c.cause)}
			if draft.Actor == "" {
				draft.Actor = "system"
			}
			if c.kind != deploy.KindObjectDeleted {
				draft.Body = c.o.ObjectRecord
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
		if c.kind == deploy.KindObjectDeleted {
			delete(t.objects, c.o.Key)
			delete(t.pods, c.o.UID)
		} else {
			t.index(c.o)
		}
		select {
		case t.changes <- deploy.Change{Application: c.o.Application, Key: c.o.Key, Time: t.o.Now()}:
		default: // It is a hint, and there are hints enough waiting.
		}
	}
	return nil
}

// log writes changes and reports a failure to the log, where nobody waits for the answer.
func (t *Target) log(changes ...change) bool {
	if err := t.write(t.ctx, changes...); err != nil {
		if t.ctx.Err() == nil {
			t.o.Log.Error("objects could not be recorded; trying again", "error", err)
			t.at(t.o.Now().Add(1e9))
		}
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
	if err != nil {
		t.o.Log.Error("status could not be written", "object", o.Key.String(), "error", err)
		return
	}
	before := o.live.Object["status"]
	if reflect.DeepEqual(before, any(tree)) {
		return
	}
	o.live.Object["status"] = tree
	if !t.log(change{kind: deploy.KindObjectChanged, o: o, cause: cause}) {
		o.live.Object["status"] = before
	}
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
	yes := true
	u.SetUID(metaUID(uid))
	u.SetCreationTimestamp(metav1.NewTime(now))
	u.SetGeneration(1)
	u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: owner.live.GetAPIVersion(), Kind: owner.Key.Kind,
		Name: owner.Key.Name, UID: metaUID(owner.UID), Controller: &yes, BlockOwnerDeletion: &yes}})
	return &object{live: u, ObjectRecord: deploy.ObjectRecord{Key: deploy.KeyOf(u), Application: owner.Application, UID: uid,
		Created: now, Cause: owner.Cause}}
}
