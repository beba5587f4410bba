package health

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

func service(s *corev1.Service) deploy.Health {
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) == 0 {
		return deploy.Health{Status: Progressing}
	}
	return deploy.Health{Status: Healthy}
}

func claim(c *corev1.PersistentVolumeClaim) deploy.Health {
	switch c.Status.Phase {
	case corev1.ClaimLost:
		return deploy.Health{Status: Degraded}
	case corev1.ClaimPending:
		return deploy.Health{Status: Progressing}
	case corev1.ClaimBound:
		return deploy.Health{Status: Healthy}
	}
	return deploy.Health{Status: Unknown}
}

func ingress(o *unstructured.Unstructured) (deploy.Health, error) {
	if addresses, _, _ := unstructured.NestedSlice(o.Object, "status", "loadBalancer", "ingress"); len(addresses) > 0 {
		return deploy.Health{Status: Healthy}, nil
	}
	return deploy.Health{Status: Progressing}, nil
}

func apiService(o *unstructured.Unstructured) (deploy.Health, error) {
	for _, c := range conditions(o) {
		if c.Type != "Available" {
			continue
		}
		status := Progressing
		if c.Status == "True" {
			status = Healthy
		}
		return deploy.Health{Status: status, Message: c.Reason + ": " + c.Message}, nil
	}
	return progressing("Waiting to be processed"), nil
}

func workflow(o *unstructured.Unstructured) (deploy.Health, error) {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	message, _, _ := unstructured.NestedString(o.Object, "status", "message")
	switch phase {
	case "", "Pending", "Running":
		return deploy.Health{Status: Progressing, Message: message}, nil
	case "Succeeded":
		return deploy.Health{Status: Healthy, Message: message}, nil
	case "Failed", "Error":
		return degraded(message), nil
	}
	return deploy.Health{Status: Unknown, Message: message}, nil
}

type condition struct{ Type, Status, Reason, Message string }

func conditions(o *unstructured.Unstructured) []condition {
	items, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	raw, err := json.Marshal(items)
	var found []condition
	if err != nil || json.Unmarshal(raw, &found) != nil {
		return nil
	}
	return found
}

// autoscalerTroubles are the reasons with which an autoscaler cannot do its work, by the type of the condition.
func autoscalerTroubles(kind string) []string {
	switch kind {
	case "AbleToScale":
		return []string{"FailedGetScale", "FailedUpdateScale"}
	case "ScalingActive":
		return []string{"FailedGetResourceMetric", "FailedGetObjectMetric", "FailedGetPodsMetric", "FailedGetExternalMetric",
			"FailedComputeMetricsReplicas", "InvalidSelector"}
	}
	return nil
}

func autoscaler(o *unstructured.Unstructured) (deploy.Health, error) {
	found := conditions(o)
	if o.GroupVersionKind().Version == "v1" {
		text, there := o.GetAnnotations()["autoscaling.alpha.kubernetes.io/conditions"]
		if !there {
			return progressing("Waiting to Autoscale"), nil
		}
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			return deploy.Health{}, fmt.Errorf("conditions in its annotation: %w", err)
		}
	}
	for _, c := range found {
		if slices.Contains(autoscalerTroubles(c.Type), c.Reason) {
			return degraded(c.Message), nil
		}
	}
	for _, c := range found {
		if c.Status == "True" && (c.Type == "AbleToScale" || c.Type == "ScalingLimited") {
			return deploy.Health{Status: Healthy, Message: c.Message}, nil
		}
	}
	return progressing("Waiting to Autoscale"), nil
}
