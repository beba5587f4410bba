package local_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/executor/netpolicy"
)

// noted is a wall that notes what it is told.
type noted struct {
	mu     sync.Mutex
	told   netpolicy.Policies
	failed error
}

func (n *noted) SetPolicies(p netpolicy.Policies) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed == nil {
		n.told = p
	}
	return n.failed
}

// names are those of the policies.
func (n *noted) names() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for _, p := range n.told.Policies {
		list = append(list, p.Namespace+"/"+p.Name)
	}
	return strings.Join(list, " ")
}

func document(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

const denyAll = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: prod}, spec: {podSelector: {}}}`

// TestNetworkPolicyWithoutNetwork: where pods cannot be held to a policy it is refused, and not taken as if it counted. What a policy cannot say is
// refused with its field.
func TestNetworkPolicyWithoutNetwork(t *testing.T) {
	m := newMachine(t)
	if _, err := m.Apply(t.Context(), document(t, denyAll), deploy.ApplyOptions{}); err == nil || !strings.Contains(err.Error(), "a network of their own") {
		t.Errorf("%v", err)
	}
	_ = m.Close()
	m.wall = &noted{}
	m.open()
	wrong := document(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: prod}, spec: {podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}}`)
	if _, err := m.Apply(t.Context(), wrong, deploy.ApplyOptions{}); err == nil || !strings.Contains(err.Error(), `spec.ingress[0].ports[0].protocol: "ICMP" is not allowed: supported values: "TCP", "UDP", "SCTP"`) {
		t.Errorf("%v", err)
	}
}

// TestNetworkPoliciesAreTold: the executor has a policy when Apply returns, again after a restart, and no more when it is deleted. The labels of a
// namespace that a merge request made are its author's choice, so they count for nothing.
func TestNetworkPoliciesAreTold(t *testing.T) {
	wall := &noted{}
	m := newMachine(t)
	_ = m.Close()
	m.wall = wall
	m.open()
	m.apply(denyAll)
	if got := wall.names(); got != "prod/deny" {
		t.Errorf("told: %q", got)
	}
	m.apply("{apiVersion: v1, kind: Namespace, metadata: {name: prod, labels: {team: sea}}}")
	preview := deploy.ApplyOptions{Application: "default/mr", For: podpolicy.Subject{Kind: podpolicy.Application, Name: "default/mr", MergeRequest: 7}}
	if _, err := m.Apply(t.Context(), document(t, "{apiVersion: v1, kind: Namespace, metadata: {name: mr-7, labels: {team: sea}}}"), preview); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]map[string]string{"prod": {"team": "sea"}}, wall.told.Namespaces); diff != "" {
		t.Errorf("labels of namespaces: %s", diff)
	}
	_ = m.Close()
	wall.told = netpolicy.Policies{}
	m.open()
	if got := wall.names(); got != "prod/deny" {
		t.Errorf("told after a restart: %q", got)
	}
	if err := m.Delete(t.Context(), deploy.KeyOf(document(t, denyAll)), deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	m.await("it is told no more", func() bool { return wall.names() == "" })
}

// TestNoPodBeforeItsPolicy: while pods cannot be held to the policies none begins, and says why.
func TestNoPodBeforeItsPolicy(t *testing.T) {
	wall := &noted{}
	m := newMachine(t)
	_ = m.Close()
	m.wall = wall
	m.open()
	wall.failed = errors.New("no memory")
	m.apply(denyAll)
	m.apply(strings.Split(app("v1"), "\n---\n")[0])
	m.await("its pods say why", func() bool {
		list, err := m.List(context.Background(), "default/app")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			if raw, _ := o.MarshalJSON(); o.GetKind() == "Pod" && strings.Contains(string(raw), "hold pods to NetworkPolicies: no memory") {
				return true
			}
		}
		return false
	})
	if running := m.executor.running(); len(running) > 0 {
		t.Errorf("%v run", running)
	}
	if trouble := m.Trouble(); !strings.Contains(trouble, "no memory") {
		t.Errorf("the target says %q", trouble)
	}
}

// TestPolicyAgainstTheFront: the front has the machine's address. A policy for certain pods refuses it, and one with its address or for everybody
// lets it.
func TestPolicyAgainstTheFront(t *testing.T) {
	m := newMachine(t)
	_ = m.Close()
	m.wall, m.gateway = &noted{}, netip.MustParseAddr("10.88.0.1")
	m.open()
	m.apply(app("v1"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	policy := func(ingress string) {
		m.apply(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: prod}, spec: {podSelector: {matchLabels: {app: api}}, ingress: [` + ingress + `]}}`)
	}
	for _, c := range []struct {
		ingress string
		code    int
	}{
		{`{from: [{podSelector: {}}]}`, 503},
		{`{from: [{namespaceSelector: {}}]}`, 503},
		{``, 503},
		{`{}`, 200},
		{`{ports: [{port: 8080}]}`, 200},
		{`{ports: [{port: 81}]}`, 503},
		{`{from: [{ipBlock: {cidr: 10.88.0.1/32}}]}`, 200},
		{`{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.88.0.0/16]}}]}`, 503},
		{`{from: [{podSelector: {}}]}, {from: [{ipBlock: {cidr: 0.0.0.0/0}}]}`, 200},
	} {
		policy(c.ingress)
		m.await("the front answers for "+c.ingress, func() bool {
			code, body := m.request("prod.harbour.localhost", "/")
			return code == c.code && (code == 200 || strings.Contains(body, "NetworkPolicy"))
		})
	}
}

// caller asks a URL for itself when it is asked.
func caller(namespace, url string) string {
	return strings.NewReplacer("NAMESPACE", namespace, "URL", url).Replace(`{apiVersion: v1, kind: Service, metadata: {name: caller, namespace: NAMESPACE}, spec: {selector: {app: caller}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: caller, namespace: NAMESPACE}, spec: {rules: [{host: NAMESPACE.localhost, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: caller, port: {number: 80}}}}]}}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: caller, namespace: NAMESPACE}, spec: {replicas: 1, selector: {matchLabels: {app: caller}},
  template: {metadata: {labels: {app: caller}}, spec: {terminationGracePeriodSeconds: 2, containers: [{name: c, image: "x:1", env: [{name: NEXT, value: 'URL'}]}]}}}}`)
}

// TestServicesAreCalledAsThePodsBehindThem: a Service is reached by those who reach its pods, and its pods see who calls. Those of other namespaces do
// so when a policy lets them.
func TestServicesAreCalledAsThePodsBehindThem(t *testing.T) {
	m := onThisMachine(t)
	m.apply(service("api", "[{name: VERSION, value: api1}]"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	for _, namespace := range []string{"prod", "dev", "test"} {
		m.apply(caller(namespace, "http://api.prod/?who"))
	}
	// A request on its way is answered: with what the other one said, or that it was refused.
	asked := func(namespace string, reached bool) {
		t.Helper()
		m.await(namespace+" is answered", func() bool {
			code, body := m.request(namespace+".localhost", "/")
			return reached && code == 200 && body == " api1 for "+podIP(t, m, namespace, "caller") || !reached && code == 500
		})
	}
	asked("prod", true)
	asked("dev", false)
	asked("test", false)
	m.apply(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: prod}, spec: {podSelector: {matchLabels: {app: api}},
  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: dev}}}], ports: [{port: http}]}]}}`)
	asked("prod", false)
	asked("dev", true)
	asked("test", false)
	m.shut()
	m.open()
	asked("dev", true)
	asked("test", false)
	asked("prod", false)
	if err := m.Delete(t.Context(), deploy.Key{Group: "networking.k8s.io", Kind: "NetworkPolicy", Namespace: "prod", Name: "p"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	asked("prod", true)
	asked("dev", false)
	// One that calls the Service it is behind calls itself, which nobody can forbid; it is the machine that does.
	m.apply(strings.ReplaceAll(denyAll, "podSelector: {}", "podSelector: {matchLabels: {app: caller}}, ingress: [{from: [{ipBlock: {cidr: "+m.subnet.Addr().Next().String()+"/32}}]}]"))
	m.apply(caller("prod", "http://caller/?who"))
	m.await("it calls itself", func() bool {
		_, body := m.request("prod.localhost", "/")
		return body == "  for "+m.subnet.Addr().Next().String()
	})
	for _, namespace := range []string{"prod", "dev", "test"} {
		for _, name := range []string{"api", "caller"} {
			key := deploy.Key{Group: "apps", Kind: "Deployment", Namespace: namespace, Name: name}
			if err := m.Delete(t.Context(), key, deploy.ApplyOptions{Application: "default/app"}); err != nil && !errors.Is(err, deploy.ErrLeaving) {
				t.Logf("delete %s: %v", key, err)
			}
		}
	}
	m.await("its pods are gone", func() bool {
		left, err := m.List(t.Context(), "")
		return err == nil && !slices.ContainsFunc(left, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Pod" })
	})
}

// TestDatagramsArePodsOwn: what goes to a Service by UDP is judged as if it had gone to the pod by itself, and the pod sees who asks; the same port may be
// there by TCP.
func TestDatagramsArePodsOwn(t *testing.T) {
	m := onThisMachine(t)
	m.apply(service("api", "[{name: VERSION, value: api1}]"))
	m.apply("{apiVersion: v1, kind: Service, metadata: {name: names, namespace: prod}, spec: {selector: {app: api}, ports: [{name: tcp, port: 53, targetPort: 8080}, {name: udp, port: 53, protocol: UDP, targetPort: 8080}]}}")
	m.awaitHealth("Deployment", "api", health.Healthy)
	for _, namespace := range []string{"prod", "dev"} {
		m.apply(caller(namespace, "udp://names.prod:53"))
	}
	asked := func(what, namespace string, reached bool) {
		t.Helper()
		m.await(what+": "+namespace+" is answered", func() bool {
			code, body := m.request(namespace+".localhost", "/")
			return reached && code == 200 && body == " api1 who for "+podIP(t, m, namespace, "caller") || !reached && code == 500
		})
	}
	asked("no policy", "prod", true)
	asked("no policy", "dev", false)
	policy := func(ports string) {
		m.apply(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: prod}, spec: {podSelector: {matchLabels: {app: api}},
  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: dev}}}], ports: [` + ports + `]}]}}`)
	}
	policy("{port: 8080}") // which is TCP
	asked("by TCP only", "dev", false)
	asked("by TCP only", "prod", false)
	policy("{port: 8080, protocol: UDP}")
	asked("by UDP", "dev", true)
	asked("by UDP", "prod", false)
}

// podIP is the address of the one pod of a Deployment; empty if there is not one.
func podIP(t *testing.T, m *realMachine, namespace, deployment string) string {
	t.Helper()
	list, err := m.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	found := ""
	for _, o := range list {
		if o.GetKind() == "Pod" && o.GetNamespace() == namespace && strings.HasPrefix(o.GetName(), deployment+"-") {
			if found != "" {
				return ""
			}
			found, _, _ = unstructured.NestedString(o.Object, "status", "podIP")
		}
	}
	return found
}
