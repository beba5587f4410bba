package netpolicy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

func policy(t *testing.T, namespace, spec string) networkingv1.NetworkPolicy {
	t.Helper()
	p := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// sends says whether a plan lets a pod send to an address, which is another pod's or not, as far as its egress goes.
func (p *Plan) sends(from Pod, f Flow, to *Pod) bool {
	isolated := false
	for i := range p.Egress {
		one := &p.Egress[i]
		if !one.Selects(from) {
			continue
		}
		isolated = true
		for r := range one.Rules {
			rule := &one.Rules[r]
			peer := one.from(r, Flow{From: f.From, Pod: to}) || rule.NameService && to == nil && f.Port == 53
			receiver := Pod{}
			if to != nil {
				receiver = *to
			}
			if peer && rule.by(f.Protocol, f.Port, receiver) {
				return true
			}
		}
	}
	return !isolated
}

// The pods of the tables: "default" has a database and its front end, "other" a stranger, "blue" is a namespace with a label.
func cast() (policies Policies, pods map[string]Pod) {
	pod := func(n byte, namespace, role string, ports ...NamedPort) Pod {
		return Pod{Address: netip.AddrFrom4([4]byte{10, 88, 0, n}), Namespace: namespace, Labels: map[string]string{"role": role}, Ports: ports}
	}
	return Policies{Namespaces: map[string]map[string]string{"blue": {"project": "myproject", corev1.LabelMetadataName: "lie"}}}, map[string]Pod{
		"db":       pod(2, "default", "db", NamedPort{"sql", corev1.ProtocolTCP, 6379}),
		"frontend": pod(3, "default", "frontend"),
		"stranger": pod(4, "other", "frontend"),
		"blue":     pod(5, "blue", "client"),
	}
}

// TestPolicies: what policies let through, as kubernetes.io/docs/concepts/services-networking/network-policies has it. Each question is who calls
// whom at which port; an address instead of a name is nobody's pod.
func TestPolicies(t *testing.T) {
	const whole = `
podSelector: {matchLabels: {role: db}}
policyTypes: [Ingress, Egress]
ingress:
- from:
  - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
  - namespaceSelector: {matchLabels: {project: myproject}}
  - podSelector: {matchLabels: {role: frontend}}
  ports: [{protocol: TCP, port: 6379}]
egress:
- to: [{ipBlock: {cidr: 10.0.0.0/24}}]
  ports: [{protocol: TCP, port: 5978}]
`
	for name, c := range map[string]struct {
		spec string
		yes  string
		no   string
	}{
		"the example of the documentation": {whole,
			"172.17.0.1>db:6379 blue>db:6379 frontend>db:6379 db>10.0.0.9:5978 frontend>blue:1 stranger>frontend:1",
			"172.17.1.1>db:6379 stranger>db:6379 frontend>db:6380 frontend>db:6379/UDP db>10.0.1.9:5978 db>10.0.0.9:5979 db>frontend:5978"},
		"deny all ingress":       {`{podSelector: {}, policyTypes: [Ingress]}`, "db>blue:1 frontend>stranger:80", "frontend>db:1 blue>frontend:1 1.2.3.4>db:1"},
		"allow all ingress":      {`{podSelector: {}, ingress: [{}], policyTypes: [Ingress]}`, "frontend>db:1 blue>db:1 1.2.3.4>db:1/SCTP", ""},
		"deny all egress":        {`{podSelector: {}, policyTypes: [Egress]}`, "blue>db:1", "frontend>db:1 db>1.2.3.4:53/UDP"},
		"allow all egress":       {`{podSelector: {}, egress: [{}], policyTypes: [Egress]}`, "frontend>db:1 db>1.2.3.4:53/UDP blue>db:1", ""},
		"no types, no egress":    {`{podSelector: {}}`, "db>1.2.3.4:1", "frontend>db:1"},
		"no types, egress rules": {`{podSelector: {}, egress: [{}]}`, "db>1.2.3.4:1", "frontend>db:1"},
		"an empty list of rules": {`{podSelector: {}, egress: []}`, "db>1.2.3.4:1", "frontend>db:1"},
		"a peer of both selectors is an and": {`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {project: myproject}}, podSelector: {matchLabels: {role: frontend}}}]}]}`,
			"", "blue>db:1 stranger>db:1 frontend>db:1"},
		"two peers are an or": {`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {project: myproject}}}, {podSelector: {matchLabels: {role: frontend}}}]}]}`,
			"blue>db:1 frontend>db:1", "stranger>db:1"},
		"every namespace":     {`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`, "blue>db:1 stranger>db:1 frontend>db:1", "1.2.3.4>db:1"},
		"a namespace by name": {`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]}]}`, "stranger>db:1", "blue>db:1 frontend>db:1"},
		"nobody lies about a name": {`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: "lie"}}}]}]}`,
			"", "blue>db:1 frontend>db:1"},
		"expressions": {`{podSelector: {matchExpressions: [{key: role, operator: In, values: [db]}]}, ingress: [{from: [{podSelector: {matchExpressions: [{key: role, operator: NotIn, values: [frontend]}]}}]}]}`,
			"db>db:1 blue>frontend:1", "frontend>db:1"},
		"a range of ports": {`{podSelector: {}, ingress: [{ports: [{port: 32000, endPort: 32768}]}]}`, "blue>db:32000 blue>db:32768", "blue>db:31999 blue>db:32769 blue>db:32000/UDP"},
		"a protocol alone": {`{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}`, "blue>db:1/UDP blue>db:65535/UDP", "blue>db:1"},
		"a port by name":   {`{podSelector: {}, ingress: [{ports: [{port: sql}]}]}`, "blue>db:6379", "blue>frontend:6379 blue>db:6380 blue>db:6379/UDP"},
		"a port by name, to somebody": {`{podSelector: {matchLabels: {role: frontend}}, policyTypes: [Egress], egress: [{ports: [{port: sql}]}]}`,
			"frontend>db:6379 blue>db:1", "frontend>db:6380 frontend>1.2.3.4:6379 frontend>blue:6379"},
		"name service by its usual labels": {`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{protocol: UDP, port: 53}]}]}`,
			"db>192.0.2.53:53/UDP", "db>192.0.2.53:53 db>192.0.2.53:54/UDP db>frontend:53/UDP"},
		"a block has pods' addresses, too": {`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.88.0.0/16, except: [10.88.0.5/32]}}]}]}`, "stranger>db:1 frontend>db:1", "blue>db:1 10.89.0.1>db:1"},
		"a block of IPv6 is nobody":        {`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]}`, "", "stranger>db:1 1.2.3.4>db:1"},
	} {
		t.Run(name, func(t *testing.T) {
			policies, pods := cast()
			policies.Policies = []networkingv1.NetworkPolicy{policy(t, "default", c.spec)}
			plan, err := Compile(policies)
			if err != nil {
				t.Fatal(err)
			}
			for want, list := range map[bool]string{true: c.yes, false: c.no} {
				for _, question := range strings.Fields(list) {
					if got := asked(t, plan, pods, question); got != want {
						t.Errorf("%s: %v", question, got)
					}
				}
			}
		})
	}
}

// asked answers FROM>TO:PORT[/PROTOCOL].
func asked(t *testing.T, plan *Plan, pods map[string]Pod, question string) bool {
	t.Helper()
	from, rest, _ := strings.Cut(question, ">")
	to, rest, _ := strings.Cut(rest, ":")
	f := Flow{Protocol: corev1.ProtocolTCP}
	if _, protocol, there := strings.Cut(rest, "/"); there {
		f.Protocol = corev1.Protocol(protocol)
	}
	if _, err := fmt.Sscan(strings.Split(rest, "/")[0], &f.Port); err != nil {
		t.Fatal(err)
	}
	who := func(name string) (netip.Addr, *Pod) {
		if p, there := pods[name]; there {
			return p.Address, &p
		}
		return netip.MustParseAddr(name), nil
	}
	sender, sends := who(from)
	receiver, receives := who(to)
	if sends != nil && !plan.sends(*sends, Flow{From: receiver, Protocol: f.Protocol, Port: f.Port}, receives) {
		return false
	}
	f.From, f.Pod = sender, sends
	return receives == nil || plan.Lets(f, *receives)
}

// TestPoliciesAreAUnion: what one of several policies lets through passes.
func TestPoliciesAreAUnion(t *testing.T) {
	policies, pods := cast()
	policies.Policies = []networkingv1.NetworkPolicy{
		policy(t, "default", `{podSelector: {}}`),
		policy(t, "default", `{podSelector: {matchLabels: {role: db}}, ingress: [{from: [{podSelector: {matchLabels: {role: frontend}}}]}]}`),
		policy(t, "blue", `{podSelector: {}, ingress: [{}]}`),
	}
	plan, err := Compile(policies)
	if err != nil {
		t.Fatal(err)
	}
	for question, want := range map[string]bool{"frontend>db:1": true, "db>frontend:1": false, "stranger>db:1": false, "stranger>blue:1": true} {
		if got := asked(t, plan, pods, question); got != want {
			t.Errorf("%s: %v", question, got)
		}
	}
}

// TestCheck: what Kubernetes refuses is refused, with its field.
func TestCheck(t *testing.T) {
	for spec, want := range map[string]string{
		`{podSelector: {matchExpressions: [{key: a, operator: Near}]}}`:                                                "spec.podSelector!",
		`{podSelector: {}, policyTypes: [Ingres]}`:                                                                     "spec.policyTypes[0]!",
		`{podSelector: {}, policyTypes: [Egress], ingress: [{}]}`:                                                      "spec.ingress",
		`{podSelector: {}, policyTypes: [Ingress], egress: [{}]}`:                                                      "spec.egress",
		`{podSelector: {}, ingress: [{from: [{}]}]}`:                                                                   "spec.ingress[0].from[0]!",
		`{podSelector: {}, ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}`:                       "spec.ingress[0].from[0]!",
		`{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {a: "b c"}}}]}]}`:                             "spec.ingress[0].from[0].podSelector!",
		`{podSelector: {}, egress: [{to: [{namespaceSelector: {matchLabels: {"": b}}}]}]}`:                             "spec.egress[0].to[0].namespaceSelector!",
		`{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0}}]}]}`:                                             "spec.egress[0].to[0].ipBlock.cidr!",
		`{podSelector: {}, egress: [{to: [{ipBlock: {cidr: "2001:db8::/32"}}]}]}`:                                      "spec.egress[0].to[0].ipBlock.cidr",
		`{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/16]}}]}]}`:       "spec.egress[0].to[0].ipBlock.except[1]!",
		`{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}`:                     "spec.egress[0].to[0].ipBlock.except[0]!",
		`{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}`:                                                    "spec.ingress[0].ports[0].protocol!",
		`{podSelector: {}, ingress: [{ports: [{endPort: 8}]}]}`:                                                        "spec.ingress[0].ports[0].endPort!",
		`{podSelector: {}, ingress: [{ports: [{port: web, endPort: 8}]}]}`:                                             "spec.ingress[0].ports[0].endPort!",
		`{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 8}]}]}`:                                               "spec.ingress[0].ports[0].endPort!",
		`{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 65536}]}]}`:                                           "spec.ingress[0].ports[0].endPort!",
		`{podSelector: {}, ingress: [{ports: [{port: 0}]}]}`:                                                           "spec.ingress[0].ports[0].port!",
		`{podSelector: {}, ingress: [{ports: [{port: 65536}]}]}`:                                                       "spec.ingress[0].ports[0].port!",
		`{podSelector: {}, ingress: [{ports: [{port: ""}]}]}`:                                                          "spec.ingress[0].ports[0].port!",
		`{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 9, protocol: SCTP}, {port: web}, {protocol: UDP}]}]}`: "",
	} {
		p := policy(t, "default", spec)
		var got []string
		for _, problem := range Check(&p.Spec) {
			sign := ""
			if problem.Fatal {
				sign = "!"
			}
			got = append(got, problem.Path+sign)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", spec, got, want)
		}
		if _, err := Compile(Policies{Policies: []networkingv1.NetworkPolicy{p}}); (err != nil) != strings.HasSuffix(want, "!") {
			t.Errorf("%s is compiled: %v", spec, err)
		}
	}
	large := networkingv1.NetworkPolicySpec{}
	for range maxParts {
		large.Ingress = append(large.Ingress, networkingv1.NetworkPolicyIngressRule{})
	}
	if found := Check(&large); len(found) != 0 {
		t.Errorf("the largest: %v", found)
	}
	large.Ingress = append(large.Ingress, networkingv1.NetworkPolicyIngressRule{})
	if found := Check(&large); len(found) != 1 || !found[0].Fatal {
		t.Errorf("a larger one: %v", found)
	}
}

// TestPodOf: ports count by their names, those of init containers too, which may go on as sidecars.
func TestPodOf(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 1, Protocol: corev1.ProtocolUDP}}}},
		Containers:     []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}, {ContainerPort: 81}, {Name: "none", ContainerPort: 1 << 16}}}},
	}}
	at := netip.MustParseAddr("10.88.0.9")
	want := Pod{Address: at, Namespace: "n", Labels: p.Labels, Ports: []NamedPort{{"side", corev1.ProtocolUDP, 1}, {"web", corev1.ProtocolTCP, 80}}}
	if diff := cmp.Diff(want, PodOf(at, p), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// TestPlansAreTheDocumentation compares plans with a reading of the documentation, sentence by sentence, over random policies and pods.
func TestPlansAreTheDocumentation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := Policies{Namespaces: map[string]map[string]string{"a": {"team": "x"}, "b": {"team": "y"}}}
		for range rapid.IntRange(0, 4).Draw(t, "policies") {
			all.Policies = append(all.Policies, drawPolicy(t))
		}
		plan, err := Compile(all)
		if err != nil {
			t.Fatalf("%v", err)
		}
		from, to := drawPod(t, 2), drawPod(t, 3)
		flow := Flow{From: from.Address, Pod: &from, Protocol: rapid.SampledFrom(protocols()).Draw(t, "protocol"), Port: rapid.SampledFrom([]uint16{79, 80, 81, 90}).Draw(t, "port")}
		if got, want := plan.Lets(flow, to), reads(all, networkingv1.PolicyTypeIngress, to, from, to, flow); got != want {
			t.Errorf("ingress: %v, want %v", got, want)
		}
		back := Flow{From: to.Address, Protocol: flow.Protocol, Port: flow.Port}
		if got, want := plan.sends(from, back, &to), reads(all, networkingv1.PolicyTypeEgress, from, to, to, flow); got != want {
			t.Errorf("egress: %v, want %v", got, want)
		}
	})
}

func protocols() []corev1.Protocol {
	return []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
}

func drawPod(t *rapid.T, n byte) Pod {
	p := Pod{Address: netip.AddrFrom4([4]byte{10, 88, 0, n}), Namespace: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"),
		Labels: map[string]string{"app": rapid.SampledFrom([]string{"web", "db"}).Draw(t, "app")}}
	if rapid.Bool().Draw(t, "named") {
		p.Ports = []NamedPort{{"http", rapid.SampledFrom(protocols()).Draw(t, "its protocol"), 80}}
	}
	return p
}

func drawSelector(t *rapid.T, label string, values ...string) *metav1.LabelSelector {
	switch rapid.IntRange(0, 3).Draw(t, "selector") {
	case 0:
		return nil
	case 1:
		return &metav1.LabelSelector{}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: label, Operator: metav1.LabelSelectorOpNotIn, Values: []string{rapid.SampledFrom(values).Draw(t, "value")}}}}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{label: rapid.SampledFrom(values).Draw(t, "value")}}
}

func drawPolicy(t *rapid.T) networkingv1.NetworkPolicy {
	p := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "in")}}
	if s := drawSelector(t, "app", "web", "db"); s != nil {
		p.Spec.PodSelector = *s
	}
	p.Spec.PolicyTypes = rapid.SampledFrom([][]networkingv1.PolicyType{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "types")
	for range rapid.IntRange(0, 2).Draw(t, "ingress") {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: drawPeers(t), Ports: drawPorts(t)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress") {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: drawPeers(t), Ports: drawPorts(t)})
	}
	return p
}

func drawPeers(t *rapid.T) (list []networkingv1.NetworkPolicyPeer) {
	for range rapid.IntRange(0, 2).Draw(t, "peers") {
		p := networkingv1.NetworkPolicyPeer{PodSelector: drawSelector(t, "app", "web", "db"), NamespaceSelector: drawSelector(t, "team", "x", "y")}
		if p.PodSelector == nil && p.NamespaceSelector == nil {
			p.IPBlock = &networkingv1.IPBlock{CIDR: rapid.SampledFrom([]string{"10.88.0.0/16", "10.88.0.2/31", "192.0.2.0/24"}).Draw(t, "block")}
			if p.IPBlock.CIDR == "10.88.0.0/16" && rapid.Bool().Draw(t, "but") {
				p.IPBlock.Except = []string{"10.88.0.2/32"}
			}
		}
		list = append(list, p)
	}
	return list
}

func drawPorts(t *rapid.T) (list []networkingv1.NetworkPolicyPort) {
	for range rapid.IntRange(0, 2).Draw(t, "ports") {
		p := networkingv1.NetworkPolicyPort{}
		if rapid.Bool().Draw(t, "says") {
			protocol := rapid.SampledFrom(protocols()).Draw(t, "protocol")
			p.Protocol = &protocol
		}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 1:
			name := intstr.FromString("http")
			p.Port = &name
		case 2:
			number := intstr.FromInt32(80)
			p.Port = &number
		case 3:
			number, end := intstr.FromInt32(80), int32(85)
			p.Port, p.EndPort = &number, &end
		}
		list = append(list, p)
	}
	return list
}

// reads is the documentation: "a pod is isolated for a direction if there is any NetworkPolicy that both selects the pod and has that type in its
// policyTypes"; then "the only allowed connections are those allowed by some policy that applies to the pod for that direction", whose effects "combine
// additively".
func reads(all Policies, direction networkingv1.PolicyType, subject, peer, receiver Pod, f Flow) bool {
	isolated := false
	for _, p := range all.Policies {
		applies := p.Namespace == subject.Namespace && matches(&p.Spec.PodSelector, subject.Labels)
		has := false
		for _, kind := range p.Spec.PolicyTypes {
			has = has || kind == direction
		}
		if len(p.Spec.PolicyTypes) == 0 { // "Ingress will always be set and Egress will be set if the NetworkPolicy has any egress rules"
			has = direction == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
		}
		if !applies || !has {
			continue
		}
		isolated = true
		if direction == networkingv1.PolicyTypeIngress {
			for _, r := range p.Spec.Ingress {
				if readPeers(all, p.Namespace, r.From, peer) && readPorts(r.Ports, receiver, f) {
					return true
				}
			}
			continue
		}
		for _, r := range p.Spec.Egress {
			if readPeers(all, p.Namespace, r.To, peer) && readPorts(r.Ports, receiver, f) {
				return true
			}
		}
	}
	return !isolated
}

// readPeers: "if this field is empty or missing, this rule matches all"; items "are combined using a logical OR".
func readPeers(all Policies, namespace string, peers []networkingv1.NetworkPolicyPeer, pod Pod) bool {
	for _, p := range peers {
		if b := p.IPBlock; b != nil {
			in := netip.MustParsePrefix(b.CIDR).Contains(pod.Address)
			for _, e := range b.Except {
				in = in && !netip.MustParsePrefix(e).Contains(pod.Address)
			}
			if in {
				return true
			}
			continue
		}
		inNamespace := pod.Namespace == namespace // "if namespaceSelector is not set": the policy's own
		if p.NamespaceSelector != nil {
			inNamespace = matches(p.NamespaceSelector, all.Namespaces[pod.Namespace])
		}
		if inNamespace && (p.PodSelector == nil || matches(p.PodSelector, pod.Labels)) {
			return true
		}
	}
	return len(peers) == 0
}

// readPorts: "if this field is empty or missing, this rule matches all ports"; protocol "defaults to TCP"; port "if this field is not provided, this
// matches all port names and numbers"; endPort: "all ports from port to endPort".
func readPorts(ports []networkingv1.NetworkPolicyPort, receiver Pod, f Flow) bool {
	for _, p := range ports {
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if protocol != f.Protocol {
			continue
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			for _, named := range receiver.Ports {
				if named.Name == p.Port.StrVal && named.Protocol == protocol && named.Port == f.Port {
					return true
				}
			}
		case p.EndPort != nil && int32(f.Port) >= p.Port.IntVal && int32(f.Port) <= *p.EndPort, int32(f.Port) == p.Port.IntVal:
			return true
		}
	}
	return len(ports) == 0
}

func matches(s *metav1.LabelSelector, set map[string]string) bool {
	for name, value := range s.MatchLabels {
		if set[name] != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions { // NotIn alone: "or the label is not there"
		if value, there := set[e.Key]; there && value == e.Values[0] {
			return false
		}
	}
	return true
}
