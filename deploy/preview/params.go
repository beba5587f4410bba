package preview

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// Params gives the parameter sets of one generator.
func Params(g manifest.ApplicationSetGenerator, reply Reply, goTemplate bool, options []string) ([]map[string]any, error) {
	var list []map[string]any
	var err error
	switch {
	case g.List != nil:
		list, err = listParams(g.List, goTemplate)
	case g.PullRequest != nil:
		list, err = requestParams(g, reply, goTemplate, options)
	default:
		err = fmt.Errorf("only the generators list and pullRequest are supported yet")
	}
	if err != nil || g.Selector == nil {
		return list, err
	}
	selector, err := metav1.LabelSelectorAsSelector(g.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	return slices.DeleteFunc(list, func(params map[string]any) bool {
		flat := labels.Set{}
		flatten("", params, flat)
		return !selector.Matches(flat)
	}), nil
}

func flatten(prefix string, node any, to labels.Set) {
	join := func(key string) string {
		if prefix == "" {
			return key
		}
		return prefix + "." + key
	}
	switch n := node.(type) {
	case map[string]any:
		for key, value := range n {
			flatten(join(key), value, to)
		}
	case []any:
		for i, value := range n {
			flatten(join(strconv.Itoa(i)), value, to)
		}
	case []string:
		for i, value := range n {
			to[join(strconv.Itoa(i))] = value
		}
	default:
		to[prefix] = fmt.Sprint(n)
	}
}

func listParams(g *manifest.ListGenerator, goTemplate bool) ([]map[string]any, error) {
	elements := g.Elements
	if g.ElementsYAML != "" {
		var more []map[string]any
		if err := yaml.Unmarshal([]byte(g.ElementsYAML), &more); err != nil {
			return nil, fmt.Errorf("list generator: elementsYaml: %w", err)
		}
		elements = append(slices.Clone(elements), more...)
	}
	list := make([]map[string]any, 0, len(elements))
	for _, element := range elements {
		if goTemplate {
			list = append(list, maps.Clone(element))
			continue
		}
		params := map[string]any{}
		for key, value := range element {
			if nested, is := value.(map[string]any); is && key == "values" {
				for name, v := range nested {
					text, ok := v.(string)
					if !ok {
						return nil, fmt.Errorf("list generator: values.%s is not text; use goTemplate: true for other types", name)
					}
					params["values."+name] = text
				}
				continue
			}
			text, ok := value.(string)
			if !ok {
				return nil, fmt.Errorf("list generator: %s is not text; use goTemplate: true for other types", key)
			}
			params[key] = text
		}
		list = append(list, params)
	}
	return list, nil
}

// forge is the one forge of the generator; nil if it names none.
func forge(g *manifest.PullRequestGenerator) *manifest.PullRequestForge {
	for _, f := range []*manifest.PullRequestForge{g.GitHub, g.GitLab, g.Gitea, g.Tiphys} {
		if f != nil {
			return f
		}
	}
	return nil
}

// Repository gives the kind of forge ("gitlab", "github", "gitea", "tiphys") and the repository that a generator asks.
func Repository(g *manifest.PullRequestGenerator) (kind, repo string) {
	switch {
	case g.GitHub != nil:
		return "github", g.GitHub.Owner + "/" + g.GitHub.Repo
	case g.GitLab != nil:
		return "gitlab", g.GitLab.Project
	case g.Gitea != nil:
		return "gitea", g.Gitea.Owner + "/" + g.Gitea.Repo
	case g.Tiphys != nil:
		return "tiphys", strings.TrimPrefix(g.Tiphys.Owner+"/"+g.Tiphys.Repo, "/")
	}
	return "", ""
}

// kept are the merge requests that the generator's labels and filters let through. Labels must all be there; of the
// filters one must match with all that it names.
func kept(g manifest.ApplicationSetGenerator, reply Reply) ([]event.PullRequest, error) {
	if g.PullRequest == nil {
		return nil, nil
	}
	filters, err := filtersOf(g.PullRequest.Filters)
	if err != nil {
		return nil, err
	}
	var found []event.PullRequest
	for _, r := range reply.PullRequests {
		if f := forge(g.PullRequest); f != nil && slices.ContainsFunc(f.Labels, func(label string) bool { return !slices.Contains(r.Labels, label) }) {
			continue
		}
		passes := len(filters) == 0
		for i := 0; i < len(filters) && !passes; i++ {
			if passes, err = filters[i].matches(r); err != nil {
				return nil, fmt.Errorf("filter of the generator: %w", err)
			}
		}
		if passes {
			found = append(found, r)
		}
	}
	return found, nil
}

// filter is what one filter of a generator asks of a merge request. Each has a budget for all of them.
type filter struct {
	branch, target, title *budget.Pattern
	budget                *budget.Budget
}

func filtersOf(list []manifest.PullRequestFilter) ([]filter, error) {
	filters := make([]filter, len(list))
	for i, f := range list {
		filters[i].budget = budget.New()
		for _, p := range []struct {
			text *string
			into **budget.Pattern
		}{{f.BranchMatch, &filters[i].branch}, {f.TargetBranchMatch, &filters[i].target}, {f.TitleMatch, &filters[i].title}} {
			if p.text == nil {
				continue
			}
			pattern, err := budget.ParsePattern(*p.text)
			if err != nil {
				return nil, fmt.Errorf("filter of the generator: %w", err)
			}
			*p.into = pattern
		}
	}
	return filters, nil
}

func (f filter) matches(r event.PullRequest) (bool, error) {
	for _, p := range []struct {
		pattern *budget.Pattern
		text    string
	}{{f.branch, r.SourceBranch}, {f.target, r.TargetBranch}, {f.title, r.Title}} {
		if p.pattern == nil {
			continue
		}
		if found, err := p.pattern.Match(f.budget, p.text); err != nil || !found {
			return false, err
		}
	}
	return true, nil
}

func requestParams(g manifest.ApplicationSetGenerator, reply Reply, goTemplate bool, options []string) ([]map[string]any, error) {
	if reply.NotFound && g.PullRequest.ContinueOnRepoNotFoundError {
		return nil, nil
	}
	if reply.Err != nil {
		// The words are Argo CD's.
		return nil, fmt.Errorf("error listing repos: %w", reply.Err)
	}
	if reply.NotFound {
		return nil, fmt.Errorf("error listing repos: %w", errNoAnswer)
	}
	var list []map[string]any
	engine := newEngine(goTemplate, options)
	requests, err := kept(g, reply)
	if err != nil {
		return nil, err
	}
	for _, r := range requests {
		sha := r.HeadSHA
		params := map[string]any{
			"number": strconv.Itoa(r.Number), "title": r.Title, "author": r.Author,
			"branch": r.SourceBranch, "branch_slug": branchSlug(r.SourceBranch),
			"target_branch": r.TargetBranch, "target_branch_slug": branchSlug(r.TargetBranch),
			"head_sha": sha, "head_short_sha": sha[:min(8, len(sha))], "head_short_sha_7": sha[:min(7, len(sha))],
		}
		if goTemplate && len(r.Labels) > 0 {
			params["labels"] = slices.Clone(r.Labels)
		}
		if err := engine.values(g.PullRequest.Values, params); err != nil {
			return nil, err
		}
		list = append(list, params)
	}
	return list, nil
}
