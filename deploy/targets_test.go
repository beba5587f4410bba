package deploy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/manifest"
)

type nothing struct {
	deploy.Target
	deploy.Pods
}

func place(name, server string) deploy.Cluster {
	return deploy.Cluster{Place: deploy.Place{Name: name, Server: server}, Target: nothing{}, Pods: nothing{}}
}

// Argo CD's documents, "Application specification": a destination names a cluster by server or by name, and the cluster that Argo CD
// itself runs in is in-cluster, https://kubernetes.default.svc. Here it is also the one of a destination that names none.
func TestResolve(t *testing.T) {
	targets, err := deploy.NewTargets(podpolicy.New(), place("in-cluster", "https://kubernetes.default.svc"), place("far", "https://far.example.org:6443"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ server, name, want string }{
		{"", "", "in-cluster"},
		{"https://kubernetes.default.svc", "", "in-cluster"},
		{"https://kubernetes.default.svc/", "", "in-cluster"},
		{"", "in-cluster", "in-cluster"},
		{"https://far.example.org:6443", "", "far"},
		{"", "far", "far"},
		{"https://far.example.org:6443", "far", "far"},
		{"https://far.example.org:6443", "in-cluster", ""},
		{"https://far.example.org", "", ""},
		{"", "Far", ""},
		{"", "other", ""},
	} {
		got, err := targets.Resolve(manifest.Destination{Server: c.server, Name: c.name, Namespace: "prod"})
		if got.Name != c.want || (err == nil) != (c.want != "") {
			t.Errorf("server %q, name %q: %q, %v; want %q", c.server, c.name, got.Name, err, c.want)
		}
		if err != nil && (!errors.Is(err, deploy.ErrUnknownCluster) || !strings.Contains(err.Error(), "far (https://far.example.org:6443), in-cluster (https://kubernetes.default.svc)")) {
			t.Errorf("the refusal does not say where to: %v", err)
		}
	}
	if got, err := targets.Named(""); err != nil || got.Name != "in-cluster" {
		t.Errorf("a row of before: %q, %v", got.Name, err)
	}
}

func TestClustersAreNamedOnce(t *testing.T) {
	for _, list := range [][]deploy.Cluster{
		{place("a", "https://a"), place("a", "https://b")},
		{place("a", "https://a"), place("b", "https://a")},
		{place("a|b", "https://a")},
		{place("", "https://a")},
		{place("a", "")},
		{{Place: deploy.Place{Name: "a", Server: "https://a"}}},
	} {
		if _, err := deploy.NewTargets(podpolicy.New(), list...); err == nil {
			t.Errorf("%v was taken", list)
		}
	}
}

// The rows and entries of the one target that there was before clusters had names keep their keys.
func TestRowKey(t *testing.T) {
	key := deploy.Key{Group: "apps", Kind: "Deployment", Namespace: "prod", Name: "api"}
	for cluster, want := range map[string]string{"": "apps/Deployment:prod/api", "in-cluster": "apps/Deployment:prod/api", "far": "far|apps/Deployment:prod/api"} {
		if got := (deploy.ObjectRecord{Key: key, Cluster: cluster}).RowKey(); got != want {
			t.Errorf("%q: %q, want %q", cluster, got, want)
		}
	}
}
