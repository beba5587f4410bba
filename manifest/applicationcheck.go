package manifest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SourceList gives the Application's sources: Sources if there are any, else Source.
func (s ApplicationSpec) SourceList() []ApplicationSource {
	if len(s.Sources) > 0 {
		return s.Sources
	}
	if s.Source != nil {
		return []ApplicationSource{*s.Source}
	}
	return nil
}

// Validate says what in the Application is wrong or cannot be had. The diagnostics have a path and no position:
// whoever has the [Tree] adds it with [Locate].
func (a *Application) Validate() []Diagnostic {
	c := &check{}
	if a.Name == "" {
		c.fail("metadata.name", "an Application needs a name", "")
	}
	c.destination(a.Spec.Destination)
	sources := a.Spec.SourceList()
	switch {
	case len(a.Spec.SourceHydrator) > 0:
		c.fail("spec.sourceHydrator", "the source hydrator is not supported", "use spec.source")
	case len(sources) == 0:
		c.fail("spec.source", "an Application needs a source", "set spec.source.repoURL and spec.source.path")
	}
	for i, source := range sources {
		path := "spec.source"
		if len(a.Spec.Sources) > 0 {
			path = IndexPath("spec.sources", i)
		}
		c.source(path, source)
	}
	c.syncPolicy(a.Spec.SyncPolicy)
	c.operation(a.Operation)
	for i, ignore := range a.Spec.IgnoreDifferences {
		path := IndexPath("spec.ignoreDifferences", i)
		if ignore.Kind == "" {
			c.fail(path+".kind", "a kind is required", `use "*" for every kind`)
		}
		for j, pointer := range ignore.JSONPointers {
			if !strings.HasPrefix(pointer, "/") {
				c.fail(IndexPath(path+".jsonPointers", j), fmt.Sprintf("%q is not a JSON pointer", pointer), "begin it with /")
			}
		}
		for j, expression := range ignore.JQPathExpressions {
			if _, err := JQPath(expression); err != nil {
				c.fail(IndexPath(path+".jqPathExpressions", j), err.Error(), "use jsonPointers, or a path")
			}
		}
		if len(ignore.ManagedFieldsManagers) > 0 {
			c.warn(path+".managedFieldsManagers", "managedFieldsManagers has no effect here: objects have no managed fields", "use jsonPointers")
		}
	}
	return c.found
}

// Validate says what in a source is wrong or cannot be had, with paths below "source".
func (s ApplicationSource) Validate() []Diagnostic {
	c := &check{}
	c.source("source", s)
	return c.found
}

// Validate says what in the AppProject is wrong or has no effect yet.
func (p *AppProject) Validate() []Diagnostic {
	c := &check{}
	if p.Name == "" {
		c.fail("metadata.name", "an AppProject needs a name", "")
	}
	for _, part := range []struct {
		path  string
		given bool
	}{
		{"spec.syncWindows", len(p.Spec.SyncWindows) > 0},
		{"spec.signatureKeys", len(p.Spec.SignatureKeys) > 0},
		{"spec.sourceIntegrity", len(p.Spec.SourceIntegrity) > 0},
	} {
		if part.given {
			c.fail(part.path, part.path+" is not supported: it would not protect what it is meant to", "remove it")
		}
	}
	c.roles(p.Name, p.Spec.Roles)
	return c.found
}

// Validate says what in the ApplicationSet is wrong or cannot be had.
func (s *ApplicationSet) Validate() []Diagnostic {
	c := &check{}
	if s.Name == "" {
		c.fail("metadata.name", "an ApplicationSet needs a name", "")
	}
	if len(s.Spec.Generators) == 0 {
		c.fail("spec.generators", "an ApplicationSet needs a generator", "add list or pullRequest")
	}
	for i, generator := range s.Spec.Generators {
		c.generator(IndexPath("spec.generators", i), generator)
	}
	if s.Spec.TemplatePatch != "" {
		c.fail("spec.templatePatch", "templatePatch is not supported", "put the difference into spec.template with goTemplate")
	}
	if len(s.Spec.Strategy) > 0 && !strings.Contains(string(s.Spec.Strategy), "AllAtOnce") && string(s.Spec.Strategy) != "{}" {
		c.fail("spec.strategy", "only the strategy AllAtOnce is supported", "remove spec.strategy")
	}
	if s.Spec.Template.Metadata.Name == "" {
		c.fail("spec.template.metadata.name", "the template needs a name", `e.g. "mr-{{number}}"`)
	}
	if p := s.Spec.SyncPolicy; p != nil && !slices.Contains([]string{"", "create-only", "create-update", "create-delete", "sync"}, p.ApplicationsSync) {
		c.fail("spec.syncPolicy.applicationsSync", fmt.Sprintf("unknown policy %q", p.ApplicationsSync),
			"use create-only, create-update, create-delete or sync")
	}
	for _, option := range s.Spec.GoTemplateOptions {
		if !slices.Contains([]string{"missingkey=error", "missingkey=default", "missingkey=invalid", "missingkey=zero"}, option) {
			c.fail("spec.goTemplateOptions", fmt.Sprintf("unknown option %q", option), "use missingkey=error")
		}
	}
	return c.found
}

type check struct{ found []Diagnostic }

func (c *check) fail(path, message, hint string) {
	c.found = append(c.found, Diagnostic{Severity: SeverityError, Path: path, Message: message, Hint: hint})
}

func (c *check) warn(path, message, hint string) {
	c.found = append(c.found, Diagnostic{Severity: SeverityWarning, Path: path, Message: message, Hint: hint})
}

func (c *check) destination(d Destination) {
	if d.Server != "" && d.Name != "" {
		c.fail("spec.destination", "a destination has a server or a name, not both", "remove one")
	}
	// Without anything in it, after a slip of the pen say, all that there is would have to move, and be pruned where it was.
	if d.Server == "" && d.Name == "" && d.Namespace == "" {
		c.fail("spec.destination", "the destination is empty", "set server: https://kubernetes.default.svc, and namespace")
	}
	if d.Namespace != "" && !namespaceName.MatchString(d.Namespace) {
		c.fail("spec.destination.namespace", fmt.Sprintf("%.80q is no name of a namespace", d.Namespace), "use at most 63 lower-case letters, digits and -, with a letter or digit at both ends")
	}
}

// namespaceName is a DNS label, as Kubernetes wants it (RFC 1123).
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (c *check) source(path string, s ApplicationSource) {
	if s.RepoURL == "" {
		c.fail(path+".repoURL", "a source needs a repoURL", "")
	}
	switch {
	case s.Chart != "":
		c.fail(path+".chart", "Helm charts are not supported yet", "render the chart to a folder and use path")
	case len(s.Helm) > 0:
		c.fail(path+".helm", "Helm is not supported yet", "render the chart to a folder and use path")
	case len(s.Plugin) > 0:
		c.fail(path+".plugin", "config management plugins are not supported", "render in a workflow step and push the result")
	case strings.HasPrefix(s.RepoURL, "oci://"):
		c.fail(path+".repoURL", "OCI sources are not supported yet", "use a Git repository")
	case s.Ref != "":
		c.fail(path+".ref", "a source that is only referred to serves Helm values, which are not supported yet", "remove it")
	case s.Path == "":
		c.fail(path+".path", "a source needs a path", `use "." for the whole repository`)
	}
	if strings.HasPrefix(s.Path, "/") || slices.Contains(strings.Split(s.Path, "/"), "..") {
		c.fail(path+".path", fmt.Sprintf("path %q leaves the repository", s.Path), "name a folder inside of the repository")
	}
	if s.Directory != nil && s.Directory.Jsonnet != nil {
		c.jsonnet(path+".directory.jsonnet", *s.Directory.Jsonnet)
	}
	if !s.Directory.IsZero() && !s.Kustomize.IsZero() {
		c.fail(path, "a source is a directory or a kustomization, not both", "remove directory or kustomize")
	}
}

func (c *check) jsonnet(path string, j JsonnetSource) {
	for _, list := range []struct {
		name string
		vars []JsonnetVar
	}{{"extVars", j.ExtVars}, {"tlas", j.TLAs}} {
		for i, v := range list.vars {
			if v.Name == "" {
				c.fail(IndexPath(path+"."+list.name, i)+".name", "a variable needs a name", "")
			}
		}
	}
	for i, lib := range j.Libs {
		if slices.Contains(strings.Split(lib, "/"), "..") {
			c.fail(IndexPath(path+".libs", i), fmt.Sprintf("path %q leaves the repository", lib), "name a folder inside of the repository, from its root")
		}
	}
}

// syncOptionValues are Argo CD's sync options with the values that each can have.
func syncOptionValues(name string) []string {
	switch name {
	case "Prune", "Delete":
		return []string{"true", "false", "confirm"}
	case "PrunePropagationPolicy":
		return []string{"foreground", "background"}
	case "CreateNamespace", "PruneLast", "Replace", "Force", "ServerSideApply", "ClientSideApplyMigration", "ApplyOutOfSyncOnly",
		"RespectIgnoreDifferences", "SkipDryRunOnMissingResource", "Validate", "FailOnSharedResource":
		return []string{"true", "false"}
	}
	return nil
}

// SyncOptionProblem says what is wrong with a sync option, "Name=value"; empty if nothing is. What protects objects, or says how they go, has to be
// right: refused says so of it.
func SyncOptionProblem(option string) (problem string, refused bool) {
	name, value, _ := strings.Cut(strings.TrimSpace(option), "=")
	values := syncOptionValues(name)
	switch {
	case values == nil:
		return fmt.Sprintf("unknown sync option %.80q has no effect", option), false
	case name == "PrunePropagationPolicy" && value == "orphan":
		return "PrunePropagationPolicy=orphan is not supported: what an object made goes with it", true
	case !slices.Contains(values, value):
		return fmt.Sprintf("the sync option %s has the values %s, and not %.80q", name, strings.Join(values, ", "), value),
			slices.Contains([]string{"Prune", "Delete", "PrunePropagationPolicy"}, name)
	}
	return "", false
}

// syncOptions refuses what would not protect, and warns of what has no effect.
func (c *check) syncOptions(path string, options []string) {
	for i, option := range options {
		switch problem, refused := SyncOptionProblem(option); {
		case refused:
			c.fail(IndexPath(path, i), problem, "")
		case problem != "":
			c.warn(IndexPath(path, i), problem, "")
		}
	}
}

func (c *check) syncPolicy(p *SyncPolicy) {
	if p == nil {
		return
	}
	c.syncOptions("spec.syncPolicy.syncOptions", p.SyncOptions)
	if p.ManagedNamespaceMetadata != nil && !slices.ContainsFunc(p.SyncOptions, func(o string) bool { return strings.TrimSpace(o) == "CreateNamespace=true" }) {
		c.warn("spec.syncPolicy.managedNamespaceMetadata", "managedNamespaceMetadata has no effect without the sync option CreateNamespace=true", "add it to syncOptions")
	}
	if r := p.Retry; r != nil {
		if r.Limit < -1 {
			c.fail("spec.syncPolicy.retry.limit", "the limit is -1 or more", "")
		}
		if b := r.Backoff; b != nil {
			c.wait("spec.syncPolicy.retry.backoff.duration", b.Duration)
			c.wait("spec.syncPolicy.retry.backoff.maxDuration", b.MaxDuration)
		}
	}
}

// wait refuses what is neither a duration nor a number of seconds.
func (c *check) wait(path, text string) {
	if text == "" {
		return
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return
	}
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && n > 0 {
		return
	}
	c.fail(path, fmt.Sprintf("%.80q is no duration", text), "write it as 30s or 5m, or as a number of seconds")
}

// operation refuses what a requested sync cannot be: it deploys what the spec says, with its hooks.
func (c *check) operation(o *Operation) {
	switch {
	case o == nil:
		return
	case o.Sync == nil:
		c.fail("operation.sync", "an operation is a sync", "add sync: {}, or remove operation")
		return
	case o.Retry != nil:
		c.warn("operation.retry", "the retry of one operation has no effect", "set spec.syncPolicy.retry")
	}
	s := o.Sync
	for _, part := range []struct {
		name, hint string
		given      bool
	}{
		{"dryRun", "the comparison of an Application shows what a sync would do", s.DryRun},
		{"revision", "set targetRevision of the source, or use tiphys app rollback", s.Revision != ""},
		{"revisions", "set targetRevision of the sources", len(s.Revisions) > 0},
		{"source", "change spec.source", len(s.Source) > 0},
		{"sources", "change spec.sources", len(s.Sources) > 0},
		{"manifests", "put them into the repository", len(s.Manifests) > 0},
		{"syncStrategy.apply", "a sync runs its hooks here: use hook", s.SyncStrategy != nil && s.SyncStrategy.Apply != nil},
	} {
		if part.given {
			c.fail("operation.sync."+part.name, part.name+" is not supported in an operation", part.hint)
		}
	}
	c.syncOptions("operation.sync.syncOptions", s.SyncOptions)
}

func (c *check) generator(path string, g ApplicationSetGenerator) {
	given := 0
	for _, other := range []struct {
		name string
		raw  json.RawMessage
	}{
		{"clusters", g.Clusters}, {"git", g.Git}, {"scmProvider", g.SCMProvider}, {"matrix", g.Matrix}, {"merge", g.Merge},
		{"clusterDecisionResource", g.ClusterDecisionResource}, {"plugin", g.Plugin},
	} {
		if len(other.raw) > 0 {
			given++
			c.fail(path+"."+other.name, fmt.Sprintf("the %s generator is not supported yet", other.name), "use list or pullRequest")
		}
	}
	if g.List != nil {
		given++
		if g.List.Elements == nil && g.List.ElementsYAML == "" {
			// It would make nothing, and what it made before would be deleted.
			c.fail(path+".list.elements", "a list generator has elements", "write elements: [] if it is to make nothing")
		}
	}
	if g.PullRequest != nil {
		given++
		c.pullRequest(path+".pullRequest", *g.PullRequest)
	}
	if given != 1 {
		c.fail(path, fmt.Sprintf("a generator entry has exactly one generator, this has %d", given), "")
	}
}

func (c *check) pullRequest(path string, g PullRequestGenerator) {
	forges := 0
	for _, f := range []*PullRequestForge{g.GitHub, g.GitLab, g.Gitea, g.Tiphys} {
		if f != nil {
			forges++
		}
	}
	for _, other := range []struct {
		name string
		raw  json.RawMessage
	}{{"bitbucket", g.Bitbucket}, {"bitbucketServer", g.BitbucketServer}, {"azuredevops", g.AzureDevOps}} {
		if len(other.raw) > 0 {
			forges++
			c.fail(path+"."+other.name, fmt.Sprintf("pull requests of %s are not supported yet", other.name), "use gitlab, github, gitea or tiphys")
		}
	}
	if forges != 1 {
		c.fail(path, fmt.Sprintf("a pullRequest generator names exactly one forge, this has %d", forges), "set gitlab, github, gitea or tiphys")
	}
	for i, filter := range g.Filters {
		for name, expression := range map[string]*string{"branchMatch": filter.BranchMatch,
			"targetBranchMatch": filter.TargetBranchMatch, "titleMatch": filter.TitleMatch} {
			if expression == nil {
				continue
			}
			if len(*expression) > maxPattern {
				c.fail(IndexPath(path+".filters", i)+"."+name, fmt.Sprintf("a regular expression of more than %d characters", maxPattern), "")
				continue
			}
			// It is not compiled: how large it becomes is found out where it is used.
			if _, err := syntax.Parse(*expression, syntax.Perl); err != nil {
				c.fail(IndexPath(path+".filters", i)+"."+name, fmt.Sprintf("not a regular expression: %v", err), "")
			}
		}
	}
}

// maxPattern is the most bytes of a regular expression.
const maxPattern = 4096

// Locate gives each diagnostic that has a path and no position the position of that path in the tree.
func Locate(tree *Tree, diagnostics []Diagnostic) []Diagnostic {
	for i, d := range diagnostics {
		if tree != nil && d.Path != "" && d.Position.Line == 0 {
			diagnostics[i].Position = tree.Position(d.Path)
		}
	}
	return diagnostics
}
