package local_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// What is expected here is what Kubernetes documents: concepts/workloads/controllers/statefulset (names, order, claims, updates) and
// tutorials/stateful-application/basic-stateful-set.

// web is a StatefulSet of an image with further fields of its spec.
func web(image string, replicas int, more ...string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: prod}
spec:
  replicas: %d
  serviceName: nginx
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {name: c, image: "%s", ports: [{name: web, containerPort: 8080}], volumeMounts: [{name: www, mountPath: /www}], readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 1}}
  volumeClaimTemplates:
  - {metadata: {name: www}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
  %s`, replicas, image, strings.Join(more, "\n  "))
}

// pods gives the images of the live pods by name, those that leave left out.
func (m *machine) pods() map[string]string {
	m.t.Helper()
	all, err := m.List(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	found := map[string]string{}
	for _, o := range all {
		if o.GetKind() == "Pod" && o.GetDeletionTimestamp() == nil {
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "containers")
			c, _ := containers[0].(map[string]any)
			found[o.GetName()], _ = c["image"].(string)
		}
	}
	return found
}

func (m *machine) awaitPods(what string, want map[string]string) {
	m.t.Helper()
	m.await(what+": "+fmt.Sprint(want), func() bool { return maps.Equal(m.pods(), want) })
}

func (m *machine) claims() map[string]string {
	m.t.Helper()
	all, err := m.List(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	found := map[string]string{}
	for _, o := range all {
		if o.GetKind() == "PersistentVolumeClaim" && o.GetDeletionTimestamp() == nil {
			found[o.GetName()] = string(o.GetUID())
		}
	}
	return found
}

func field(o *unstructured.Unstructured, path ...string) any {
	if o == nil {
		return nil
	}
	value, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	return value
}

func TestStatefulSetComesUpInOrder(t *testing.T) {
	m := newMachine(t)
	m.apply(web("broken", 3))
	m.await("the first pod runs", func() bool { return m.executor.alive()["web-0"] == 1 })
	if got := m.pods(); len(got) != 1 {
		t.Errorf("before the first is ready there are %v", got)
	}
	m.apply(web("app:v1", 3))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	want := map[string]string{"web-0": "app:v1", "web-1": "app:v1", "web-2": "app:v1"}
	if diff := cmp.Diff(want, m.pods()); diff != "" {
		t.Error(diff)
	}
	pod := m.get("Pod", "web-1")
	revision, _ := field(m.get("StatefulSet", "web"), "status", "updateRevision").(string)
	labels := map[string]string{"app": "web", "statefulset.kubernetes.io/pod-name": "web-1", "apps.kubernetes.io/pod-index": "1", "controller-revision-hash": revision}
	if diff := cmp.Diff(labels, pod.GetLabels()); diff != "" || m.get("ControllerRevision", revision) == nil {
		t.Error(diff, revision)
	}
	if host, sub := field(pod, "spec", "hostname"), field(pod, "spec", "subdomain"); host != "web-1" || sub != "nginx" {
		t.Errorf("hostname %v, subdomain %v", host, sub)
	}
	if got := slices.Sorted(maps.Keys(m.claims())); !slices.Equal(got, []string{"www-web-0", "www-web-1", "www-web-2"}) {
		t.Errorf("claims %v", got)
	}
	claim := m.get("PersistentVolumeClaim", "www-web-1")
	if claim.GetLabels()["app"] != "web" || field(claim, "status", "phase") != "Bound" || field(claim, "status", "capacity", "storage") != "1Gi" {
		t.Errorf("%v", claim.Object)
	}
	order, _ := m.executor.order("web-1")
	if v := order.Pod.Spec.Volumes; len(v) != 1 || v[0].Name != "www" || v[0].PersistentVolumeClaim.ClaimName != "pvc-"+string(claim.GetUID()) ||
		len(order.Claims) != 1 || order.Claims[0].Name != "pvc-"+string(claim.GetUID()) || order.Claims[0].Owner != "object-"+string(claim.GetUID()) {
		t.Errorf("its volumes %+v, claims %+v", v, order.Claims)
	}
	status := m.get("StatefulSet", "web").Object["status"]
	if diff := cmp.Diff(map[string]any{"observedGeneration": int64(2), "replicas": int64(3), "readyReplicas": int64(3), "availableReplicas": int64(3), "currentReplicas": int64(3),
		"updatedReplicas": int64(3), "currentRevision": revision, "updateRevision": revision, "collisionCount": int64(0)}, status); diff != "" {
		t.Error(diff)
	}
}

func TestStatefulSetInParallel(t *testing.T) {
	m := newMachine(t)
	m.apply(web("broken", 3, "podManagementPolicy: Parallel", "ordinals: {start: 5}"))
	m.awaitPods("all at once", map[string]string{"web-5": "broken", "web-6": "broken", "web-7": "broken"})
	m.apply(web("broken", 1, "podManagementPolicy: Parallel", "ordinals: {start: 6}"))
	m.awaitPods("those outside go", map[string]string{"web-6": "broken"})
}

func TestStatefulSetIsScaled(t *testing.T) {
	m := newMachine(t)
	m.apply(web("app:v1", 3))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	before := m.claims()
	m.executor.set(func(e *inProcess) { e.stubborn = true })
	m.apply(web("app:v1", 1))
	m.awaitPods("the highest goes first", map[string]string{"web-0": "app:v1", "web-1": "app:v1"})
	m.executor.set(func(e *inProcess) { e.stubborn = false })
	m.executor.end("web-2")
	m.awaitPods("then the next", map[string]string{"web-0": "app:v1"})
	if diff := cmp.Diff(before, m.claims()); diff != "" {
		t.Errorf("its claims did not stay: %s", diff)
	}
	m.apply(web("app:v1", 2))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	if diff := cmp.Diff(before, m.claims()); diff != "" {
		t.Errorf("it got other claims: %s", diff)
	}
	m.apply(web("app:v1", 1, "persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}"))
	m.await("the claim of the pod that goes goes, and of none that went before", func() bool {
		return slices.Equal(slices.Sorted(maps.Keys(m.claims())), []string{"www-web-0", "www-web-2"}) && m.executor.volumes() == 2
	})
	m.apply(web("app:v1", 2, "persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}"))
	m.await("a new one is made", func() bool { return m.claims()["www-web-1"] != "" && m.claims()["www-web-1"] != before["www-web-1"] })
	m.awaitHealth("StatefulSet", "web", health.Healthy)
}

func TestStatefulSetGoes(t *testing.T) {
	for _, c := range []struct {
		name, policy string
		request      int
		stays        bool
	}{
		{"by default", "", 0, true},
		{"Retain", "persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain}", 0, true},
		{"Delete", "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}", 0, false},
		{"in a preview", "persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain}", 7, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			opt := deploy.ApplyOptions{Application: "default/app", For: podpolicy.Subject{Kind: podpolicy.Application, Name: "default/app", MergeRequest: c.request}}
			if err := m.try(web("app:v1", 1, c.policy), opt); err != nil {
				t.Fatal(err)
			}
			m.awaitHealth("StatefulSet", "web", health.Healthy)
			before := m.claims()
			m.delete("apps", "StatefulSet", "web")
			m.await("it is gone", func() bool { return m.get("StatefulSet", "web") == nil && len(m.pods()) == 0 })
			if !c.stays {
				m.await("the claim is gone", func() bool { return len(m.claims()) == 0 && m.executor.volumes() == 0 })
				return
			}
			if diff := cmp.Diff(before, m.claims()); diff != "" || m.executor.volumes() != 1 {
				t.Fatal(diff, m.executor.volumes())
			}
			left := m.get("PersistentVolumeClaim", "www-web-0")
			if !deploy.Kept(left) || len(left.GetOwnerReferences()) == 0 {
				t.Errorf("it does not say that it stays: %v", left.Object)
			}
			m.reopen()
			m.apply(web("app:v1", 1))
			m.awaitHealth("StatefulSet", "web", health.Healthy)
			if diff := cmp.Diff(before, m.claims()); diff != "" {
				t.Errorf("it does not come back to its claim: %s", diff)
			}
		})
	}
}

// TestStatefulSetRollsBack counts what is not available, too: never more than one.
func TestStatefulSetIsUpdated(t *testing.T) {
	m := newMachine(t)
	m.apply(web("app:v1", 3))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	first := field(m.get("StatefulSet", "web"), "status", "currentRevision")
	m.apply(web("app:v2", 3, "updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}"))
	m.awaitPods("down to the partition", map[string]string{"web-0": "app:v1", "web-1": "app:v1", "web-2": "app:v2"})
	m.await("it is available", func() bool { return field(m.get("StatefulSet", "web"), "status", "readyReplicas") == int64(3) })
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	if got := m.get("StatefulSet", "web"); field(got, "status", "currentRevision") != first || field(got, "status", "updatedReplicas") != int64(1) ||
		field(got, "status", "currentReplicas") != int64(2) {
		t.Errorf("%v", got.Object["status"])
	}
	m.delete("", "Pod", "web-1")
	m.await("below the partition a pod gets the old template again", func() bool {
		return m.get("Pod", "web-1") != nil && m.get("Pod", "web-1").GetDeletionTimestamp() == nil && m.executor.alive()["web-1"] == 1
	})
	if got := m.pods()["web-1"]; got != "app:v1" {
		t.Errorf("it has %s", got)
	}
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	m.apply(web("broken", 3))
	m.awaitPods("what does not come up stops it", map[string]string{"web-0": "app:v1", "web-1": "app:v1", "web-2": "broken"})
	m.reopen()
	seen := m.pods()
	m.apply(web("app:v3", 3))
	var order []string
	m.await("what does not come up is replaced, then the next", func() bool {
		for name, image := range m.pods() {
			if image == "app:v3" && seen[name] != image {
				seen[name] = image
				order = append(order, name)
			}
		}
		ready, _ := field(m.get("StatefulSet", "web"), "status", "readyReplicas").(int64)
		return len(order) == 3 && ready == 3
	})
	if !slices.Equal(order, []string{"web-2", "web-1", "web-0"}) {
		t.Errorf("order %v", order)
	}
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	m.apply(web("app:v1", 3))
	m.await("it is back", func() bool { return field(m.get("StatefulSet", "web"), "status", "currentRevision") == first })
	if n, _ := field(m.get("ControllerRevision", first.(string)), "revision").(int64); n != 5 {
		t.Errorf("a template that is back has revision %d", n)
	}
	m.apply(web("app:v1", 3, "revisionHistoryLimit: 1"))
	m.await("old templates are forgotten", func() bool {
		all, _ := m.List(t.Context(), "")
		n := 0
		for _, o := range all {
			if o.GetKind() == "ControllerRevision" {
				n++
			}
		}
		return n == 2
	})
}

func TestStatefulSetOnDelete(t *testing.T) {
	m := newMachine(t)
	m.apply(web("app:v1", 2, "updateStrategy: {type: OnDelete}"))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	m.apply(web("app:v2", 2, "updateStrategy: {type: OnDelete}"))
	m.await("it is seen", func() bool {
		got := m.get("StatefulSet", "web")
		return field(got, "status", "updateRevision") != field(got, "status", "currentRevision")
	})
	m.delete("", "Pod", "web-0")
	m.awaitPods("only what was deleted is new", map[string]string{"web-0": "app:v2", "web-1": "app:v1"})
}

func TestStatefulSetReplacesSeveralAtOnce(t *testing.T) {
	m := newMachine(t)
	m.apply(web("app:v1", 4, "podManagementPolicy: Parallel"))
	m.await("all are there", func() bool { return field(m.get("StatefulSet", "web"), "status", "readyReplicas") == int64(4) })
	m.apply(web("broken", 4, "podManagementPolicy: Parallel", "updateStrategy: {rollingUpdate: {maxUnavailable: 2}}"))
	m.awaitPods("two are", map[string]string{"web-0": "app:v1", "web-1": "app:v1", "web-2": "broken", "web-3": "broken"})
}

// TestStatefulSetNeverTwice: a pod that does not end keeps its name, also over a restart of the server.
func TestStatefulSetNeverTwice(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.apply(strings.Replace(web("app:v1", 1), "PeriodSeconds: 5", "PeriodSeconds: 0", 1))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	m.executor.set(func(e *inProcess) { e.stubborn = true })
	uid := m.get("Pod", "web-0").GetUID()
	m.delete("", "Pod", "web-0")
	for range 3 {
		m.await("it is told to end", func() bool { return m.get("Pod", "web-0").GetDeletionTimestamp() != nil })
		m.reopen()
	}
	m.apply(web("app:v2", 1))
	m.await("the update is seen", func() bool {
		got := m.get("StatefulSet", "web")
		return field(got, "status", "observedGeneration") == got.GetGeneration()
	})
	patience := time.Now().Add(22 * time.Second) // other pods are given up 20 seconds after their grace period
	m.await("nobody is patient any more", func() bool { return time.Now().After(patience) })
	if got := m.get("Pod", "web-0"); got == nil || got.GetUID() != uid || m.executor.alive()["web-0"] != 1 {
		t.Errorf("another has its name while it runs: %v", m.executor.alive())
	}
	m.executor.set(func(e *inProcess) { e.stubborn = false })
	m.executor.end("web-0")
	m.awaitPods("the next one is there", map[string]string{"web-0": "app:v2"})
	m.awaitHealth("StatefulSet", "web", health.Healthy)
}

// TestStatefulSetMinReady: a pod counts after minReadySeconds, and the next one waits for that.
func TestStatefulSetMinReady(t *testing.T) {
	m := newMachine(t)
	m.apply(web("app:v1", 2, "minReadySeconds: 2"))
	m.await("the first is ready", func() bool { return field(m.get("StatefulSet", "web"), "status", "readyReplicas") == int64(1) })
	if got := m.get("StatefulSet", "web"); field(got, "status", "availableReplicas") != int64(0) && field(got, "status", "availableReplicas") != nil || len(m.pods()) != 1 {
		t.Errorf("%v %v", got.Object["status"], m.pods())
	}
	m.awaitHealth("StatefulSet", "web", health.Healthy)
}

func TestStatefulSetIsRefused(t *testing.T) {
	m := newMachine(t)
	app := deploy.ApplyOptions{Application: "default/app"}
	m.apply(web("app:v1", 1))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	set := web("app:v1", 1)
	m.apply(strings.Replace(set+"podManagementPolicy: OrderedReady", "accessModes", "volumeMode: Filesystem, accessModes", 1)) // the defaults, written
	for want, document := range map[string]string{
		"serviceName, selector":     strings.Replace(set, "serviceName: nginx", "serviceName: other", 1),
		"podManagementPolicy":       set + "podManagementPolicy: Parallel",
		"volumeClaimTemplates":      strings.Replace(set, "1Gi", "2Gi", 1),
		"from 0 to 1000":            strings.Replace(set, "replicas: 1", "replicas: 2000000000", 1),
		"ordinals.start":            set + "ordinals: {start: 2147483647}",
		"\"Never\" is not allowed":  strings.Replace(set, "terminationGrace", "restartPolicy: Never, terminationGrace", 1),
		"PersistentVolumes on this": strings.Replace(strings.Replace(set, "name: web", "name: web2", 1), "accessModes: [ReadWriteOnce]", "accessModes: [ReadWriteOnce], volumeName: pv1", 1),
	} {
		document = strings.Replace(document, "restartPolicy: Never, ", "restartPolicy: Never\n      ", 1)
		problems := "nothing"
		if err := m.try(document, app); err != nil {
			problems = err.Error()
		}
		if !strings.Contains(problems, want) && want != "ordinals.start" || problems == "nothing" {
			t.Errorf("want %q: %s", want, problems)
		}
	}
}

// hostNames is told of names.
type hostNames struct {
	mu    sync.Mutex
	names map[string][]string
}

func (h *hostNames) SetHosts(names map[string][]string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names = names
	return nil
}

// of gives the addresses of a name.
func (h *hostNames) of(name string) (found []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for address, names := range h.names {
		if slices.Contains(names, name) {
			found = append(found, address)
		}
	}
	slices.Sort(found)
	return found
}

// TestStatefulSetNames: concepts/services-networking/dns-pod-service: a pod with hostname and subdomain has a name below the headless Service of that
// name; the Service's own name is of all ready pods.
func TestStatefulSetNames(t *testing.T) {
	m := newMachine(t)
	names := &hostNames{}
	m.names = names
	m.reopen()
	m.apply("{apiVersion: v1, kind: Service, metadata: {name: nginx, namespace: prod}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}}")
	m.apply("{apiVersion: v1, kind: Service, metadata: {name: other, namespace: prod}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}}")
	m.apply("{apiVersion: v1, kind: Service, metadata: {name: soon, namespace: prod}, spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: web}, ports: [{port: 80}]}}")
	m.apply(web("app:v1", 2))
	m.awaitHealth("StatefulSet", "web", health.Healthy)
	ip := func(pod string) string { s, _ := field(m.get("Pod", pod), "status", "podIP").(string); return s }
	m.await("the names are there", func() bool { return len(names.of("nginx.prod.svc.cluster.local")) == 2 })
	for name, want := range map[string][]string{
		"web-0.nginx.prod.svc.cluster.local": {ip("web-0")}, "web-1.nginx.prod.svc": {ip("web-1")}, "web-1.nginx.prod": {ip("web-1")},
		"web-0.other.prod.svc.cluster.local": nil, "web-2.nginx.prod.svc.cluster.local": nil, "web-0.prod.svc.cluster.local": nil,
	} {
		if got := names.of(name); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	m.apply(web("broken", 2))
	m.await("one that is not ready has no name", func() bool { return names.of("web-1.nginx.prod.svc") == nil && m.executor.alive()["web-1"] == 1 })
	m.await("but of a Service that publishes those", func() bool { return len(names.of("soon.prod.svc")) == 2 })
}

// set changes how the executor behaves.
func (e *inProcess) set(f func(*inProcess)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

// end ends the pods of a name, as if they had taken their time.
func (e *inProcess) end(name string) {
	e.mu.Lock()
	ids := slices.Collect(maps.Keys(e.pods))
	e.mu.Unlock()
	for _, id := range ids {
		if id.Node == name {
			_ = e.Stop(e.t.Context(), id, time.Second)
		}
	}
}
