package local

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/secret"
)

func metaUID(s string) types.UID { return types.UID(s) }

// Apply implements deploy.Target.
func (t *Target) Apply(ctx context.Context, wish *unstructured.Unstructured, opt deploy.ApplyOptions) (*unstructured.Unstructured, error) {
	key := deploy.KeyOf(wish)
	for _, p := range t.check(wish) {
		if p.Fatal {
			return nil, fmt.Errorf("apply %s: %s", key, p.Message)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.objects[key]
	if err := old.refuses(opt); err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	if old != nil && old.deleting() {
		return nil, fmt.Errorf("apply %s: %w", key, deploy.ErrLeaving)
	}
	next, err := t.next(old, wish, opt)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", key, err)
	}
	if opt.DryRun {
		return next.live, nil
	}
	if old != nil && next.live.GetGeneration() == old.live.GetGeneration() && sameMeta(old.live, next.live) &&
		next.Application == old.Application && reflect.DeepEqual(next.Sealed, old.Sealed) {
		return old.live.DeepCopy(), nil
	}
	t.o.Fault("apply")
	if old != nil {
		// The object keeps its identity: pods and children refer to it.
		saved := *old
		*old = *next
		if err := t.write(ctx, change{kind: deploy.KindObjectApplied, o: old, cause: opt.Cause}); err != nil {
			*old = saved
			return nil, fmt.Errorf("apply %s: %w", key, err)
		}
		next = old
	} else if err := t.write(ctx, change{kind: deploy.KindObjectApplied, o: next, cause: opt.Cause}); err != nil {
		return nil, fmt.Errorf("apply %s: %w", key, err)
	}
	t.o.Fault("applied")
	if p := t.pods[next.UID]; p != nil && old == nil {
		t.adopt(p)
	}
	t.poke()
	return next.live.DeepCopy(), nil
}

// refuses is the [deploy.OwnedError] of an object that another Application owns.
func (o *object) refuses(opt deploy.ApplyOptions) error {
	if o == nil || o.Application == "" || o.Application == opt.Application || o.Application == opt.TakeFrom {
		return nil
	}
	return &deploy.OwnedError{Key: o.Key, Owner: o.Application}
}

func sameMeta(a, b *unstructured.Unstructured) bool {
	return reflect.DeepEqual(a.GetLabels(), b.GetLabels()) && reflect.DeepEqual(a.GetAnnotations(), b.GetAnnotations())
}

// next is the object as it will be.
func (t *Target) next(old *object, wish *unstructured.Unstructured, opt deploy.ApplyOptions) (*object, error) {
	u := wish.DeepCopy()
	unstructured.RemoveNestedField(u.Object, "status")
	next := &object{live: u, ObjectRecord: deploy.ObjectRecord{Key: deploy.KeyOf(u), Application: opt.Application, Cause: opt.Cause}}
	if old != nil {
		next.UID, next.Created, next.Attempt, next.State = old.UID, old.Created, old.Attempt, old.State
	} else {
		next.UID, next.Created = newUID(), t.o.Now().UTC()
	}
	if u.GetKind() == "Secret" {
		if err := t.seal(next, old); err != nil {
			return nil, err
		}
	}
	notes := u.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	if opt.Application != "" {
		notes["argocd.argoproj.io/tracking-id"] = opt.Application + ":" + next.Key.String()
	}
	if old != nil { // what this target noted is its own: a Service keeps its address
		for name, value := range old.live.GetAnnotations() {
			if strings.HasPrefix(name, notePrefix) {
				notes[name] = value
			}
		}
	}
	if len(notes) > 0 {
		u.SetAnnotations(notes)
	}
	u.SetUID(metaUID(next.UID))
	u.SetCreationTimestamp(metav1.NewTime(next.Created))
	u.SetManagedFields(nil)
	u.SetGeneration(1)
	if old != nil {
		if status, there := old.live.Object["status"]; there {
			u.Object["status"] = status
		}
		u.SetGeneration(old.live.GetGeneration())
		if !sameWish(old.live, u) {
			u.SetGeneration(old.live.GetGeneration() + 1)
		}
		if old.Key.Kind == "Pod" && u.GetGeneration() != old.live.GetGeneration() && !opt.Replace {
			return nil, errors.New("a Pod cannot be changed; delete it first, or use a Deployment")
		}
		if old.Key.Kind == "Job" && u.GetGeneration() != old.live.GetGeneration() {
			return nil, errors.New("a Job cannot be changed; delete it first, or make it a hook")
		}
	}
	if err := next.encode(); err != nil {
		return nil, err
	}
	return next, nil
}

// notePrefix begins the annotations that this target keeps for itself; they are not compared with Git.
const notePrefix = "target.tiphys.dev/"

// sameWish compares all but metadata and status.
func sameWish(a, b *unstructured.Unstructured) bool {
	strip := func(u *unstructured.Unstructured) map[string]any {
		kept := map[string]any{}
		for key, value := range u.Object {
			if key != "metadata" && key != "status" {
				kept[key] = value
			}
		}
		return kept
	}
	x, err1 := json.Marshal(strip(a))
	y, err2 := json.Marshal(strip(b))
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// seal takes a Secret's values out of sight: encrypted in the record, digests in the object.
func (t *Target) seal(next, old *object) error {
	var s corev1.Secret
	raw, err := next.live.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return errors.New("the Secret cannot be read: values of data must be base64, of stringData text")
	}
	values, shown := map[string][]byte{}, map[string]any{}
	for name, value := range s.Data {
		values[name] = value
	}
	for name, value := range s.StringData {
		values[name] = []byte(value)
	}
	for name, value := range values {
		mac := hmac.New(sha256.New, append([]byte(next.UID), t.o.DigestKey...))
		mac.Write([]byte(name + "\x00"))
		mac.Write(value)
		shown[name] = "digest:" + hex.EncodeToString(mac.Sum(nil)[:12])
	}
	unstructured.RemoveNestedField(next.live.Object, "stringData")
	next.live.Object["data"] = shown
	if old != nil && reflect.DeepEqual(old.live.Object["data"], any(shown)) {
		next.Sealed = old.Sealed
		return nil
	}
	plain, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("seal values: %w", err)
	}
	next.Sealed = t.o.Box.Seal(secret.New(string(plain)), "object/"+next.UID)
	return nil
}

// resolve gives the ConfigMaps and Secrets of a namespace for the executor; t.mu is held.
func (t *Target) resolve(namespace string) (map[string]map[string]secret.Value, error) {
	found := map[string]map[string]secret.Value{}
	for key, o := range t.objects {
		if key.Namespace != namespace || o.deleting() || (key.Kind != "ConfigMap" && key.Kind != "Secret") {
			continue
		}
		data := map[string]secret.Value{}
		if key.Kind == "Secret" {
			plain, err := t.o.Box.Open(o.Sealed, "object/"+o.UID)
			if err != nil {
				return nil, fmt.Errorf("open Secret %s: %w", key.Name, err)
			}
			var values map[string][]byte
			if err := json.Unmarshal([]byte(plain.Reveal()), &values); err != nil {
				return nil, fmt.Errorf("open Secret %s: the values cannot be read", key.Name)
			}
			for name, value := range values {
				data[name] = secret.New(string(value))
			}
		} else {
			text, _, _ := unstructured.NestedStringMap(o.live.Object, "data")
			for name, value := range text {
				data[name] = secret.New(value)
			}
			binary, _, _ := unstructured.NestedStringMap(o.live.Object, "binaryData")
			for name, value := range binary {
				if raw, err := base64.StdEncoding.DecodeString(value); err == nil {
					data[name] = secret.New(string(raw))
				}
			}
		}
		found[key.Kind+"/"+namespace+"/"+key.Name] = data
	}
	return found, nil
}

// Delete implements deploy.Target. What the object owns goes with it, pods after they were drained.
func (t *Target) Delete(ctx context.Context, k deploy.Key, opt deploy.ApplyOptions) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.objects[k]
	if o == nil || opt.DryRun || o.deleting() {
		return nil
	}
	if err := o.refuses(opt); err != nil && opt.Application != "" {
		return fmt.Errorf("delete: %w", err)
	}
	t.o.Fault("delete")
	if err := t.markDeleted(ctx, o, opt.Cause); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	t.poke()
	return nil
}

// markDeleted begins the deletion; t.mu is held.
func (t *Target) markDeleted(ctx context.Context, o *object, cause int64) error {
	now := metav1.NewTime(t.o.Now().UTC())
	state := o.State
	o.live.SetDeletionTimestamp(&now)
	o.State = "Deleting"
	if err := t.write(ctx, change{kind: deploy.KindObjectDeleting, o: o, cause: cause}); err != nil {
		o.live.SetDeletionTimestamp(nil)
		o.State = state
		return err
	}
	return nil
}
