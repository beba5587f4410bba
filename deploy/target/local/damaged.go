package local

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/schema"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// damaged is an object whose record cannot be read. It holds its Application, since it is not known what is there of it, and nothing
// else.
type damaged struct {
	application string
	problem     error
}

// err is what is said to who asks for it.
func (d damaged) err() error {
	return failure.WithHint(failure.Errorf(failure.Stalled, "its record is damaged: %w", d.problem),
		"stop the server, make the rows anew with tiphys ledger repair, and look at the disk")
}

// readObject reads an object from its row; from the entry that it was made of if the row is damaged.
func (t *Target) readObject(ctx context.Context, row ledger.Row) (*object, error) {
	o, err := decodeObject(row.Body, row.Seq)
	if err == nil && o.RowKey() != row.Key {
		err = fmt.Errorf("it is the record of %s", o.RowKey())
	}
	if err == nil {
		return o, nil
	}
	entries, asked := t.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: "object/" + row.Key, Newest: true, Limit: 1})
	if asked != nil {
		return nil, fmt.Errorf("read the entry of object %s: %w", row.Key, asked)
	}
	if len(entries) == 1 && strings.HasPrefix(entries[0].Kind, "object.") && entries[0].Kind != deploy.KindObjectDeleted {
		if from, problem := decodeObject(entries[0].Body, entries[0].Seq); problem == nil && from.RowKey() == row.Key {
			t.o.Log.Warn("the row of an object is damaged: its entry is used", "object", row.Key, "entry", entries[0].Seq, "problem", err)
			return from, nil
		}
	}
	d := damaged{row.Owner, err}
	t.damaged[row.Key] = d
	t.wrong("read object "+row.Key, d.err())
	return nil, nil
}

func decodeObject(body json.RawMessage, seq int64) (*object, error) {
	o := &object{live: &unstructured.Unstructured{}, last: seq}
	if err := json.Unmarshal(body, &o.ObjectRecord); err != nil {
		return nil, err
	}
	if err := o.live.UnmarshalJSON(o.ObjectRecord.Object); err != nil {
		return nil, err
	}
	if key := deploy.KeyOf(o.live); key != o.Key {
		return nil, fmt.Errorf("it is the record of %s", key)
	}
	o.recorded = o.ObjectRecord
	return o, o.complete()
}

// complete fills in what an object of an older record lacks, since the defaults were not kept with it, so that it differs from no wish that has them. What
// cannot be completed stays as it is.
func (o *object) complete() error {
	if o.Defaults == schema.Version || o.Key.Kind == "Pod" && len(o.live.GetOwnerReferences()) > 0 { // no wish is like such a pod, and there are many
		return nil
	}
	live := o.live.DeepCopy()
	sealed := o.live.GetKind() == "Secret" && o.Key.Group == ""
	if sealed { // digests, which are no values of a Secret
		delete(live.Object, "data")
	}
	full, err := schema.Complete(live)
	if err != nil {
		return nil //nolint:nilerr // it was taken before Kubernetes' rules were asked, and is served as it was
	}
	if data, there := o.live.Object["data"]; there && sealed {
		full.Object["data"] = data
	}
	o.live, o.Defaults = full, schema.Version
	return o.encode()
}

// whole is an error if the record of an object is damaged. t.mu is held.
func (t *Target) whole(k deploy.Key) error {
	if d, is := t.damaged[(deploy.ObjectRecord{Key: k, Cluster: t.o.Cluster}).RowKey()]; is {
		return d.err()
	}
	return nil
}

// allWhole is an error if one of an Application's objects, or of all if it is empty, cannot be read. t.mu is held.
func (t *Target) allWhole(application string) error {
	for _, key := range slices.Sorted(maps.Keys(t.damaged)) {
		d := t.damaged[key]
		if application == "" || cmp.Or(d.application, application) == application {
			return fmt.Errorf("object %s: %w", key, d.err())
		}
	}
	return nil
}
