package apps_test

import (
	"context"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/executor"
)

// folders takes every claim.
type folders struct{}

func (folders) CreateClaim(context.Context, executor.Claim) error { return nil }
func (folders) FindClaim(context.Context, string, string) (executor.Claim, error) {
	return executor.Claim{}, executor.ErrNotFound
}
func (folders) DeleteClaim(context.Context, string, string) error { return nil }

// TestClaimsOutliveTheirApplication: what a StatefulSet's pods wrote stays, as in Argo CD, which does not track the claims that a StatefulSet makes, and keeps
// no Application from going. The next one of its name has it again.
func TestClaimsOutliveTheirApplication(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 1
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: "db:1"}]}}
  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
`})
	w.define(strings.Replace(application(""), "CreateNamespace=true", "CreateNamespace=false", 1)) // a Namespace takes all in it along
	synced := func() bool { a := w.app("prod"); return a.Sync == "Synced" && a.Health.Status == "Healthy" }
	w.await("it runs", synced)
	claim := func() string {
		o, err := w.target.Get(t.Context(), deploy.Key{Kind: "PersistentVolumeClaim", Namespace: "prod", Name: "data-db-0"})
		if err != nil {
			t.Fatal(err)
		}
		return string(o.GetUID())
	}
	before := claim()
	w.undefine("Application", "prod")
	w.await("the application is gone", func() bool { return w.app("prod").Name == "" && w.images() == "" })
	if got := claim(); got != before {
		t.Errorf("the claim is %s and was %s", got, before)
	}
	w.define(strings.Replace(application(""), "CreateNamespace=true", "CreateNamespace=false", 1)) // a Namespace takes all in it along
	w.await("it runs again", synced)
	if got := claim(); got != before {
		t.Errorf("it has the claim %s, and had %s", got, before)
	}
}
