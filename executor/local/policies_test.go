package local_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/executor/netpolicy"
)

// policies reads specifications of one namespace.
func policies(t *testing.T, namespace string, specs ...string) netpolicy.Policies {
	t.Helper()
	p := netpolicy.Policies{Namespaces: map[string]map[string]string{"theirs": {"team": "friends"}}}
	for _, text := range specs {
		one := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace}}
		if err := yaml.UnmarshalStrict([]byte(text), &one.Spec); err != nil {
			t.Fatal(err)
		}
		p.Policies = append(p.Policies, one)
	}
	return p
}

// serving is a pod that takes connections on the ports 8080, which is called web, and 8081.
func serving(t *testing.T, node, namespace string) executor.Pod {
	t.Helper()
	p := shell(t, `python3 -m http.server 8081 --directory /etc & exec python3 -m http.server 8080 --directory /etc`)
	p.ID.Node, p.Pod.Namespace, p.Pod.Labels = t.Name()+node, namespace, map[string]string{"app": node}
	p.Pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}
	return p
}

// TestNetworkPolicies: pods are held to them, by the packets that they send: those that run when a policy comes, those that come later, and all of them
// after a restart, before anybody has said the policies again. This machine itself reaches every pod.
func TestNetworkPolicies(t *testing.T) {
	needRoot(t)
	world := beyond(t) + ":8000"
	for name, all := range map[string]bool{"closed": false, "open": true} {
		t.Run(name, func(t *testing.T) {
			network := testNetwork()
			network.Open = all
			dir := t.TempDir()
			e := openWith(t, dir, network)
			db, quiet := serving(t, "db", "ours"), serving(t, "quiet", "ours")
			dbIP, quietIP := started(t, e, db), started(t, e, quiet)
			asks := 0
			ask := func(when, namespace, app string, want ...string) {
				t.Helper()
				var targets, text []string
				for _, w := range want {
					at, _, _ := strings.Cut(w, " ")
					targets = append(targets, at)
					text = append(text, w)
				}
				asks++
				p := dialing(t, app+string(rune('a'+asks)), namespace, targets...)
				p.Pod.Labels = map[string]string{"app": app}
				r := run(t, e, p)
				if r.Result == nil {
					t.Fatalf("%s, %s: %+v", when, app, r)
				}
				if diff := cmp.Diff(strings.Join(text, "\n"), *r.Result); diff != "" {
					t.Errorf("%s, %s of %s: %s", when, app, namespace, diff)
				}
			}
			set := func(specs ...string) {
				t.Helper()
				if err := e.SetPolicies(policies(t, "ours", specs...)); err != nil {
					t.Fatal(err)
				}
			}
			stranger := " refused"
			if all {
				stranger = " reached"
			}
			ask("without policies", "ours", "web", dbIP+":8080 reached", dbIP+":8081 reached", quietIP+":8080 reached", world+" reached")
			ask("without policies", "theirs", "web", dbIP+":8080"+stranger)

			// From friends' namespace by the port that is called so, and from our own web by the other one; what quiet sends goes to the database alone.
			specs := []string{
				`{podSelector: {matchLabels: {app: db}}, ingress: [
				  {from: [{namespaceSelector: {matchLabels: {team: friends}}}], ports: [{port: web}]},
				  {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8081, endPort: 8082}]}]}`,
				`{podSelector: {matchLabels: {app: quiet}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}`,
			}
			held := func(when string) {
				t.Helper()
				ask(when, "theirs", "web", dbIP+":8080 reached", dbIP+":8081 refused", quietIP+":8080"+stranger)
				ask(when, "others", "web", dbIP+":8080 refused", dbIP+":8081 refused")
				ask(when, "ours", "web", dbIP+":8080 refused", dbIP+":8081 reached", quietIP+":8080 reached", world+" reached")
				ask(when, "ours", "quiet", dbIP+":8080 refused", quietIP+":8080 refused", world+" refused")
				if !reaches(dbIP + ":8080") {
					t.Errorf("%s: this machine does not reach it", when)
				}
			}
			set(specs...)
			held("with policies")
			set(append(specs, `{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: quiet}}}]}]}`)...)
			ask("with one more", "ours", "quiet", dbIP+":8080 reached", dbIP+":8081 reached", world+" refused")
			set(specs...)
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openWith(t, dir, network)
			held("after a restart")

			host, _, _ := strings.Cut(world, ":")
			set(`{podSelector: {matchLabels: {app: quiet}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: ` + host + `/24}}], ports: [{port: 8000}]}]}`)
			ask("a block", "ours", "quiet", world+" reached", dbIP+":8080 refused")
			set(`{podSelector: {matchLabels: {app: quiet}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [` + host + `/32]}}]}]}`)
			ask("all but one", "ours", "quiet", world+" refused", dbIP+":8080 reached")
			set(`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`)
			pretends := dialing(t, "pretends", "ours", dbIP+":8080")
			pretends.Pod.Labels, pretends.For = map[string]string{"app": "web"}, podpolicy.Subject{Kind: podpolicy.Repository, Repositories: []string{"harbour"}, MergeRequest: 7}
			if r := run(t, e, pretends); r.Result == nil || *r.Result != dbIP+":8080 refused" {
				t.Errorf("a step of a merge request calls itself what it likes: %+v", r)
			}
			set()
			ask("without policies again", "ours", "quiet", dbIP+":8080 reached", world+" reached")
			ask("without policies again", "theirs", "web", dbIP+":8080"+stranger)
			for _, p := range []executor.Pod{db, quiet} {
				if err := e.Stop(t.Context(), p.ID, 0); err != nil {
					t.Fatal(err)
				}
				report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase.Done() })
				if err := e.Acknowledge(t.Context(), p.ID); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPoliciesThatCannotBeRead: no pod begins while it is not known what it is held to.
func TestPoliciesThatCannotBeRead(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "policies.json"), []byte(`{"policies": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	e := openWith(t, dir, testNetwork())
	p := shell(t, "true")
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Message != "" })
	if r.Phase != executor.Pending || !strings.Contains(r.Message, "NetworkPolicies of pods are not known yet") {
		t.Errorf("it says %+v", r)
	}
	if err := e.SetPolicies(netpolicy.Policies{}); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase == executor.Succeeded })
}

// TestPoliciesNeedANetwork: where pods have none of their own, they cannot be held to policies, which is said.
func TestPoliciesNeedANetwork(t *testing.T) {
	needRoot(t)
	e := openWith(t, t.TempDir(), local.Network{Disabled: true})
	if err := e.SetPolicies(netpolicy.Policies{}); err != nil {
		t.Error(err)
	}
	if err := e.SetPolicies(policies(t, "ours", `{podSelector: {}}`)); err == nil || !strings.Contains(err.Error(), "have none") {
		t.Errorf("%v", err)
	}
}
