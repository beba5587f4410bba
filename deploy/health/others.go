package health

import (
	"encoding/json"
	"strings"

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

func ingress(o *unstructured.Unstructured) deploy.Health {
	if addresses, _, _ := unstructured.NestedSlice(o.Object, "status", "loadBalancer", "ingress"); len(addresses) > 0 {
		return deploy.Health{Status: Healthy}
	}
	return deploy.Health{Status: Progressing}
}

func apiService(o *unstructured.Unstructured) deploy.Health {
	for _, c := range conditions(o) {
		if c.Type != "Available" {
			continue
		}
		status := Progressing
		if c.Status == "True" {
			status = Healthy
		}
		return deploy.Health{Status: status, Message: c.Reason + ": " + c.Message}
	}
	return progressing("Waiting to be processed")
}

func workflow(o *unstructured.Unstructured) deploy.Health {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	message, _, _ := unstructured.NestedString(o.Object, "status", "message")
	switch phase {
	case "", "Pending", "Running":
		return deploy.Health{Status: Progressing, Message: message}
	case "Succeeded":
		return deploy.Health{Status: Healthy, Message: message}
	case "Failed", "Error":
		return degraded(message)
	}
	return deploy.Health{Status: Unknown, Message: message}
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

// The (type, reason) pairs with which an autoscaler cannot do its work.
var autoscalerTroubles = map[string][]string{
	"AbleToScale": {"FailedGetScale", "FailedUpdateScale"},
	"ScalingActive": {"FailedGetResourceMetric", "InvalidSelector", "FailedGetObjectMetric", "FailedGetPodsMetric",
		"FailedGetExternalMetric", "FailedGetContainerResourceMetric"},
}

func autoscaler(o *unstructured.Unstructured) deploy.Health {
	found := conditions(o)
	if o.GroupVersionKind().Version == "v1" {
		text := o.GetAnnotations()["autoscaling.alpha.kubernetes.io/conditions"]
		if text == "" {
			return progressing("Waiting to Autoscale")
		}
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			return deploy.Health{Status: Unknown, Message: "read conditions of the autoscaler: " + err.Error()}
		}
	}
	for _, c := range found {
		for _, reason := range autoscalerTroubles[c.Type] {
			if c.Reason == reason {
				return degraded(c.Message)
			}
		}
	}
	for _, c := range found {
		if strings.EqualFold(c.Status, "True") && (c.Type == "AbleToScale" || c.Type == "ScalingLimited") {
			return deploy.Health{Status: Healthy, Message: c.Message}
		}
	}
	return progressing("Waiting to Autoscale")
}
