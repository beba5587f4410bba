package apps

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/tiphys/tiphys/deploy/health"
)

// Health are the rules by which objects are judged: the built-in ones, and the operator's in the ConfigMap argocd-cm.
func (c *Controller) Health() health.Rules {
	if r := c.health.Load(); r != nil {
		return *r
	}
	return health.Rules{}
}

// customize reads the operator's rules of health again if they were changed.
func (c *Controller) customize(ctx context.Context) {
	maps, err := c.o.Definitions.List(ctx, "ConfigMap")
	if err != nil {
		if ctx.Err() == nil {
			c.o.Log.Error("customizations could not be read; the earlier ones stay", "error", err)
		}
		return
	}
	i := slices.IndexFunc(maps, func(d Definition) bool { return d.Name == health.ConfigMap })
	digest := ""
	if i >= 0 {
		digest = maps[i].Namespace + "/" + maps[i].Digest
	}
	if digest == c.customized {
		return
	}
	rules := health.Rules{}
	if i >= 0 {
		var m struct {
			Data map[string]string `json:"data"`
		}
		if err := json.Unmarshal(maps[i].Object, &m); err != nil {
			c.o.Log.Error("customizations could not be read; the earlier ones stay", "error", err)
			return
		}
		var problems []string
		rules, problems = health.NewRules(m.Data)
		for _, p := range problems {
			c.o.Log.Warn("a customization has no effect", "configMap", maps[i].Namespace+"/"+maps[i].Name, "problem", p)
		}
	}
	c.health.Store(&rules)
	c.customized = digest
}
