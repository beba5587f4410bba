package local

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/schema"
	"github.com/tiphys/tiphys/secret"
)

func metaUID(s string) types.UID { return types.UID(s) }

// Apply implements deploy.Target.
func (t *Target) Apply(ctx context.Context, wish *unstructured.Unstructured, opt deploy.ApplyOptions) (*unstructured.Unstructured, error) {
	key := deploy.KeyOf(wish)
	problems, err := t.check(ctx, new(schema.Checker), wish, opt)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", key, err)
	}
	if refusal := deploy.Refusal(problems); refusal != "" {
		return nil, fmt.Errorf("apply %s: %s", key, refusal)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.whole(key); err != nil {
		return nil, fmt.Errorf("apply %s: %w", key, err)
	}
	old := t.objects.byKey[key]
	if err := old.refuses(opt); err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	if old != nil && old.deleting() {
		return nil, fmt.Errorf("apply %s: %w", key, deploy.ErrLeaving)
	}
	if err := t.claims(wish, opt); err != nil {
		return nil, fmt.Errorf("apply %s: %w", key, err)
	}
	next, err := t.next(old, wish, opt)
	if fixed := new(fixedError); errors.As(err, &fixed) && opt.Force {
		return t.makeAnew(ctx, old, wish, opt)
	}
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", key, err)
	}
	if opt.Force && opt.Replace && !opt.DryRun && old != nil && neverChanges(old.Key) {
		return t.makeAnew(ctx, old, wish, opt)
	}
	if opt.DryRun {
		if old != nil {
			next.last = old.last
		}
		return next.view(), nil
	}
	if old != nil && next.live.GetGeneration() == old.live.GetGeneration() && sameMeta(old.live, next.live) &&
		next.Application == old.Application && reflect.DeepEqual(next.For, old.For) && slices.Equal(next.Hosts, old.Hosts) && reflect.DeepEqual(next.Sealed, old.Sealed) {
		return old.view(), nil
	}
	t.o.Fault("apply")
	var also []change
	if old != nil {
		if next.Application != old.Application || !reflect.DeepEqual(next.For, old.For) {
			also = t.takeOver(old, next, opt.Cause)
		}
		// The object keeps its identity: pods and children refer to it.
		next.last, next.recorded = old.last, old.recorded
		*old = *next
		next = old
	}
	if err := t.write(ctx, append([]change{{kind: deploy.KindObjectApplied, o: next, cause: opt.Cause}}, also...)...); err != nil {
		return nil, fmt.Errorf("apply %s: %w", key, err)
	}
	t.o.Fault("applied")
	t.wall()
	if p := t.pods[next.UID]; p != nil && old == nil {
		t.adopt(p)
	}
	t.poke()
	return next.view(), nil
}

// takeOver gives what an object owns to the Application and the subject that the object has next.
func (t *Target) takeOver(o, next *object, cause int64) []change {
	if old := o.Application; old != "" && old != next.Application {
		t.hints.add(deploy.Change{Application: old, Key: o.Key, Time: t.o.Now()})
	}
	var changes []change
	for _, below := range t.objects.below(o) {
		below.Application, below.For = next.Application, next.For
		changes = append(changes, change{kind: deploy.KindObjectChanged, o: below, cause: cause})
	}
	return changes
}

// refuses is the [deploy.OwnedError] of an object that another Application owns.
func (o *object) refuses(opt deploy.ApplyOptions) error {
	if o == nil || o.Application == "" || o.Application == opt.Application {
		return nil
	}
	if o.Application == opt.TakeFrom && !deploy.Kept(o.live) { // what an Application left behind is for nobody else
		return nil
	}
	return &deploy.OwnedError{Key: o.Key, Owner: o.Application}
}

func sameMeta(a, b *unstructured.Unstructured) bool {
	return reflect.DeepEqual(a.GetLabels(), b.GetLabels()) && reflect.DeepEqual(a.GetAnnotations(), b.GetAnnotations())
}

// next is the object as it will be.
func (t *Target) next(old *object, wish *unstructured.Unstructured, opt deploy.ApplyOptions) (*object, error) {
	u, err := schema.Complete(wish)
	if err != nil {
		return nil, err
	}
	unstructured.RemoveNestedField(u.Object, "status")
	next := &object{live: u, ObjectRecord: deploy.ObjectRecord{Key: deploy.KeyOf(u), Cluster: t.o.Cluster, Application: opt.Application, For: opt.For, Hosts: given(u, opt), Cause: opt.Cause,
		Defaults: schema.Version}}
	if old != nil {
		// What a pod has lived through is not the wish's to say.
		record := old.ObjectRecord
		record.Application, record.For, record.Hosts, record.Cause, record.Object, record.Sealed = opt.Application, opt.For, given(u, opt), opt.Cause, nil, nil
		next.ObjectRecord = record
	} else {
		next.UID, next.Created = newUID(), t.o.Now().UTC()
	}
	if next.Key.Kind == "Secret" && next.Key.Group == "" {
		if err := t.seal(next, old); err != nil {
			return nil, err
		}
	}
	notes := u.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	maps.DeleteFunc(notes, func(name, _ string) bool { return strings.HasPrefix(name, notePrefix) }) // nobody else writes them
	if opt.Application != "" {
		notes[trackingID] = opt.Application + ":" + next.Key.String()
	}
	if old != nil { // what this target noted is its own: a Service keeps its address
		for name, value := range old.live.GetAnnotations() {
			if strings.HasPrefix(name, notePrefix) {
				notes[name] = value
			}
		}
	}
	if old == nil {
		t.reclaims(next, notes)
	}
	if delete(notes, deploy.AnnotationInert); !runs(next.Key) {
		notes[deploy.AnnotationInert] = "this machine has no " + next.Key.Kind
	}
	if len(notes) == 0 {
		notes = nil
	}
	u.SetAnnotations(notes)
	u.SetUID(metaUID(next.UID))
	u.SetCreationTimestamp(metav1.NewTime(next.Created))
	u.SetManagedFields(nil)
	u.SetResourceVersion("")
	u.SetDeletionTimestamp(nil)
	u.SetGeneration(1)
	if old != nil {
		if status, there := old.live.Object["status"]; there {
			u.Object["status"] = status
		}
		u.SetGeneration(old.live.GetGeneration())
		if !sameWish(old.live, u) {
			u.SetGeneration(old.live.GetGeneration() + 1)
		}
		if err := fixed(old, u); err != nil {
			return nil, err
		}
	}
	if err := next.encode(); err != nil {
		return nil, err
	}
	return next, nil
}

// trackingID is Argo CD's annotation of whose an object is.
const trackingID = "argocd.argoproj.io/tracking-id"

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

// resolve gives the ConfigMaps and Secrets of a pod's namespace for the executor, to a preview those of its own Application only: others
// in the namespace are no business of a change that nobody has merged. One that cannot be opened is an error only to a pod whose
// specification has its name. t.mu is held.
func (t *Target) resolve(p *pod) (map[string]map[string]secret.Value, error) {
	namespace, found := p.Key.Namespace, map[string]map[string]secret.Value{}
	for o := range t.objects.byNamespace[namespace] {
		key := o.Key
		if p.For.MergeRequest != 0 && o.Application != p.Application {
			continue
		}
		if o.deleting() || key.Group != "" || (key.Kind != "ConfigMap" && key.Kind != "Secret") {
			continue
		}
		data := map[string]secret.Value{}
		if key.Kind == "Secret" {
			values, err := t.open(o)
			if err != nil && bytes.Contains(p.ObjectRecord.Object, []byte(strconv.Quote(key.Name))) {
				return nil, err
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

// open gives the values of a Secret.
func (t *Target) open(o *object) (map[string][]byte, error) {
	plain, err := t.o.Box.Open(o.Sealed, "object/"+o.UID)
	if err != nil {
		return nil, fmt.Errorf("open Secret %s: %w", o.Key.Name, err)
	}
	var values map[string][]byte
	if err := json.Unmarshal([]byte(plain.Reveal()), &values); err != nil {
		return nil, fmt.Errorf("open Secret %s: the values cannot be read", o.Key.Name)
	}
	return values, nil
}
