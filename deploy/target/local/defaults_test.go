package local

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/schema"
)

func tree(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	o := &unstructured.Unstructured{}
	if err == nil {
		err = o.UnmarshalJSON(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const template = "{metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: 'web:v1'}]}}"

// What was recorded before the defaults were kept with it is completed when it is read, so that an upgrade of the server makes no difference to any wish and no
// new ReplicaSet.
func TestOldRecordsAreCompleted(t *testing.T) {
	read := func(text string) *object {
		u := tree(t, text)
		raw, err := json.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(deploy.ObjectRecord{Key: deploy.KeyOf(u), Object: raw})
		if err != nil {
			t.Fatal(err)
		}
		o, err := decodeObject(body, 1)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	wish := "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: prod}, spec: {selector: {matchLabels: {app: web}}, template: " + template + "}}"
	d := read(wish)
	full, err := schema.Complete(tree(t, wish))
	if err != nil || !sameWish(d.live, full) {
		t.Errorf("%v: it differs from the completed wish", err)
	}
	if spec := typedOf[appsv1.Deployment](d); spec.Spec.Replicas == nil || *spec.Spec.Replicas != 1 {
		t.Errorf("replicas %v", spec.Spec.Replicas)
	}
	old := read("{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-old, namespace: prod, labels: {app: web, pod-template-hash: old}}, spec: {replicas: 1, selector: {matchLabels: {app: web, pod-template-hash: old}}, template: " +
		strings.Replace(template, "app: web", "app: web, pod-template-hash: old", 1) + "}}")
	s := &set{object: old, spec: typedOf[appsv1.ReplicaSet](old)}
	if hash := templateHash(typedOf[appsv1.Deployment](d).Spec.Template); !s.is(hash) {
		t.Error("the ReplicaSet of before is not the Deployment's any more")
	}
	if s.is("another") {
		t.Error("it is any template's")
	}
	secret := read("{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: prod}, data: {a: 'digest:abc'}}")
	if data, _, _ := unstructured.NestedString(secret.live.Object, "data", "a"); data != "digest:abc" || secret.live.Object["type"] != "Opaque" {
		t.Errorf("%v", secret.live.Object)
	}
}
