package local

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// Linter judges objects as this target would, before there is one: it looks at an object alone, asks no executor and knows
// nothing of what is live. It decodes strictly, so an unknown field is fatal.
type Linter struct{}

// Lint says what is wrong with an object. It is false for a kind that this target cannot apply.
func (Linter) Lint(o *unstructured.Unstructured) ([]deploy.Problem, bool) {
	if !runs(deploy.KeyOf(o)) {
		return nil, false
	}
	c := &checker{ctx: context.Background(), t: &Target{}, key: deploy.KeyOf(o), strict: true}
	c.object(o)
	return c.problems, true
}

// plain looks at those kinds that are kept as they are.
func (c *checker) plain(o *unstructured.Unstructured) {
	if !c.strict {
		return
	}
	switch o.GetKind() {
	case "Namespace":
		check(c, o, func(*corev1.Namespace) {})
	case "ConfigMap":
		check(c, o, func(*corev1.ConfigMap) {})
	case "ServiceAccount":
		check(c, o, func(*corev1.ServiceAccount) {})
	}
}
