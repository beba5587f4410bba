// Package health judges objects from their status, in Argo CD's words and by its rules
// (argo-cd 3.6, pkg/health; the kinds and messages are those of its built-in checks). It is pure.
package health

import (
	"encoding/json"
	"fmt"

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

// HookAnnotation marks an object as a hook.
const HookAnnotation = "argocd.argoproj.io/hook"

// ignoreAnnotation keeps an object out of the health of its application.
const ignoreAnnotation = "argocd.argoproj.io/ignore-healthcheck"

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

type rule func(o *unstructured.Unstructured) deploy.Health

// Of judges one object. The bool is false where the kind has no health of its own; it then counts as
// Healthy once it is there. An Application has none by Argo CD's default; see [OfApplication].
func Of(o *unstructured.Unstructured) (deploy.Health, bool) {
	if deleting(o) {
		return deploy.Health{Status: Progressing, Message: "Pending deletion"}, true
	}
	check := ruleFor(o)
	if check == nil {
		return deploy.Health{}, false
	}
	return check(o), true
}

func deleting(o *unstructured.Unstructured) bool {
	return o.GetDeletionTimestamp() != nil && o.GetAnnotations()[HookAnnotation] == ""
}

func ruleFor(o *unstructured.Unstructured) rule {
	gvk := o.GroupVersionKind()
	switch gvk.Group + "/" + gvk.Kind {
	case "apps/Deployment":
		return typed(deployment)
	case "apps/StatefulSet":
		return typed(statefulSet)
	case "apps/DaemonSet":
		return typed(daemonSet)
	case "apps/ReplicaSet":
		return typed(replicaSet)
	case "/Pod":
		return typed(pod)
	case "/Service":
		return typed(service)
	case "/PersistentVolumeClaim":
		return typed(claim)
	case "networking.k8s.io/Ingress", "extensions/Ingress":
		return ingress
	case "batch/Job":
		return typed(job)
	case "batch/CronJob":
		return typed(cronJob)
	case "autoscaling/HorizontalPodAutoscaler":
		return autoscaler
	case "apiregistration.k8s.io/APIService":
		return apiService
	case "argoproj.io/Workflow":
		return workflow
	}
	return nil
}

// typed decodes an object for a rule; what cannot be decoded is Unknown.
func typed[T any](check func(*T) deploy.Health) rule {
	return func(o *unstructured.Unstructured) deploy.Health {
		raw, err := o.MarshalJSON()
		var t T
		if err == nil {
			err = json.Unmarshal(raw, &t)
		}
		if err != nil {
			return deploy.Health{Status: Unknown, Message: fmt.Sprintf("read %s: %v", o.GetKind(), err)}
		}
		return check(&t)
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
		case o.Live.GetAnnotations()[ignoreAnnotation] == "true":
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
