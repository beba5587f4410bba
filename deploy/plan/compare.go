package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/manifest"
)

// Sync statuses, Argo CD's.
const (
	Synced      = "Synced"
	OutOfSync   = "OutOfSync"
	SyncUnknown = "Unknown"
)

// Resource is how one managed object compares.
type Resource struct {
	Key    deploy.Key `json:"key"`
	Status string     `json:"status"`
	Wave   int        `json:"wave,omitempty"`
	// RequiresPruning says that it is live and no longer desired.
	RequiresPruning bool `json:"requiresPruning,omitempty"`
	// Differences are paths, "spec.replicas"; "" alone stands for the whole object.
	Differences []string `json:"differences,omitempty"`
}

// Comparison of an application.
type Comparison struct {
	Status    string     `json:"status"`
	Resources []Resource `json:"resources"`
}

// OutOfSync gives the keys that differ.
func (c Comparison) OutOfSync() map[deploy.Key]bool {
	found := map[deploy.Key]bool{}
	for _, r := range c.Resources {
		if r.Status == OutOfSync {
			found[r.Key] = true
		}
	}
	return found
}

// Views say how the sides of a comparison came to be.
type Views struct {
	// Predicted says that the desired objects are what a dry run on the target gave: complete, so that a live
	// field they lack is a difference. Otherwise they are manifests, and live fields they do not name are defaults.
	Predicted bool
	// Last are the manifests as they were last applied: a field in one that is no longer desired is a difference
	// while it is live. Used where Predicted is false.
	Last map[deploy.Key]*unstructured.Unstructured
	// Ignore is the application's ignoreDifferences.
	Ignore []manifest.IgnoreDifference
}

// Compare says which objects differ. Hooks are no part of it.
func Compare(desired, live []*unstructured.Unstructured, v Views) Comparison {
	result := Comparison{Status: Synced}
	there := map[deploy.Key]*unstructured.Unstructured{}
	for _, o := range live {
		there[deploy.KeyOf(o)] = o
	}
	wanted := map[deploy.Key]bool{}
	for _, o := range desired {
		key := deploy.KeyOf(o)
		wanted[key] = true
		if !Managed(o) {
			continue
		}
		r := Resource{Key: key, Status: Synced, Wave: waveOf(o)}
		if have := there[key]; have == nil {
			r.Differences = []string{""}
		} else {
			r.Differences = v.Differences(o, have)
		}
		if len(r.Differences) > 0 {
			r.Status, result.Status = OutOfSync, OutOfSync
		}
		result.Resources = append(result.Resources, r)
	}
	for _, o := range live {
		key := deploy.KeyOf(o)
		if wanted[key] || !prunable(o) {
			continue
		}
		result.Resources = append(result.Resources, Resource{Key: key, Status: OutOfSync, RequiresPruning: true, Wave: waveOf(o)})
		if !slices.Contains(words(o.GetAnnotations()[annotationCompare]), "IgnoreExtraneous") {
			result.Status = OutOfSync
		}
	}
	return result
}

// metadata that is wished for; the rest of it belongs to the target.
var ownMetadata = []string{"labels", "annotations"}

// Differences gives the paths in which live is not what is desired.
func (v Views) Differences(desired, live *unstructured.Unstructured) []string {
	d := &differ{exact: v.Predicted}
	want, have := v.trim(desired), v.trim(live)
	d.compare("", want, have)
	if last := v.Last[deploy.KeyOf(desired)]; last != nil && !v.Predicted {
		d.removed("", v.trim(last), want, have)
	}
	slices.Sort(d.paths)
	return slices.Compact(d.paths)
}

// trim leaves what is compared.
func (v Views) trim(o *unstructured.Unstructured) map[string]any {
	o = o.DeepCopy()
	for _, path := range ignoredPaths(v.Ignore, o) {
		path.Remove(o.Object)
	}
	tree := map[string]any{}
	for key, value := range o.Object {
		if key != "status" && key != "metadata" {
			tree[key] = value
		}
	}
	meta, _ := o.Object["metadata"].(map[string]any)
	kept := map[string]any{}
	for _, key := range ownMetadata {
		if value, there := meta[key].(map[string]any); there {
			shown := map[string]any{}
			for name, text := range value {
				if !strings.HasPrefix(name, "argocd.argoproj.io/tracking-id") && !strings.HasPrefix(name, "target.tiphys.dev/") &&
					name != "deployment.kubernetes.io/revision" && name != "kubectl.kubernetes.io/last-applied-configuration" {
					shown[name] = text
				}
			}
			kept[key] = shown
		}
	}
	tree["metadata"] = kept
	return tree
}

func ignores(i manifest.IgnoreDifference, o *unstructured.Unstructured) bool {
	match := func(pattern, text string) bool { return glob(pattern, text, false) }
	return match(i.Group, o.GroupVersionKind().Group) && match(i.Kind, o.GetKind()) &&
		(i.Name == "" || match(i.Name, o.GetName())) && (i.Namespace == "" || match(i.Namespace, o.GetNamespace()))
}

// ignoredPaths are the fields of an object that an application's ignoreDifferences name. What is no path was refused when it was declared.
func ignoredPaths(list []manifest.IgnoreDifference, o *unstructured.Unstructured) []manifest.FieldPath {
	var found []manifest.FieldPath
	for _, ignore := range list {
		if !ignores(ignore, o) {
			continue
		}
		for _, pointer := range ignore.JSONPointers {
			found = append(found, manifest.PointerPath(pointer))
		}
		for _, expression := range ignore.JQPathExpressions {
			if path, err := manifest.JQPath(expression); err == nil {
				found = append(found, path)
			}
		}
	}
	return found
}

// Ignores reports whether ignoreDifferences name a field of an object.
func Ignores(list []manifest.IgnoreDifference, o *unstructured.Unstructured) bool {
	return len(ignoredPaths(list, o)) > 0
}

// Respect gives a desired object in which the fields that ignoreDifferences names are as they are live, so that applying it leaves them alone
// (the sync option RespectIgnoreDifferences). What is not there live is not in it.
func Respect(desired, live *unstructured.Unstructured, list []manifest.IgnoreDifference) *unstructured.Unstructured {
	paths := ignoredPaths(list, desired)
	if live == nil || len(paths) == 0 {
		return desired
	}
	made := desired.DeepCopy()
	for _, path := range paths {
		path.Copy(made.Object, live.Object)
	}
	return made
}

type differ struct {
	exact bool
	paths []string
}

func (d *differ) add(at string) { d.paths = append(d.paths, at) }

func empty(node any) bool {
	switch n := node.(type) {
	case nil:
		return true
	case map[string]any:
		return len(n) == 0
	case []any:
		return len(n) == 0
	}
	return false
}

func (d *differ) compare(at string, want, have any) {
	if empty(want) && empty(have) {
		return
	}
	switch w := want.(type) {
	case map[string]any:
		h, same := have.(map[string]any)
		if !same && have != nil {
			d.add(at)
			return
		}
		for key, value := range w {
			d.compare(manifest.JoinPath(at, key), value, h[key])
		}
		for key, value := range h {
			if _, named := w[key]; !named && d.exact && !empty(value) {
				d.add(manifest.JoinPath(at, key))
			}
		}
	case []any:
		h, same := have.([]any)
		if !same || len(w) != len(h) {
			d.add(at)
			return
		}
		for i := range w {
			d.compare(manifest.IndexPath(at, i), w[i], h[i])
		}
	default:
		if !equalScalars(at, want, have) {
			d.add(at)
		}
	}
}

// removed finds fields that were applied once, are no longer desired, and are still live.
func (d *differ) removed(at string, last, want, have any) {
	l, ok1 := last.(map[string]any)
	h, ok2 := have.(map[string]any)
	if !ok1 || !ok2 {
		return
	}
	w, _ := want.(map[string]any)
	for key, value := range l {
		live, there := h[key]
		if !there || empty(live) {
			continue
		}
		if _, still := w[key]; !still {
			d.add(manifest.JoinPath(at, key))
			continue
		}
		d.removed(manifest.JoinPath(at, key), value, w[key], live)
	}
}

// equalScalars compares as Kubernetes would store: 1 is 1.0, and 1 cpu is 1000m.
func equalScalars(at string, a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, y := fmt.Sprint(a), fmt.Sprint(b)
	if x == y && a != nil && b != nil {
		return true
	}
	if !strings.Contains(at, "limits") && !strings.Contains(at, "requests") {
		return false
	}
	if manifest.QuantityError(x) != nil || manifest.QuantityError(y) != nil {
		return false
	}
	p, err1 := resource.ParseQuantity(x)
	q, err2 := resource.ParseQuantity(y)
	return err1 == nil && err2 == nil && p.Cmp(q) == 0
}
