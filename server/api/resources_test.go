package api

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
)

// live is a target with some objects.
type live struct {
	deploy.Target
	deploy.Pods
	objects []*unstructured.Unstructured
}

func (l live) List(context.Context, string) ([]*unstructured.Unstructured, error) {
	return l.objects, nil
}

// Each object says how it compares, and whether a sync with prune deletes it: so that whoever is asked for a confirmation sees of
// what. What an object made was not compared.
func TestResourcesSayWhatASyncDeletes(t *testing.T) {
	var objects []*unstructured.Unstructured
	var compared []plan.Resource
	for name, r := range map[string]plan.Resource{
		"kept": {Status: plan.Synced}, "changed": {Status: plan.OutOfSync}, "old": {Status: plan.OutOfSync, RequiresPruning: true}, "made": {},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": "default"}}}
		objects = append(objects, o)
		if r.Key = deploy.KeyOf(o); r.Status != "" {
			compared = append(compared, r)
		}
	}
	raw, err := json.Marshal(compared)
	if err != nil {
		t.Fatal(err)
	}
	targets, err := deploy.NewTargets(podpolicy.New(), deploy.Cluster{Place: deploy.Place{Name: deploy.InCluster, Server: deploy.InClusterServer}, Target: live{objects: objects}, Pods: live{}})
	if err != nil {
		t.Fatal(err)
	}
	a := &API{Targets: targets, Apps: apps.New(apps.Options{})}
	list, err := a.resources(t.Context(), deploy.ApplicationRow{Namespace: "default", Name: "harbour", Resources: raw})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range list {
		got[r.Name] = r.Sync
		if r.Prune {
			got[r.Name] += " prune"
		}
	}
	want := map[string]string{"kept": "Synced", "changed": "OutOfSync", "old": "OutOfSync prune", "made": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := a.resources(t.Context(), deploy.ApplicationRow{Namespace: "default", Name: "harbour"}); err != nil {
		t.Errorf("before anything was compared: %v", err)
	}
}
