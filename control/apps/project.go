package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/manifest"
)

// leave is what an Application's definition and its project give it beyond what every Application may do.
type leave struct {
	// manifest are sync options that its manifests may set.
	manifest plan.Manifest
	// hosts are host names of its Ingresses that its project gives it.
	hosts []string
	// releases are the repositories whose releases its project lets it take, as the project has them.
	releases string
}

// allowed holds the Application to its destination and to its project, and gives all projects that its objects are held to: its own, if
// that is declared, which is honoured as Argo CD's is; the narrow one, if it is not or if a merge request made the Application.
func (w *worker) allowed(ctx context.Context) ([]manifest.AppProject, error) {
	w.leaves.manifest, w.leaves.releases = plan.Manifest{}, ""
	a := applicationOf(w.row)
	if err := manifest.FirstError(a.Validate()); err != nil {
		return nil, invalid{err}
	}
	cluster, err := w.c.o.Targets.Resolve(w.row.Spec.Destination)
	if err != nil {
		return nil, invalid{err}
	}
	own, err := w.project(ctx)
	if err != nil {
		return nil, err
	}
	narrow := plan.Narrow(w.row.Spec)
	if own == nil {
		w.leaves.manifest = w.manifestOptions("")
		return []manifest.AppProject{narrow}, nil
	}
	err = plan.PermitNamespace(own.Value, own.Namespace, w.row.Namespace)
	if err == nil {
		err = plan.PermitApplication(own.Value, w.row.Spec, cluster.Place)
	}
	if err != nil {
		return nil, invalid{err}
	}
	w.leaves.releases = own.Value.Annotations[promote.AnnotationRepositories]
	w.leaves.manifest = w.manifestOptions(own.Value.Annotations[plan.AnnotationManifestOptions])
	if w.row.MR == 0 {
		return []manifest.AppProject{own.Value}, nil
	}
	narrow.Name = "of merge requests (built in)"
	return []manifest.AppProject{own.Value, narrow}, nil
}

// project is the declared project of the Application; nil where it names none and the default project is not declared.
func (w *worker) project(ctx context.Context) (*definitions.Seen[manifest.AppProject], error) {
	name := projectOf(w.row.Spec)
	projects, err := definitions.All[manifest.AppProject](ctx, w.c.o.Definitions, "")
	if err != nil {
		return nil, fmt.Errorf("read projects: %w", err)
	}
	for _, definition := range projects {
		if definition.Name != name {
			continue
		}
		if definition.Problem != nil {
			return nil, invalid{errors.New(unreadable(definition.Problem))}
		}
		return &definition, nil
	}
	if name == defaultProject {
		return nil, nil
	}
	return nil, invalid{fmt.Errorf("there is no AppProject %q: declare it, or set spec.project to default", name)}
}

// manifestOptions are the sync options that manifests may set: those that the project or the Application names, and none in a preview.
func (w *worker) manifestOptions(project string) plan.Manifest {
	if w.row.MR != 0 {
		return plan.Manifest{}
	}
	return plan.ManifestOptions(project).Or(plan.ManifestOptions(w.row.Annotations[plan.AnnotationManifestOptions]))
}

// hosts finds out which host names of the objects the Application's project gives it. One that a project gives is for its Applications only. A
// preview is given none: what it had first it has, and what belongs to others it does not take.
func (w *worker) hosts(ctx context.Context, objects []*unstructured.Unstructured) error {
	w.leaves.hosts = nil
	hosts := ingressHosts(objects)
	if len(hosts) == 0 {
		return nil
	}
	projects, err := definitions.All[manifest.AppProject](ctx, w.c.o.Definitions, "")
	if err != nil {
		return fmt.Errorf("read projects: %w", err)
	}
	for _, host := range hosts {
		var owners []string
		for _, p := range projects {
			patterns := strings.FieldsFunc(p.Value.Annotations[deploy.AnnotationHosts], func(r rune) bool { return r == ',' || r == ' ' })
			if slices.ContainsFunc(patterns, func(pattern string) bool { return plan.MatchesHost(pattern, host) }) {
				owners = append(owners, p.Name)
			}
		}
		switch {
		case len(owners) == 0:
		case !slices.Contains(owners, projectOf(w.row.Spec)):
			return invalid{fmt.Errorf("the host %q is given to the project %s (annotation %s): choose another, or move the Application there", host, owners[0], deploy.AnnotationHosts)}
		case w.row.MR == 0:
			w.leaves.hosts = append(w.leaves.hosts, host)
		}
	}
	return nil
}

// ingressHosts are the host names of all Ingresses, in lower case.
func ingressHosts(objects []*unstructured.Unstructured) []string {
	var hosts []string
	for _, o := range objects {
		if o.GetKind() != "Ingress" {
			continue
		}
		for _, host := range deploy.HostsOf(o) {
			if host != "" && !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}
