// Package targettest is the suite that every implementation of deploy.Target runs.
package targettest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

const application = "default/suite"

func configMap(value string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "suite", "namespace": "suite"}, "data": map[string]any{"key": value}}}
}

// Run tests an empty target that open makes.
func Run(t *testing.T, open func(t *testing.T) deploy.Target) {
	t.Run("apply and get", func(t *testing.T) { applyAndGet(t, open(t)) })
	t.Run("dry run", func(t *testing.T) { dryRun(t, open(t)) })
	t.Run("ownership", func(t *testing.T) { ownership(t, open(t)) })
	t.Run("delete", func(t *testing.T) { remove(t, open(t)) })
	t.Run("check", func(t *testing.T) { check(t, open(t)) })
}

func apply(t *testing.T, target deploy.Target, o *unstructured.Unstructured, opt deploy.ApplyOptions) *unstructured.Unstructured {
	t.Helper()
	got, err := target.Apply(t.Context(), o, opt)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func applyAndGet(t *testing.T, target deploy.Target) {
	key := deploy.KeyOf(configMap(""))
	if _, err := target.Get(t.Context(), key); !errors.Is(err, deploy.ErrNotFound) {
		t.Fatalf("get before: %v", err)
	}
	options := deploy.ApplyOptions{Application: application}
	wish := configMap("1")
	first := apply(t, target, wish, options)
	if diff := cmp.Diff(configMap("1").Object, wish.Object); diff != "" {
		t.Errorf("the caller's object was changed: %s", diff)
	}
	if created := first.GetCreationTimestamp(); first.GetUID() == "" || created.IsZero() {
		t.Errorf("no identity: %v", first.Object)
	}
	again := apply(t, target, configMap("1"), options)
	if again.GetUID() != first.GetUID() || again.GetGeneration() != first.GetGeneration() {
		t.Error("the same wish again is a change")
	}
	second := apply(t, target, configMap("2"), options)
	got, err := target.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if value, _, _ := unstructured.NestedString(got.Object, "data", "key"); value != "2" || got.GetUID() != first.GetUID() || second.GetUID() != first.GetUID() {
		t.Errorf("after a change: %v", got.Object)
	}
	got.Object["data"] = "spoilt"
	if got, err = target.Get(t.Context(), key); err != nil || got.Object["data"] == "spoilt" {
		t.Error("what Get gives is the target's own")
	}
	list, err := target.List(t.Context(), application)
	if err != nil || len(list) != 1 {
		t.Errorf("list: %d, %v", len(list), err)
	}
	if list, err = target.List(t.Context(), "default/other"); err != nil || len(list) != 0 {
		t.Errorf("list of another application: %d, %v", len(list), err)
	}
}

func dryRun(t *testing.T, target deploy.Target) {
	options := deploy.ApplyOptions{Application: application, DryRun: true}
	apply(t, target, configMap("1"), options)
	if _, err := target.Get(t.Context(), deploy.KeyOf(configMap(""))); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("a dry run made it: %v", err)
	}
	live := apply(t, target, configMap("1"), deploy.ApplyOptions{Application: application})
	predicted := apply(t, target, configMap("1"), options)
	if diff := cmp.Diff(live.Object, predicted.Object); diff != "" {
		t.Errorf("what would be is not what is: %s", diff)
	}
	if err := target.Delete(t.Context(), deploy.KeyOf(live), options); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Get(t.Context(), deploy.KeyOf(live)); err != nil {
		t.Errorf("a dry run deleted it: %v", err)
	}
}

func ownership(t *testing.T, target deploy.Target) {
	apply(t, target, configMap("1"), deploy.ApplyOptions{Application: application})
	other := deploy.ApplyOptions{Application: "default/other"}
	if _, err := target.Apply(t.Context(), configMap("2"), other); err == nil {
		t.Error("another application took it")
	}
	if err := target.Delete(t.Context(), deploy.KeyOf(configMap("")), other); err == nil {
		t.Error("another application deleted it")
	}
	var owned *deploy.OwnedError
	if _, err := target.Apply(t.Context(), configMap("2"), other); !errors.As(err, &owned) || owned.Owner != application {
		t.Errorf("the refusal does not name the owner: %v", err)
	}
	other.TakeFrom = application
	apply(t, target, configMap("2"), other)
}

func remove(t *testing.T, target deploy.Target) {
	key := deploy.KeyOf(configMap(""))
	options := deploy.ApplyOptions{Application: application}
	if err := target.Delete(t.Context(), key, options); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
	apply(t, target, configMap("1"), options)
	if err := target.Delete(t.Context(), key, options); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		_, err := target.Get(ctx, key)
		if errors.Is(err, deploy.ErrNotFound) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("it did not go")
		case <-target.Changes():
		}
	}
}

func check(t *testing.T, target deploy.Target) {
	if problems, err := target.Check(t.Context(), []*unstructured.Unstructured{configMap("1")}); err != nil || len(problems) != 0 {
		t.Errorf("a ConfigMap has problems: %v %v", problems, err)
	}
	unknown := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.invalid/v1", "kind": "Nothing", "metadata": map[string]any{"name": "x"}}}
	problems, err := target.Check(t.Context(), []*unstructured.Unstructured{unknown})
	if err != nil || len(problems) == 0 || !problems[0].Fatal || problems[0].Message == "" {
		t.Errorf("an unknown kind: %v", problems)
	}
	if _, err := target.Apply(t.Context(), unknown, deploy.ApplyOptions{Application: application}); err == nil {
		t.Error("an unknown kind was applied")
	}
}
