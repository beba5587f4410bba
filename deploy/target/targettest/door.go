package targettest

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
)

// behindItsDoor: what is registered in [deploy.Targets] gets nothing whose pods go beyond the rights of whom it is for, and keeps for whom
// an object is, which it tells the executor of.
func behindItsDoor(t *testing.T, s *Subject) {
	harbour := podpolicy.Grant{To: podpolicy.To{Repositories: []string{"harbour"}}, HostNetwork: true}
	targets, err := deploy.NewTargets(podpolicy.New(harbour), deploy.Cluster{Place: deploy.Place{Name: deploy.InCluster, Server: deploy.InClusterServer}, Target: s.Target, Pods: noPods{}})
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := targets.Named("")
	if err != nil {
		t.Fatal(err)
	}
	of := func(repo string, dry bool) deploy.ApplyOptions {
		return deploy.ApplyOptions{Application: application, DryRun: dry, For: podpolicy.Subject{Kind: podpolicy.Application, Name: application, Repositories: []string{repo}}}
	}
	open := s.deployment("open")
	if err := unstructured.SetNestedField(open.Object, true, "spec", "template", "spec", "hostNetwork"); err != nil {
		t.Fatal(err)
	}
	const field = "spec.template.spec.hostNetwork"
	for _, dry := range []bool{true, false} {
		if _, err := cluster.Target.Apply(t.Context(), open, of("cutter", dry)); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("dry %t: %v, want a refusal of %s", dry, err, field)
		}
	}
	problems, err := cluster.Target.Check(t.Context(), []*unstructured.Unstructured{open}, of("cutter", false))
	if err != nil || len(problems) == 0 || !problems[0].Fatal || problems[0].Path != field || !strings.Contains(problems[0].Message, "repositories: [cutter]") {
		t.Errorf("a check says %+v %v", problems, err)
	}
	if s.live(t, deploy.KeyOf(open)) != nil {
		t.Error("it was applied")
	}
	if _, err := cluster.Target.Apply(t.Context(), open, of("harbour", true)); err != nil {
		t.Errorf("what is granted is refused: %v", err)
	}
	if _, err := cluster.Target.Apply(t.Context(), s.deployment("plain"), of("cutter", false)); err != nil {
		t.Errorf("a plain one is refused: %v", err)
	}
}

type noPods struct{ deploy.Pods }
