// Package targettest is the suite that every implementation of deploy.Target and deploy.Pods runs.
package targettest

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// The Applications of the suite.
const (
	application = "default/suite"
	another     = "default/other"
)

// namespace is where the suite's objects lie.
const namespace = "suite"

// patience is how long the suite waits for what a target does in its own time.
const patience = time.Minute

// Subject is a target under test with nothing on it.
type Subject struct {
	Target deploy.Target
	Pods   deploy.Pods
	// Reopen closes the target and opens it anew on the same record; what runs goes on.
	Reopen func(t *testing.T) (deploy.Target, deploy.Pods)
	// Container is a container that serves until it is stopped, and writes Log.
	Container map[string]any
	Log       string
	// Crashing is a container that writes something and fails.
	Crashing map[string]any
}

// Run tests what open makes; each test has one of its own.
func Run(t *testing.T, open func(t *testing.T) *Subject) {
	for name, test := range map[string]func(*testing.T, *Subject){
		"apply and get":           applyAndGet,
		"versions":                versions,
		"dry run":                 dryRun,
		"check":                   check,
		"unknown keys":            unknownKeys,
		"list":                    list,
		"one owner":               oneOwner,
		"taking over":             takingOver,
		"side by side":            sideBySide,
		"delete":                  remove,
		"owners go last":          ownersGoLast,
		"namespaces":              namespaces,
		"shared namespaces":       sharedNamespaces,
		"release":                 release,
		"namespaces of previews":  previews,
		"changes":                 changes,
		"logs":                    logs,
		"logs of a restarted pod": previousLogs,
		"contexts":                contexts,
		"waves":                   waves,
		"restart":                 restart,
		"restart in a deletion":   restartInADeletion,
		"behind its door":         behindItsDoor,
		"hosts":                   hosts,
		"force":                   forced,
		"network policies":        networkPolicies,
		"claims":                  claims,
		"kept without effect":     inert,
		"stateful sets":           statefulSets,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// object makes an object of the suite's namespace.
func object(apiVersion, kind, name string, rest map[string]any) *unstructured.Unstructured {
	tree := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace}}
	for key, value := range rest {
		tree[key] = value
	}
	return &unstructured.Unstructured{Object: tree}
}

func configMap(name, value string) *unstructured.Unstructured {
	return object("v1", "ConfigMap", name, map[string]any{"data": map[string]any{"key": value}})
}

// deployment has two pods of a container.
func (s *Subject) deployment(name string) *unstructured.Unstructured {
	labels := map[string]any{"app": name}
	return object("apps/v1", "Deployment", name, map[string]any{"spec": map[string]any{"replicas": int64(2),
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{"metadata": map[string]any{"labels": labels},
			"spec": map[string]any{"terminationGracePeriodSeconds": int64(5), "containers": []any{s.Container}}}}})
}

func owned(by string) deploy.ApplyOptions { return deploy.ApplyOptions{Application: by} }

func (s *Subject) apply(t *testing.T, o *unstructured.Unstructured, opt deploy.ApplyOptions) *unstructured.Unstructured {
	t.Helper()
	got, err := s.Target.Apply(t.Context(), o, opt)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// live gives an object, nil if there is none.
func (s *Subject) live(t *testing.T, k deploy.Key) *unstructured.Unstructured {
	t.Helper()
	o, err := s.Target.Get(t.Context(), k)
	if errors.Is(err, deploy.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (s *Subject) all(t *testing.T, application string) []*unstructured.Unstructured {
	t.Helper()
	found, err := s.Target.List(t.Context(), application)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// await waits for hints until something is so.
func (s *Subject) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond) // a hint may come before what it tells of can be seen
	defer again.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			for _, o := range s.all(t, "") {
				raw, _ := o.MarshalJSON()
				t.Log(string(raw))
			}
			t.Fatalf("waited in vain: %s", what)
		case <-s.Target.Changes():
		case <-again.C:
		}
	}
}

// gone says that there is no such object any more.
func (s *Subject) gone(t *testing.T, k deploy.Key) func() bool {
	return func() bool { return s.live(t, k) == nil }
}

func kindsOf(list []*unstructured.Unstructured) map[string]int {
	found := map[string]int{}
	for _, o := range list {
		found[o.GetKind()]++
	}
	return found
}
