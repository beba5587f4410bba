package runs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// claimed says whom and what the run of a submission acts for.
func (c *Controller) claimed(ctx context.Context, s Submission) (claims.Record, error) {
	if c.o.Claims == nil {
		return claims.Record{}, nil
	}
	if s.again != nil && s.again.claims != nil {
		return *s.again.claims, nil
	}
	return c.o.Claims.Settle(ctx, claims.Made{
		Event: s.Event, Events: s.Events, Source: s.Source, Revision: s.Revision, Origin: s.Origin, Role: string(s.Role),
	})
}

// mayAsk refuses the value of a Secret to a request that is made on a run's behalf; path is the field that names it.
func (c *Controller) mayAsk(ctx context.Context, key, namespace, path, name string) error {
	who, err := view(ctx, c, key, func(r *live) podpolicy.Subject { return r.state.For() })
	if err != nil {
		return err
	}
	policy, err := c.o.Executors.Policy(ctx)
	if err != nil {
		return err
	}
	for _, p := range policy.Header(who, namespace, path, name) {
		return fmt.Errorf("%s: %s", p.Path, p)
	}
	return nil
}

// platform is what the executor of a run does not do. What a template's own executor does not do is said when its pod is made.
func (c *Controller) platform(ctx context.Context, s Submission) (executor.Fields, error) {
	named, err := c.o.Executors.Named(s.executor(s.Object.Tree.Get("spec")))
	if err != nil {
		return executor.Fields{}, nil //nolint:nilerr // a tag, or a name that there is not, which the pods say
	}
	can, err := named.Capabilities(ctx)
	if err != nil {
		return executor.Fields{}, fmt.Errorf("ask executor %s: %w", named.Name, err)
	}
	return can.Fields, nil
}

// executor is the one that a run asks for, unless a template asks for another; spec is that of the run, with what it has of a template that
// it is made of.
func (s Submission) executor(spec *manifest.Tree) string {
	return first(executorAt(spec, "podMetadata"), s.Annotations[AnnotationExecutor], executorAt(s.Object.Tree, "spec.workflowMetadata"),
		executorAt(s.Object.Tree, "metadata"))
}

// templateOf gives the object that a run is made of; nil if there is none, which is said elsewhere.
func (c *Controller) templateOf(ctx context.Context, namespace, name string, cluster bool) map[string]any {
	kind := "WorkflowTemplate"
	if cluster {
		kind = "ClusterWorkflowTemplate"
	}
	raw, err := c.o.Objects.Object(ctx, workflow.Ref{Kind: kind, Namespace: namespace, Name: name})
	var object struct {
		Spec map[string]any `json:"spec"`
	}
	if err != nil || json.Unmarshal(raw, &object) != nil {
		return nil
	}
	return object.Spec
}
