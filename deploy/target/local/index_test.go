package local

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/deploy"
)

// made is an object for an index, with an owner if there is one.
func made(kind, namespace, name, application string, owner *object) *object {
	version := "v1"
	if kind == "Deployment" || kind == "ReplicaSet" {
		version = "apps/v1"
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind}}
	u.SetName(name)
	u.SetNamespace(namespace)
	uid := kind + "-" + namespace + "-" + name
	u.SetUID(types.UID(uid))
	if owner != nil {
		u.SetOwnerReferences([]metav1.OwnerReference{{Kind: owner.Key.Kind, Name: owner.Key.Name, UID: types.UID(owner.UID)}})
	}
	return &object{live: u, ObjectRecord: deploy.ObjectRecord{Key: deploy.KeyOf(u), UID: uid, Application: application}}
}

// slow answers the same questions by looking at every object.
type slow map[*object]bool

func (s slow) ordered(keep func(*object) bool) []*object {
	depth := func(o *object) int {
		n := 0
		for owners := o.live.GetOwnerReferences(); len(owners) > 0 && n < maxDepth; n++ {
			found := false
			for other := range s {
				if other.UID == string(owners[0].UID) {
					owners, found = other.live.GetOwnerReferences(), true
					break
				}
			}
			if !found {
				break
			}
		}
		return n
	}
	var list []*object
	for o := range s {
		if keep(o) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *object) int {
		return cmp.Or(cmp.Compare(depth(a), depth(b)), cmp.Compare(a.Key.String(), b.Key.String()))
	})
	return list
}

func owns(owner, o *object) bool {
	return slices.ContainsFunc(o.live.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return string(r.UID) == owner.UID })
}

func names(list []*object) []string {
	out := []string{}
	for _, o := range list {
		out = append(out, o.Key.String())
	}
	return out
}

// Whatever comes, changes and goes: the index says what a look at every object says.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, all := newIndex(), slow{}
		kinds, namespaces, applications := []string{"Deployment", "ReplicaSet", "Pod", "Namespace"}, []string{"", "a", "b"}, []string{"", "ns/one", "ns/two"}
		pick := func() *object {
			list := slices.SortedFunc(maps.Keys(all), func(a, b *object) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
			if len(list) == 0 {
				return nil
			}
			return rapid.SampledFrom(list).Draw(t, "which")
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"new", "new", "new", "take over", "delete", "remove", "again"}).Draw(t, "what") {
			case "new":
				o := made(rapid.SampledFrom(kinds).Draw(t, "kind"), rapid.SampledFrom(namespaces).Draw(t, "namespace"),
					rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), rapid.SampledFrom(applications).Draw(t, "application"), pick())
				if x.byKey[o.Key] == nil {
					x.put(o)
					all[o] = true
				}
			case "take over":
				if o := pick(); o != nil {
					o.Application = rapid.SampledFrom(applications).Draw(t, "application")
					x.put(o)
				}
			case "delete":
				if o := pick(); o != nil {
					now := metav1.Now()
					o.live.SetDeletionTimestamp(&now)
					x.put(o)
				}
			case "remove":
				if o := pick(); o != nil {
					x.remove(o)
					delete(all, o)
				}
			case "again":
				if o := pick(); o != nil {
					x.put(o)
				}
			}
		}
		agree(t, x, all)
	})
}

func agree(t *rapid.T, x *index, all slow) {
	same := func(what string, got []*object, keep func(*object) bool) {
		t.Helper()
		if diff := gocmp.Diff(names(all.ordered(keep)), names(got)); diff != "" {
			t.Fatalf("%s: %s", what, diff)
		}
	}
	same("everything", x.of(""), func(*object) bool { return true })
	same("leaving", x.ordered(x.leaving), (*object).deleting)
	for _, application := range []string{"ns/one", "ns/two", "ns/none"} {
		same(application, x.of(application), func(o *object) bool { return o.Application == application })
	}
	for o := range all {
		if x.byKey[o.Key] != o || x.byUID[o.UID] != o {
			t.Fatalf("%s is not found", o.Key)
		}
		same("within "+o.Key.String(), x.within(o), func(other *object) bool {
			return other != o && (owns(o, other) || o.Key.Kind == "Namespace" && other.Key.Namespace == o.Key.Name)
		})
		for _, kind := range []string{"Pod", "ReplicaSet"} {
			got := x.owned(o, kind)
			slices.SortFunc(got, func(a, b *object) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
			want := names(all.ordered(func(other *object) bool {
				return other.Key.Kind == kind && other.Key.Namespace == o.Key.Namespace && owns(o, other)
			}))
			slices.Sort(want)
			if diff := gocmp.Diff(want, names(got)); diff != "" {
				t.Fatalf("%s of %s: %s", kind, o.Key, diff)
			}
		}
	}
	if len(x.places) != len(all) || len(x.byKey) != len(all) || len(x.byUID) != len(all) {
		t.Fatalf("%d objects, and %d, %d, %d in the index", len(all), len(x.places), len(x.byKey), len(x.byUID))
	}
	empty := newIndex()
	for o := range all {
		x.remove(o)
	}
	if diff := gocmp.Diff(fmt.Sprint(empty), fmt.Sprint(x)); diff != "" {
		t.Fatalf("an empty index keeps something: %s", diff)
	}
}

// BenchmarkList lists one application of ten objects, and all, of so many.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		t := filled(n)
		for name, application := range map[string]string{"application": "ns/app-0", "all": ""} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				for b.Loop() {
					if list, err := t.List(b.Context(), application); err != nil || len(list) == 0 {
						b.Fatal(len(list), err)
					}
				}
			})
		}
	}
}

// filled has n objects: of each application a Deployment, its ReplicaSet and eight Pods.
func filled(n int) *Target {
	t := &Target{objects: newIndex()}
	for i := range n / 10 {
		application := fmt.Sprintf("ns/app-%d", i)
		d := made("Deployment", "ns", fmt.Sprintf("d-%d", i), application, nil)
		rs := made("ReplicaSet", "ns", fmt.Sprintf("d-%d", i), application, d)
		t.objects.put(d)
		t.objects.put(rs)
		for j := range 8 {
			t.objects.put(made("Pod", "ns", fmt.Sprintf("d-%d-%d", i, j), application, rs))
		}
	}
	return t
}
