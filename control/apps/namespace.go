package apps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// The namespace that the sync option CreateNamespace=true makes is nobody's, as in Argo CD: it is made before the first object, and stays. Only a
// preview owns the one that is made for it, which goes with it. One that is written in the manifests is an object like any other.

// namespaceOf is the namespace that CreateNamespace=true makes for an Application; nil without it.
func (w *worker) namespaceOf() *unstructured.Unstructured {
	name := w.row.Spec.Destination.Namespace
	if !w.options(true).CreateNamespace || name == "" {
		return nil
	}
	ns := namespaceNamed(name)
	if m := w.row.Spec.SyncPolicy.ManagedNamespaceMetadata; m != nil {
		ns.SetLabels(m.Labels)
		ns.SetAnnotations(m.Annotations)
	}
	return ns
}

func namespaceNamed(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
}

// furnish sets what is desired now: what is wanted, and in a preview the namespace for it. What is to be made beforehand, and is nobody's, is in
// w.made. It gives what is live and the Application's own, and a note for people.
func (w *worker) furnish(ctx context.Context, live []*unstructured.Unstructured) (own []*unstructured.Unstructured, note string, err error) {
	w.desired, w.made = w.respecting(live), nil
	if live, err = w.relinquish(ctx, live); err != nil {
		return nil, "", err
	}
	switch ns := w.wanted.namespace; {
	case ns == nil:
		return live, "", nil
	case w.row.MR != 0:
		return live, "", w.claim(ctx, ns, live)
	default:
		note, err = w.make(ctx, ns)
		return live, note, err
	}
}

// claim has a preview's namespace among what is desired. A preview shares its namespace with nobody.
func (w *worker) claim(ctx context.Context, ns *unstructured.Unstructured, live []*unstructured.Unstructured) error {
	if !hasKey(live, deploy.KeyOf(ns)) {
		_, err := w.apply(ctx, ns, deploy.ApplyOptions{Application: w.key, DryRun: true})
		var owned *deploy.OwnedError
		var others *deploy.PreviewError
		switch {
		case errors.As(err, &owned):
			return invalid{&deploy.PreviewError{Namespace: ns.GetName(), Other: owned.Owner}}
		case errors.As(err, &others):
			return invalid{others}
		case err != nil && !errors.Is(err, deploy.ErrLeaving):
			return fmt.Errorf("look at namespace %s: %w", ns.GetName(), err)
		}
	}
	w.desired = append([]*unstructured.Unstructured{ns}, w.desired...)
	return nil
}

// make finds out whether the namespace is to be made, or is to get labels and annotations that it lacks. What else is on it stays.
func (w *worker) make(ctx context.Context, ns *unstructured.Unstructured) (note string, err error) {
	have, err := w.cluster.Target.Get(ctx, deploy.KeyOf(ns))
	if errors.Is(err, deploy.ErrNotFound) || err == nil && have.GetDeletionTimestamp() != nil {
		w.made = ns
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at namespace %s: %w", ns.GetName(), err)
	}
	labels, annotations := over(have.GetLabels(), ns.GetLabels()), over(have.GetAnnotations(), ns.GetAnnotations())
	if maps.Equal(labels, have.GetLabels()) && maps.Equal(annotations, have.GetAnnotations()) {
		return "", nil
	}
	ns = ns.DeepCopy()
	ns.SetLabels(labels)
	ns.SetAnnotations(annotations)
	_, err = w.cluster.Target.Apply(ctx, ns, deploy.ApplyOptions{DryRun: true})
	var owned *deploy.OwnedError
	if errors.As(err, &owned) {
		return fmt.Sprintf("managedNamespaceMetadata has no effect: namespace %s belongs to the application %s", ns.GetName(), owned.Owner), nil
	}
	if err != nil {
		return "", fmt.Errorf("look at namespace %s: %w", ns.GetName(), err)
	}
	w.made = ns
	return "", nil
}

// over are the entries of two maps; those of the second count.
func over(first, second map[string]string) map[string]string {
	both := map[string]string{}
	maps.Copy(both, first)
	maps.Copy(both, second)
	return both
}

// relinquish gives up the destination's namespace where it is the Application's only because an older version had the option make it so, or because
// what was written once is made by the option now. It gives the rest.
func (w *worker) relinquish(ctx context.Context, live []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	key := w.home()
	if w.row.MR != 0 {
		return live, nil
	}
	if hasKey(w.wanted.objects, key) {
		w.row.OwnsNamespace = true
		return live, nil
	}
	if !hasKey(live, key) {
		w.row.OwnsNamespace = false
		return live, nil
	}
	if w.row.OwnsNamespace && w.wanted.namespace == nil {
		return live, nil // it was written, and is written no more: a sync may prune it
	}
	if err := w.cluster.Target.Release(ctx, key, deploy.ApplyOptions{Application: w.key, Cause: w.row.Definition}); err != nil {
		return nil, err
	}
	w.row.OwnsNamespace = false
	return slices.DeleteFunc(slices.Clone(live), func(o *unstructured.Unstructured) bool { return deploy.KeyOf(o) == key }), nil
}

// home is the destination's namespace.
func (w *worker) home() deploy.Key {
	return deploy.Key{Kind: "Namespace", Name: w.row.Spec.Destination.Namespace}
}

func hasKey(list []*unstructured.Unstructured, key deploy.Key) bool {
	return slices.ContainsFunc(list, func(o *unstructured.Unstructured) bool { return deploy.KeyOf(o) == key })
}
