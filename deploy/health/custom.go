package health

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/script"
)

// ConfigMap is the name of the ConfigMap that Argo CD reads its customizations from.
const ConfigMap = "argocd-cm"

// Rules are the health of kinds as the operator says it in Lua: the script has the object as obj and returns a table with
// status and message, or nil where the kind has no health by it. The zero value has none but the built-in ones.
type Rules struct {
	exact map[string]string // by group/Kind, and Kind alone in the core group
	globs []glob
}

type glob struct{ pattern, script string }

const (
	prefixHealth = "resource.customizations.health."
	allAtOnce    = "resource.customizations"
)

// NewRules reads the data of the ConfigMap argocd-cm (Argo CD's documents, "Resource Health"): a key
// resource.customizations.health.GROUP_KIND for each kind, or all in the key resource.customizations, where names may have wildcards. The
// strings say what was passed over, and why.
func NewRules(data map[string]string) (Rules, []string) {
	r := Rules{exact: map[string]string{}}
	var problems []string
	var all map[string]map[string]any
	if err := yaml.Unmarshal([]byte(data[allAtOnce]), &all); err != nil {
		problems = append(problems, fmt.Sprintf("%s: %v", allAtOnce, err))
	}
	for name, is := range all {
		if text, ok := is["health.lua"].(string); ok && text != "" {
			r.add(name, text, &problems)
		}
	}
	for key, text := range data { // these count more than what is said all at once
		if kind, ok := strings.CutPrefix(key, prefixHealth); ok && text != "" {
			r.add(strings.Replace(kind, "_", "/", 1), text, &problems)
		}
	}
	slices.SortFunc(r.globs, func(a, b glob) int { return strings.Compare(a.pattern, b.pattern) })
	slices.Sort(problems)
	return r, problems
}

func (r *Rules) add(name, text string, problems *[]string) {
	if !strings.ContainsAny(name, "*?[") {
		r.exact[name] = text
		return
	}
	if _, err := path.Match(name, ""); err != nil {
		*problems = append(*problems, fmt.Sprintf("health of %s: %v", name, err))
		return
	}
	r.globs = append(r.globs, glob{name, text})
}

// find gives the script for an object. An exact name counts more than a pattern.
func (r Rules) find(o *unstructured.Unstructured) (string, bool) {
	name := o.GetKind()
	if g := o.GroupVersionKind().Group; g != "" {
		name = g + "/" + name
	}
	if text, ok := r.exact[name]; ok {
		return text, true
	}
	for _, g := range r.globs {
		if ok, err := path.Match(g.pattern, name); err == nil && ok {
			return g.script, true
		}
	}
	return "", false
}

// Of is [Of] with the operator's rules before the built-in ones.
func (r Rules) Of(o *unstructured.Unstructured) (deploy.Health, bool) {
	text, ok := r.find(o)
	if !ok || deleting(o) {
		return Of(o)
	}
	result, err := script.Lua(text, "obj", o.Object)
	if err != nil {
		return deploy.Health{Status: Unknown, Message: fmt.Sprintf("the health script of %s: %v", o.GetKind(), err)}, true
	}
	if result == nil {
		return deploy.Health{}, false
	}
	table, ok := result.(map[string]any)
	if list, empty := result.([]any); empty && len(list) == 0 || ok && len(table) == 0 {
		return deploy.Health{}, false
	}
	status, _ := table["status"].(string)
	message, _ := table["message"].(string)
	if !slices.Contains([]string{Healthy, Suspended, Progressing, Missing, Degraded, Unknown}, status) {
		return deploy.Health{Status: Unknown, Message: "Lua returned an invalid health status"}, true
	}
	return deploy.Health{Status: status, Message: message}, true
}
