package local_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/deploy/health"
)

// environments are the variables of Services that pods were given, by the pod's name.
func (m *machine) environments(of string) map[string]string {
	m.executor.mu.Lock()
	defer m.executor.mu.Unlock()
	for id, order := range m.executor.orders {
		if id.Node == of {
			return maps.Clone(order.Env)
		}
	}
	return nil
}

// A pod is told of the Services that are on record when it starts, whatever was set up by then. Sources:
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables and Kubernetes' pkg/kubelet/envvars/envvars_test.go.
func TestServiceVariables(t *testing.T) {
	m := newMachine(t)
	m.apply(`{apiVersion: v1, kind: Service, metadata: {name: redis-primary, namespace: prod}, spec: {selector: {app: r}, ports: [{name: web-ui, port: 6379}, {name: dns, port: 53, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless, namespace: prod}, spec: {clusterIP: None, selector: {app: r}, ports: [{port: 1}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: other, namespace: elsewhere}, spec: {selector: {app: r}, ports: [{port: 1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: prod}, spec: {containers: [{name: c, image: app}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: without, namespace: prod}, spec: {enableServiceLinks: false, containers: [{name: c, image: app}]}}`)
	m.awaitHealth("Pod", "p", health.Healthy)
	m.awaitHealth("Pod", "without", health.Healthy)
	got := m.environments("p")
	ip := got["REDIS_PRIMARY_SERVICE_HOST"]
	if !strings.HasPrefix(ip, "127.88.") {
		t.Fatalf("the address is %q", ip)
	}
	want := map[string]string{
		"REDIS_PRIMARY_SERVICE_HOST": ip, "REDIS_PRIMARY_SERVICE_PORT": "6379", "REDIS_PRIMARY_SERVICE_PORT_WEB_UI": "6379", "REDIS_PRIMARY_SERVICE_PORT_DNS": "53",
		"REDIS_PRIMARY_PORT": "tcp://" + ip + ":6379", "REDIS_PRIMARY_PORT_6379_TCP": "tcp://" + ip + ":6379", "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
		"REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379", "REDIS_PRIMARY_PORT_6379_TCP_ADDR": ip, "REDIS_PRIMARY_PORT_53_UDP": "udp://" + ip + ":53", "REDIS_PRIMARY_PORT_53_UDP_PROTO": "udp",
		"REDIS_PRIMARY_PORT_53_UDP_PORT": "53", "REDIS_PRIMARY_PORT_53_UDP_ADDR": ip,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if got := m.environments("without"); len(got) > 0 {
		t.Errorf("without links it is told %v", got)
	}
	// The machine was started anew: the pods are begun before anything else is done.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m.executor.mu.Lock()
	for id, p := range m.executor.pods {
		_ = p.server.Close()
		delete(m.executor.pods, id)
	}
	clear(m.executor.orders)
	m.executor.mu.Unlock()
	m.open()
	m.await("the pod is begun", func() bool { return m.environments("p") != nil })
	if diff := cmp.Diff(want, m.environments("p")); diff != "" {
		t.Errorf("variables after the restart (-want +got):\n%s", diff)
	}
}
