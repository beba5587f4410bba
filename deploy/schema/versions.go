package schema

import (
	"encoding/json"
	"fmt"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Known reports whether a kind is one of Kubernetes' own that [Checker] has rules for, or a version of one that is not served any more.
func Known(gvk schema.GroupVersionKind) bool {
	_, known := kindOf(gvk)
	return known || unserved(gvk) != ""
}

// unserved says that a version of one of Kubernetes' own kinds is not served any more, or that a group has no such kind; empty if nothing is known
// of it. The versions and their successors are those of Kubernetes' deprecated API migration guide.
func unserved(gvk schema.GroupVersionKind) string {
	if next := successor(gvk); next != "" {
		return fmt.Sprintf("%s of %s is not served by Kubernetes any more: write apiVersion: %s", gvk.Kind, gvk.GroupVersion(), next)
	}
	switch gvk.Group {
	case "", "apps", "batch", "extensions", "policy":
		for _, version := range []string{"v1", "v2"} {
			other := schema.GroupVersionKind{Group: gvk.Group, Version: version, Kind: gvk.Kind}
			if _, known := kindOf(other); known {
				return fmt.Sprintf("there is no %s of %s: write apiVersion: %s", gvk.Kind, gvk.GroupVersion(), other.GroupVersion())
			}
		}
		if elsewhere := home(gvk.Kind); elsewhere != "" {
			return fmt.Sprintf("there is no %s of %s: write apiVersion: %s", gvk.Kind, gvk.GroupVersion(), elsewhere)
		}
	}
	return ""
}

// successor is the version that replaced one that is gone.
func successor(gvk schema.GroupVersionKind) string {
	switch gvk.Group {
	case "extensions":
		return home(gvk.Kind)
	case "autoscaling":
		if gvk.Version != "v1" && gvk.Version != "v2" && gvk.Kind == "HorizontalPodAutoscaler" {
			return "autoscaling/v2"
		}
		return ""
	}
	if gvk.Version == "v1" {
		return ""
	}
	next := schema.GroupVersionKind{Group: gvk.Group, Version: "v1", Kind: gvk.Kind}
	_, known := kindOf(next)
	switch gvk.Group + "/" + gvk.Kind {
	case "rbac.authorization.k8s.io/Role", "rbac.authorization.k8s.io/RoleBinding", "rbac.authorization.k8s.io/ClusterRole", "rbac.authorization.k8s.io/ClusterRoleBinding",
		"storage.k8s.io/StorageClass", "scheduling.k8s.io/PriorityClass", "apiextensions.k8s.io/CustomResourceDefinition", "coordination.k8s.io/Lease":
		known = true
	}
	if known {
		return next.GroupVersion().String()
	}
	return ""
}

// home is the version in which a kind of Kubernetes is served.
func home(kind string) string {
	for _, version := range []schema.GroupVersion{{Version: "v1"}, {Group: "apps", Version: "v1"}, {Group: "batch", Version: "v1"}, {Group: "networking.k8s.io", Version: "v1"},
		{Group: "policy", Version: "v1"}} {
		if _, known := kindOf(version.WithKind(kind)); known {
			return version.String()
		}
	}
	return ""
}

// metadata judges an object of a kind that Kubernetes has not got itself.
func (c *Checker) metadata(r *report, o *unstructured.Unstructured) {
	var typed struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	tree := map[string]any{"metadata": o.Object["metadata"]}
	c.shapes.object(r, &typed, tree)
	if r.unreadable {
		return
	}
	raw, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(raw, &typed)
	}
	if err != nil {
		r.add("metadata", fmt.Sprintf("read it: %v", err))
		return
	}
	typed.Metadata.Namespace = "" // whether the kind has one nobody knows here
	name := apivalidation.NameIsDNSSubdomain
	if strings.HasSuffix(o.GroupVersionKind().Group, ".k8s.io") {
		name = segment
	}
	for _, e := range apivalidation.ValidateObjectMeta(&typed.Metadata, false, name, field.NewPath("metadata")) {
		r.field(e)
	}
}

// segment is the rule for names of those of Kubernetes' kinds, such as Roles, that may have any that can stand in a URL.
func segment(name string, _ bool) []string {
	if name == "." || name == ".." || strings.ContainsAny(name, "/%") {
		return []string{"a name has neither / nor %, and is neither . nor .."}
	}
	return nil
}
