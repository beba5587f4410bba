package targettest

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

func applyAndGet(t *testing.T, s *Subject) {
	key := deploy.KeyOf(configMap("c", ""))
	if s.live(t, key) != nil {
		t.Fatal("it is there already")
	}
	wish := configMap("c", "1")
	first := s.apply(t, wish, owned(application))
	if diff := cmp.Diff(configMap("c", "1").Object, wish.Object); diff != "" {
		t.Errorf("the caller's object was changed: %s", diff)
	}
	if created := first.GetCreationTimestamp(); first.GetUID() == "" || created.IsZero() {
		t.Errorf("no identity: %v", first.Object)
	}
	again := s.apply(t, configMap("c", "1"), owned(application))
	if again.GetUID() != first.GetUID() || again.GetGeneration() != first.GetGeneration() {
		t.Error("the same wish again is a change")
	}
	second := s.apply(t, configMap("c", "2"), owned(application))
	got := s.live(t, key)
	if value, _, _ := unstructured.NestedString(got.Object, "data", "key"); value != "2" || got.GetUID() != first.GetUID() || second.GetUID() != first.GetUID() {
		t.Errorf("after a change: %v", got.Object)
	}
	got.Object["data"] = "spoilt"
	if s.live(t, key).Object["data"] == "spoilt" {
		t.Error("what Get gives is the target's own")
	}
	for _, o := range s.all(t, application) {
		o.Object["data"] = "spoilt"
	}
	if s.live(t, key).Object["data"] == "spoilt" {
		t.Error("what List gives is the target's own")
	}
}

// versions: who compares an object's resourceVersion with one that was seen before sees every change and nothing else.
func versions(t *testing.T, s *Subject) {
	key := deploy.KeyOf(configMap("c", ""))
	first := s.apply(t, configMap("c", "1"), owned(application)).GetResourceVersion()
	if first == "" {
		t.Fatal("an object has no resourceVersion")
	}
	s.apply(t, configMap("c", "1"), owned(application))
	if got := s.live(t, key).GetResourceVersion(); got != first {
		t.Errorf("it is %s after nothing changed, and was %s", got, first)
	}
	stale := configMap("c", "2")
	stale.SetResourceVersion("1") // one that was exported somewhere
	second := s.apply(t, stale, owned(application)).GetResourceVersion()
	if second == first || second == "1" {
		t.Errorf("it is %s after a change, and was %s", second, first)
	}
	listed := s.all(t, application)
	if len(listed) != 1 || listed[0].GetResourceVersion() != second || s.live(t, key).GetResourceVersion() != second {
		t.Errorf("List, Get and Apply give different versions: %v, want %s", listed, second)
	}
	s.apply(t, s.deployment("d"), owned(application))
	before := s.live(t, deploy.KeyOf(s.deployment("d"))).GetResourceVersion()
	s.await(t, "the status follows", func() bool {
		o := s.live(t, deploy.KeyOf(s.deployment("d")))
		ready, _, _ := unstructured.NestedInt64(o.Object, "status", "readyReplicas")
		if ready == 2 && o.GetResourceVersion() == before {
			t.Fatal("a changed status is no other version")
		}
		return ready == 2
	})
}

func dryRun(t *testing.T, s *Subject) {
	options := deploy.ApplyOptions{Application: application, DryRun: true}
	s.apply(t, configMap("c", "1"), options)
	if s.live(t, deploy.KeyOf(configMap("c", ""))) != nil {
		t.Error("a dry run made it")
	}
	live := s.apply(t, configMap("c", "1"), owned(application))
	predicted := s.apply(t, configMap("c", "1"), options)
	if diff := cmp.Diff(live.Object, predicted.Object); diff != "" {
		t.Errorf("what would be is not what is: %s", diff)
	}
	s.apply(t, configMap("c", "2"), options)
	if diff := cmp.Diff(live.Object, s.live(t, deploy.KeyOf(live)).Object); diff != "" {
		t.Errorf("a dry run changed it: %s", diff)
	}
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(live), options); err != nil {
		t.Fatal(err)
	}
	if o := s.live(t, deploy.KeyOf(live)); o == nil || o.GetDeletionTimestamp() != nil {
		t.Error("a dry run deleted it")
	}
	var owner *deploy.OwnedError
	if _, err := s.Target.Apply(t.Context(), configMap("c", "1"), deploy.ApplyOptions{Application: another, DryRun: true}); !errors.As(err, &owner) {
		t.Errorf("a dry run does not say that it would be refused: %v", err)
	}
}

func check(t *testing.T, s *Subject) {
	can, err := s.Target.Capabilities(t.Context())
	if err != nil || can.Version == "" {
		t.Errorf("%+v, %v", can, err)
	}
	for kind, namespaced := range map[string]bool{"ConfigMap": true, "Namespace": false} {
		if got, known := can.Kind("", kind); !known || got.Namespaced != namespaced {
			t.Errorf("%s: %+v, %t", kind, got, known)
		}
	}
	nothing := object("example.invalid/v1", "Nothing", "x", nil)
	if _, known := can.Kind("example.invalid", "Nothing"); known {
		t.Error("an unknown kind is said to be known")
	}
	problems, err := s.Target.Check(t.Context(), []*unstructured.Unstructured{configMap("c", "1"), nothing, s.deployment("d")}, owned(application))
	if err != nil || len(problems) != 1 || !problems[0].Fatal || problems[0].Message == "" || problems[0].Key != deploy.KeyOf(nothing) {
		t.Errorf("of three objects one is of an unknown kind: %+v, %v", problems, err)
	}
	if _, err := s.Target.Apply(t.Context(), nothing, owned(application)); err == nil {
		t.Error("an unknown kind was applied")
	}
	if found := s.all(t, ""); len(found) != 0 {
		t.Errorf("a check made something: %v", found)
	}
}

func unknownKeys(t *testing.T, s *Subject) {
	s.apply(t, configMap("c", "1"), owned(application))
	for _, key := range []deploy.Key{
		{},
		{Kind: "ConfigMap", Namespace: namespace, Name: "d"},
		{Kind: "ConfigMap", Namespace: "elsewhere", Name: "c"},
		{Kind: "ConfigMap", Name: "c"},
		{Group: "apps", Kind: "ConfigMap", Namespace: namespace, Name: "c"},
		{Kind: "configmap", Namespace: namespace, Name: "c"},
		{Group: "example.invalid", Kind: "Nothing", Namespace: namespace, Name: "c"},
		{Kind: "Pod", Namespace: namespace, Name: "../../c"},
	} {
		if _, err := s.Target.Get(t.Context(), key); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("get %s: %v", key, err)
		}
		if err := s.Target.Delete(t.Context(), key, owned(application)); err != nil {
			t.Errorf("delete of what is not there: %s: %v", key, err)
		}
		if log, err := s.Pods.Logs(t.Context(), key, "", deploy.LogOptions{}); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("logs of %s: %v, %v", key, log, err)
		}
	}
	if log, err := s.Pods.Logs(t.Context(), deploy.KeyOf(configMap("c", "")), "", deploy.LogOptions{}); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("logs of a ConfigMap: %v, %v", log, err)
	}
	if len(s.all(t, "")) != 1 {
		t.Error("something else went")
	}
}

// list: an application's own with everything that it made, owners before what they own.
func list(t *testing.T, s *Subject) {
	s.apply(t, configMap("c", "1"), owned(another))
	s.apply(t, s.deployment("d"), owned(application))
	s.await(t, "its pods are there", func() bool { return kindsOf(s.all(t, application))["Pod"] == 2 })
	mine := s.all(t, application)
	if diff := cmp.Diff(map[string]int{"Deployment": 1, "ReplicaSet": 1, "Pod": 2}, kindsOf(mine)); diff != "" {
		t.Error(diff)
	}
	seen := map[string]bool{}
	for _, o := range mine {
		for _, r := range o.GetOwnerReferences() {
			if !seen[string(r.UID)] {
				t.Errorf("%s %s comes before its owner", o.GetKind(), o.GetName())
			}
		}
		seen[string(o.GetUID())] = true
	}
	if got := kindsOf(s.all(t, another)); got["ConfigMap"] != 1 || len(got) != 1 {
		t.Errorf("another's: %v", got)
	}
	if got := s.all(t, "default/nobody"); len(got) != 0 {
		t.Errorf("nobody's: %v", got)
	}
	if got := s.all(t, ""); len(got) != 5 {
		t.Errorf("everybody's: %v", kindsOf(got))
	}
}

// sideBySide: what many apply at once is there once, and every object is whole.
func sideBySide(t *testing.T, s *Subject) {
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for j := range 10 {
				for _, name := range []string{"shared", string(rune('a' + i))} {
					if _, err := s.Target.Apply(t.Context(), configMap(name, string(rune('0'+j))), owned(application)); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Target.List(t.Context(), application); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	found := map[string]string{}
	for _, o := range s.all(t, application) {
		value, _, _ := unstructured.NestedString(o.Object, "data", "key")
		found[o.GetName()] = value
	}
	want := map[string]string{"shared": found["shared"]}
	for i := range 8 {
		want[string(rune('a'+i))] = "9"
	}
	if diff := cmp.Diff(want, found); diff != "" || len(found["shared"]) != 1 {
		t.Error(diff, found["shared"])
	}
}
