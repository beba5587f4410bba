package local

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/schema"
)

// Linter judges objects as this target would, before there is one: it looks at an object alone, asks no executor and knows
// nothing of what is live.
type Linter struct{}

// Lint says what is wrong with an object. It is false for a kind that neither this target nor Kubernetes has.
func (Linter) Lint(o *unstructured.Unstructured) ([]deploy.Problem, bool) {
	if !runs(deploy.KeyOf(o)) && !schema.Known(o.GroupVersionKind()) {
		return nil, false
	}
	c := &checker{ctx: context.Background(), t: &Target{}, key: deploy.KeyOf(o), alone: true}
	c.judge(new(schema.Checker), o)
	return c.problems, true
}
