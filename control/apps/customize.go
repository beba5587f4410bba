package apps

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
	maps, err := c.o.Definitions.List(ctx, "ConfigMap")
	if err != nil {
		return fmt.Errorf("read customizations: %w", err)
	}
	i := slices.IndexFunc(maps, func(d Definition) bool { return d.Name == health.ConfigMap })
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
		var m struct {
			Data map[string]string `json:"data"`
		}
		if err := json.Unmarshal(maps[i].Object, &m); err != nil {
			next = custom{rules: c.Rules(), problems: []string{fmt.Sprintf("%s cannot be read, and the customizations of before stay: %v", where, err)}}
		} else {
			var problems []string
			next.rules, problems = health.NewRules(m.Data)
			for _, p := range problems {
				next.problems = append(next.problems, where+": a customization has no effect: "+p)
			}
		}
	}
	c.health.Store(&next)
	c.customized = digest
	return nil
}
