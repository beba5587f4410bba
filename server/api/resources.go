package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/ledger"
)

// resource is one object of an application as the tree shows it.
type resource struct {
	deploy.Key
	Health    deploy.Health `json:"health"`
	Owner     string        `json:"owner,omitempty"`
	Images    []string      `json:"images,omitempty"`
	CreatedAt time.Time     `json:"createdAt"`
	Info      string        `json:"info,omitempty"`
	// Sync is Synced or OutOfSync by the last comparison; empty for what the application's objects made. Prune says that a
	// sync with prune deletes it.
	Sync  string `json:"sync,omitempty"`
	Prune bool   `json:"prune,omitempty"`
}

// resources are the live objects of an application, with what the last comparison said of them.
func (a *API) resources(ctx context.Context, of deploy.ApplicationRow) ([]resource, error) {
	application, comparison := of.Key(), of.Resources
	cluster, err := a.Targets.Named(of.Cluster)
	if err != nil {
		return nil, err
	}
	list, err := cluster.Target.List(ctx, application)
	if err != nil {
		return nil, err
	}
	compared := map[deploy.Key]plan.Resource{}
	if len(comparison) > 0 {
		var list []plan.Resource
		if err := json.Unmarshal(comparison, &list); err != nil {
			return nil, fmt.Errorf("read comparison of %s: %w", application, err)
		}
		for _, r := range list {
			compared[r.Key] = r
		}
	}
	byUID := map[string]string{}
	for _, o := range list {
		byUID[string(o.GetUID())] = deploy.KeyOf(o).String()
	}
	rules, _ := a.Apps.Judging(ctx, list) // what could not be asked is Unknown, with the reason
	out := make([]resource, 0, len(list))
	for _, o := range list {
		r := resource{Key: deploy.KeyOf(o), CreatedAt: o.GetCreationTimestamp().Time, Images: imagesOf(o), Info: info(o)}
		if h, ok := rules.Of(o); ok {
			r.Health = h
		}
		r.Sync, r.Prune = compared[r.Key].Status, compared[r.Key].RequiresPruning
		for _, ref := range o.GetOwnerReferences() {
			r.Owner = byUID[string(ref.UID)]
		}
		out = append(out, r)
	}
	return out, nil
}

func imagesOf(o *unstructured.Unstructured) []string {
	path := []string{"spec", "template", "spec", "containers"}
	if o.GetKind() == "Pod" {
		path = []string{"spec", "containers"}
	}
	list, _, _ := unstructured.NestedSlice(o.Object, path...)
	var out []string
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			if image, ok := m["image"].(string); ok {
				out = append(out, image)
			}
		}
	}
	return out
}

func info(o *unstructured.Unstructured) string {
	if deploy.Inert(o) {
		return "kept without effect"
	}
	switch o.GetKind() {
	case "Deployment", "ReplicaSet", "StatefulSet":
		ready, _, _ := unstructured.NestedInt64(o.Object, "status", "readyReplicas")
		want, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
		return fmt.Sprintf("%d/%d ready", ready, want)
	case "DaemonSet":
		ready, _, _ := unstructured.NestedInt64(o.Object, "status", "numberReady")
		want, _, _ := unstructured.NestedInt64(o.Object, "status", "desiredNumberScheduled")
		return fmt.Sprintf("%d/%d ready", ready, want)
	case "PersistentVolumeClaim":
		phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
		size, _, _ := unstructured.NestedString(o.Object, "status", "capacity", "storage")
		return strings.TrimSpace(phase + " " + size)
	case "CronJob":
		return cronInfo(o)
	case "Pod":
		return podInfo(o)
	case "Service":
		ip, _, _ := unstructured.NestedString(o.Object, "spec", "clusterIP")
		return ip
	}
	return ""
}

// cronInfo is when a CronJob runs, whether it does now, and when it did last.
func cronInfo(o *unstructured.Unstructured) string {
	text, _, _ := unstructured.NestedString(o.Object, "spec", "schedule")
	if suspended, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend"); suspended {
		text += ", suspended"
	}
	if active, _, _ := unstructured.NestedSlice(o.Object, "status", "active"); len(active) > 0 {
		text += fmt.Sprintf(", %d running", len(active))
	}
	if last, _, _ := unstructured.NestedString(o.Object, "status", "lastScheduleTime"); last != "" {
		text += ", last " + last
	}
	return text
}

// podInfo is what kubectl shows in its STATUS column, how often the pod was restarted, and how it ended last.
func podInfo(o *unstructured.Unstructured) string {
	state, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	ip, _, _ := unstructured.NestedString(o.Object, "status", "podIP")
	statuses, _, _ := unstructured.NestedSlice(o.Object, "status", "containerStatuses")
	var restarts int64
	last := ""
	for _, s := range statuses {
		c, ok := s.(map[string]any)
		if !ok {
			continue
		}
		if reason, _, _ := unstructured.NestedString(c, "state", "waiting", "reason"); reason != "" {
			state, ip = reason, ""
		}
		n, _, _ := unstructured.NestedInt64(c, "restartCount")
		restarts = max(restarts, n)
		if code, found, _ := unstructured.NestedInt64(c, "lastState", "terminated", "exitCode"); found {
			last = fmt.Sprintf(", last exit code %d", code)
		}
	}
	if restarts > 0 {
		times := "times"
		if restarts == 1 {
			times = "time"
		}
		state += fmt.Sprintf(", restarted %d %s%s", restarts, times, last)
	}
	return strings.TrimSpace(state + " " + ip)
}

// findPod gives the key of an application's pod, its first container if none is named, and where it runs.
func (a *API) findPod(ctx context.Context, application, name, container string) (deploy.Key, string, deploy.Cluster, error) {
	row, err := a.Ledger.Row(ctx, deploy.TableApplication, application)
	if err != nil {
		return deploy.Key{}, "", deploy.Cluster{}, missing(err, "tiphys apps shows those that there are", "application %s", application)
	}
	var of deploy.ApplicationRow
	if err := json.Unmarshal(row.Body, &of); err != nil {
		return deploy.Key{}, "", deploy.Cluster{}, fmt.Errorf("decode application %s: %w", application, err)
	}
	cluster, err := a.Targets.Named(of.Cluster)
	if err != nil {
		return deploy.Key{}, "", deploy.Cluster{}, err
	}
	list, err := cluster.Target.List(ctx, application)
	if err != nil {
		return deploy.Key{}, "", deploy.Cluster{}, err
	}
	for _, o := range list {
		if o.GetKind() != "Pod" || o.GetName() != name {
			continue
		}
		if container == "" {
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "containers")
			if len(containers) > 0 {
				if m, ok := containers[0].(map[string]any); ok {
					container, _ = m["name"].(string)
				}
			}
		}
		return deploy.KeyOf(o), container, cluster, nil
	}
	return deploy.Key{}, "", deploy.Cluster{}, fmt.Errorf("application %s has no pod %s: %w", application, name, ledger.ErrNotFound)
}
