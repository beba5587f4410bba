// Package health judges objects from their status, in Argo CD's words and by its rules
// (argo-cd 3.6, pkg/health; the kinds and messages are those of its built-in checks). It is pure.
package health

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// The statuses, best first: an application is as healthy as the worst of its objects.
const (
	Healthy     = "Healthy"
	Suspended   = "Suspended"
	Progressing = "Progressing"
	Missing     = "Missing"
	Degraded    = "Degraded"
	Unknown     = "Unknown"
)

const (
	// HookAnnotation marks an object as a hook; those of Helm have helmHookAnnotation.
	HookAnnotation     = "argocd.argoproj.io/hook"
	helmHookAnnotation = "helm.sh/hook"
	// hookFinalizer keeps a hook that is being deleted until its phase is over: it is judged as before.
	hookFinalizer = "argocd.argoproj.io/hook-finalizer"
	// ignoreAnnotation keeps an object out of the health of its application, and so does compareAnnotation with
	// IgnoreExtraneous.
	ignoreAnnotation  = "argocd.argoproj.io/ignore-healthcheck"
	compareAnnotation = "argocd.argoproj.io/compare-options"
	// lastingAnnotation says of a Pod that is not restarted that it is to run on.
	lastingAnnotation = "argocd.argoproj.io/ignore-restart-policy"
)

// order is the rank of a status; what is not in it ranks as Unknown.
func order(status string) int {
	for i, s := range []string{Healthy, Suspended, Progressing, Missing, Degraded} {
		if s == status {
			return i
		}
	}
	return 5
}

// IsWorse reports whether status b is worse than status a.
func IsWorse(a, b string) bool { return order(b) > order(a) }

// rule judges an object of a kind; an error says that it cannot be read.
type rule func(o *unstructured.Unstructured) (deploy.Health, error)

// Of judges one object. The bool is false where the kind has no health of its own; it then counts as
// Healthy once it is there. An Application has none by Argo CD's default; see [OfApplication].
func Of(o *unstructured.Unstructured) (deploy.Health, bool) {
	if deploy.Inert(o) {
		return deploy.Health{}, false
	}
	gvk := o.GroupVersionKind()
	check, versions := ruleFor(gvk.Group + "/" + gvk.Kind)
	switch {
	case check == nil:
		return pending(o, "", deploy.Health{}, false)
	case len(versions) > 0 && !slices.Contains(versions, gvk.Version):
		return deploy.Health{Status: Unknown, Message: fmt.Sprintf("unsupported %s GVK: %s", gvk.Kind, gvk)}, true
	}
	h, err := check(o)
	if err != nil {
		return deploy.Health{Status: Unknown, Message: fmt.Sprintf("read %s: %v", o.GetKind(), err)}, true
	}
	return pending(o, "", h, true)
}

// pending gives the health of an object that is being deleted, with the message that a rule has for it, and of any
// other the health that it is given.
func pending(o *unstructured.Unstructured, message string, otherwise deploy.Health, known bool) (deploy.Health, bool) {
	held := o.GetFinalizers()
	switch {
	case o.GetDeletionTimestamp() == nil || o.GetAnnotations()[HookAnnotation] != "" || slices.Contains(held, hookFinalizer):
		return otherwise, known
	case message != "":
		return deploy.Health{Status: otherwise.Status, Message: message}, true
	case len(held) > 0:
		return progressing("Pending deletion; blocked by finalizers: %s", strings.Join(held, ", ")), true
	}
	return progressing("Pending deletion"), true
}

// isHook reports whether an object is a hook. One whose only word is Skip is none.
func isHook(o interface{ GetAnnotations() map[string]string }) bool {
	text, ours := o.GetAnnotations()[HookAnnotation]
	if ours {
		return strings.TrimSpace(text) != "Skip"
	}
	_, helm := o.GetAnnotations()[helmHookAnnotation]
	return helm
}

// ignored reports whether an object says that it does not count.
func ignored(o *unstructured.Unstructured) bool {
	notes := o.GetAnnotations()
	for option := range strings.SplitSeq(notes[compareAnnotation], ",") {
		if strings.TrimSpace(option) == "IgnoreExtraneous" {
			return true
		}
	}
	return notes[ignoreAnnotation] == "true"
}

// ruleFor gives the rule of a kind, and the versions of its group that it can read; none means any.
func ruleFor(groupKind string) (rule, []string) {
	v1 := []string{"v1"}
	switch groupKind {
	case "apps/Deployment":
		return typed(deployment), v1
	case "apps/StatefulSet":
		return typed(statefulSet), v1
	case "apps/DaemonSet":
		return typed(daemonSet), v1
	case "apps/ReplicaSet":
		return typed(replicaSet), v1
	case "/Pod":
		return typed(pod), v1
	case "/Service":
		return typed(service), v1
	case "/PersistentVolumeClaim":
		return typed(claim), v1
	case "networking.k8s.io/Ingress", "extensions/Ingress":
		return ingress, nil
	case "batch/Job":
		return typed(job), v1
	case "batch/CronJob":
		return cronJob, nil
	case "autoscaling/HorizontalPodAutoscaler":
		return autoscaler, []string{"v1", "v2"}
	case "apiregistration.k8s.io/APIService":
		return apiService, []string{"v1", "v1beta1"}
	case "argoproj.io/Workflow":
		return workflow, nil
	}
	return nil, nil
}

// typed decodes an object for a rule.
func typed[T any](check func(*T) deploy.Health) rule {
	return func(o *unstructured.Unstructured) (deploy.Health, error) {
		raw, err := o.MarshalJSON()
		var t T
		if err == nil {
			err = json.Unmarshal(raw, &t)
		}
		if err != nil {
			return deploy.Health{}, err
		}
		return check(&t), nil
	}
}

// OfApplication is the health of an Application object from its own status, for applications of applications.
// Argo CD has it only as an option.
func OfApplication(o *unstructured.Unstructured) deploy.Health {
	status, _, _ := unstructured.NestedString(o.Object, "status", "health", "status")
	message, _, _ := unstructured.NestedString(o.Object, "status", "health", "message")
	if status == "" {
		return deploy.Health{Status: Progressing}
	}
	return deploy.Health{Status: status, Message: message}
}

// Judged is one managed object and what is live of it; nil Live means that it is missing.
type Judged struct {
	Key  deploy.Key
	Live *unstructured.Unstructured
	// Hook objects do not count.
	Hook bool
}

// Aggregate is the health of an application: the worst of its managed objects, with the message of the first that
// is that bad. Without objects it is Healthy.
func Aggregate(objects []Judged) deploy.Health { return Rules{}.Aggregate(objects) }

// Aggregate is [Aggregate] with the operator's rules.
func (r Rules) Aggregate(objects []Judged) deploy.Health {
	worst := deploy.Health{Status: Healthy}
	for _, o := range objects {
		if o.Hook {
			continue
		}
		var h deploy.Health
		switch {
		case o.Live == nil:
			h = deploy.Health{Status: Missing, Message: "not there"}
		case ignored(o.Live), deploy.Inert(o.Live):
			continue
		case o.Live.GroupVersionKind().Group == "argoproj.io" && o.Live.GetKind() == "Application":
			h = OfApplication(o.Live)
		default:
			var known bool
			if h, known = r.Of(o.Live); !known {
				continue
			}
		}
		if IsWorse(worst.Status, h.Status) {
			worst = deploy.Health{Status: h.Status}
			if h.Message != "" {
				worst.Message = o.Key.Kind + " " + o.Key.Name + ": " + h.Message
			}
		}
	}
	return worst
}
