package local

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/schema"
)

// fixedError says that an object cannot be changed in place, but can be made anew.
type fixedError struct {
	kind string
	// fields says which cannot be changed; empty where nothing of the object can.
	fields string
}

func (e *fixedError) Error() string {
	if e.fields != "" {
		return fmt.Sprintf("%s: delete the %s first, or have it recreated by the sync option Force=true", e.fields, e.kind)
	}
	return fmt.Sprintf("a %s cannot be changed: delete it first, have it recreated by the sync option Force=true, or use %s", e.kind, map[string]string{
		"Pod": "a Deployment", "Job": "a hook",
	}[e.kind])
}

// fixedFields says what of a change of an object Kubernetes would refuse, such as another selector; empty if nothing. The values of a Secret are sealed, so
// that of one only its type and whether it may change are compared.
func fixedFields(old, next *unstructured.Unstructured) string {
	switch next.GetKind() {
	case "Pod", "Job", "Namespace", "StatefulSet", "PersistentVolumeClaim":
		return "" // of these the target knows more itself
	case "Secret":
		return fixedSecret(old, next)
	}
	return deploy.Refusal(new(schema.Checker).CheckChange(next, old))
}

func fixedSecret(old, next *unstructured.Unstructured) string {
	if was, is := old.Object["type"], next.Object["type"]; was != nil && was != is {
		return fmt.Sprintf("type: is %v and cannot be changed", was)
	}
	if fixed, _ := old.Object["immutable"].(bool); fixed {
		still, _ := next.Object["immutable"].(bool)
		if !still {
			return "immutable: cannot be taken back"
		}
		if !reflect.DeepEqual(old.Object["data"], next.Object["data"]) {
			return "data: cannot be changed, since the Secret is immutable"
		}
	}
	return ""
}

// neverChanges says that objects of a kind cannot be changed in place.
func neverChanges(k deploy.Key) bool {
	return k.Kind == "Pod" && k.Group == "" || k.Kind == "Job" && k.Group == "batch"
}

// fixed says why an object cannot become another in place: a [fixedError] if it can be made anew.
func fixed(old *object, next *unstructured.Unstructured) error {
	changed := next.GetGeneration() != old.live.GetGeneration()
	switch {
	case neverChanges(old.Key) && changed || relabelled(old, next.GetLabels()):
		return &fixedError{kind: old.Key.Kind}
	case !changed:
		return nil
	case old.Key.Group == "apps" && old.Key.Kind == "StatefulSet":
		return fixedSet(typedOf[appsv1.StatefulSet](old), next)
	case old.Key.Group == "" && old.Key.Kind == "PersistentVolumeClaim":
		return fixedClaim(typedOf[corev1.PersistentVolumeClaim](old), next)
	}
	if fields := fixedFields(old.live, next); fields != "" {
		return &fixedError{kind: old.Key.Kind, fields: fields}
	}
	return nil
}

// decoded reads an object as its kind; what cannot be read was refused before.
func decoded[T any](u *unstructured.Unstructured) (*T, error) {
	raw, err := u.MarshalJSON()
	var typed T
	if err == nil {
		err = json.Unmarshal(raw, &typed)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return &typed, nil
}

// fixedSet: Kubernetes changes of a StatefulSet no more than these fields.
func fixedSet(old *appsv1.StatefulSet, u *unstructured.Unstructured) error {
	next, err := decoded[appsv1.StatefulSet](u)
	if err != nil {
		return err
	}
	was := old.Spec.DeepCopy()
	was.Replicas, was.Ordinals, was.Template, was.UpdateStrategy = next.Spec.Replicas, next.Spec.Ordinals, next.Spec.Template, next.Spec.UpdateStrategy
	was.RevisionHistoryLimit, was.PersistentVolumeClaimRetentionPolicy, was.MinReadySeconds =
		next.Spec.RevisionHistoryLimit, next.Spec.PersistentVolumeClaimRetentionPolicy, next.Spec.MinReadySeconds
	for _, spec := range []*appsv1.StatefulSetSpec{was, &next.Spec} {
		for i := range spec.VolumeClaimTemplates {
			c := &spec.VolumeClaimTemplates[i]
			c.Status, c.TypeMeta = corev1.PersistentVolumeClaimStatus{}, metav1.TypeMeta{}
		}
	}
	if !equality.Semantic.DeepEqual(*was, next.Spec) {
		return &fixedError{kind: "StatefulSet", fields: "of a StatefulSet serviceName, selector, podManagementPolicy and volumeClaimTemplates cannot be changed"}
	}
	return nil
}

// makeAnew has an object go, so that it can be made anew when it is gone: until then the answer is [deploy.ErrLeaving]. A dry run gives what would
// be made. t.mu is held.
func (t *Target) makeAnew(ctx context.Context, old *object, wish *unstructured.Unstructured, opt deploy.ApplyOptions) (*unstructured.Unstructured, error) {
	if opt.DryRun {
		next, err := t.next(nil, wish, opt)
		if err != nil {
			return nil, fmt.Errorf("apply %s: %w", old.Key, err)
		}
		return next.view(), nil
	}
	t.o.Fault("delete")
	if err := t.markDeleted(ctx, old, opt.Cause); err != nil {
		return nil, fmt.Errorf("recreate %s: %w", old.Key, err)
	}
	t.poke()
	return nil, fmt.Errorf("recreate %s: %w", old.Key, deploy.ErrLeaving)
}
