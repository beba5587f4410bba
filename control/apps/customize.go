package apps

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy/health"
)

// Rules are those by which objects are judged: the built-in ones, and the operator's in the ConfigMap argocd-cm.
func (c *Controller) Rules() health.Rules {
	if r := c.health.Load(); r != nil {
		return r.rules
	}
	return health.Rules{}
}

// customProblems say what of the operator's rules has no effect. Every Application shows them, because they judge every one.
func (c *Controller) customProblems() []string {
	if r := c.health.Load(); r != nil {
		return r.problems
	}
	return nil
}

// customize reads the operator's rules of health again if they were changed. While they cannot be read the earlier ones stay.
func (c *Controller) customize(ctx context.Context) error {
	maps, err := definitions.All[corev1.ConfigMap](ctx, c.o.Definitions, "")
	if err != nil {
		return fmt.Errorf("read customizations: %w", err)
	}
	i := slices.IndexFunc(maps, func(d definitions.Seen[corev1.ConfigMap]) bool { return d.Definition.Name == health.ConfigMap })
	digest := ""
	if i >= 0 {
		digest = maps[i].Namespace + "/" + maps[i].Digest
	}
	if digest == c.customized {
		return nil
	}
	next := custom{}
	if i >= 0 {
		where := "ConfigMap " + maps[i].Namespace + "/" + maps[i].Name
		if maps[i].Problem != nil {
			next = custom{rules: c.Rules(), problems: []string{"the customizations of before stay: " + unreadable(maps[i].Problem)}}
		} else {
			var problems []string
			next.rules, problems = health.NewRules(maps[i].Value.Data)
			for _, p := range problems {
				next.problems = append(next.problems, where+": a customization has no effect: "+p)
			}
		}
	}
	c.health.Store(&next)
	c.customized = digest
	return nil
}
