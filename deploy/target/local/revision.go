package local

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/deploy"
)

// revisionLabel is on the pods of a StatefulSet, with the name of their revision, and on those of a DaemonSet, with its hash.
const revisionLabel = "controller-revision-hash"

// revision is a template that a StatefulSet or DaemonSet has or had, kept as a ControllerRevision.
type revision struct {
	*object
	hash     string
	number   int64
	template corev1.PodTemplateSpec
}

// revisions are those of an object, the newest last. Its present template is the newest: that becomes true here. Nil says that it could
// not be kept. t.mu is held.
func (t *Target) revisions(o *object, template corev1.PodTemplateSpec) []*revision {
	what := "keep the template of " + o.Key.String()
	hash := templateHash(template)
	var list []*revision
	for _, child := range t.children(o, "ControllerRevision") {
		if child.deleting() {
			continue
		}
		kept := typedOf[appsv1.ControllerRevision](child)
		r := &revision{object: child, hash: kept.Labels[revisionLabel], number: kept.Revision}
		data := revisionData{}
		if err := json.Unmarshal(kept.Data.Raw, &data); err != nil {
			t.wrong(what, fmt.Errorf("read %s: %w", child.Key.Name, err))
			continue
		}
		r.template = data.Spec.Template
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *revision) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	newest := int64(0)
	if len(list) > 0 {
		newest = list[len(list)-1].number
	}
	at := slices.IndexFunc(list, func(r *revision) bool { return r.hash == hash })
	if at >= 0 && at == len(list)-1 {
		return list
	}
	present := &revision{hash: hash, number: newest + 1, template: template}
	kind := deploy.KindObjectCreated
	if at >= 0 { // the template of before is back
		present.object, kind = list[at].object, deploy.KindObjectChanged
		list = slices.Delete(list, at, at+1)
		present.live.Object["revision"] = present.number
	} else {
		data, err := revisionTree(template)
		if err != nil {
			t.wrong(what, err)
			return nil
		}
		present.object = t.child(o, "apps/v1", "ControllerRevision", o.Key.Name+"-"+hash, map[string]any{"data": data, "revision": present.number})
		present.live.SetLabels(map[string]string{revisionLabel: hash})
		if t.objects.byKey[present.Key] != nil {
			return nil // One of the same name is on its way out.
		}
	}
	if !t.log(change{kind: kind, o: present.object, cause: o.last}) {
		return nil
	}
	t.troubles.Over(what)
	return append(list, present)
}

// revisionData is what Kubernetes keeps in a ControllerRevision of these kinds.
type revisionData struct {
	Spec struct {
		Template corev1.PodTemplateSpec `json:"template"`
	} `json:"spec"`
}

func revisionTree(template corev1.PodTemplateSpec) (map[string]any, error) {
	data := revisionData{}
	data.Spec.Template = template
	tree, err := treeOf(data)
	if err != nil {
		return nil, fmt.Errorf("write the template: %w", err)
	}
	return tree, nil
}

// forgetRevisions deletes the oldest beyond the limit that no pod has and that is not in use.
func (t *Target) forgetRevisions(list []*revision, limit *int32, used func(*revision) bool) {
	unused := slices.DeleteFunc(slices.Clone(list), used)
	for i := range beyond(len(unused), limit, defaultHistory) {
		t.dismiss(unused[i].last, unused[i].object)
	}
}
