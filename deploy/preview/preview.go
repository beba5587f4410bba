// Package preview turns ApplicationSets into Applications: one for each open merge request, or for each element of a
// list. It is pure: what the forge answered is given to it. Parameters and templates follow Argo CD 3.6.
package preview

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// ResourcesFinalizer has an Application's objects deleted with it; it is Argo CD's.
const ResourcesFinalizer = "resources-finalizer.argocd.argoproj.io"

const (
	// AnnotationHead is the commit that a preview was last made for; the base release is pinned for it.
	AnnotationHead = "tiphys.dev/head-sha"
	// AnnotationApproved on an ApplicationSet lets it delete many Applications at once.
	AnnotationApproved = "tiphys.dev/deletion-approved"
)

// The brake: a set with at least brakeFrom Applications does not delete more than half of them without approval.
const brakeFrom = 4

// Reply is what the outside answered to one generator.
type Reply struct {
	PullRequests []event.PullRequest
	// Err is why there is no answer; NotFound says that there is no such repository.
	Err      error
	NotFound bool
}

// Input is what a set is expanded from.
type Input struct {
	Set manifest.ApplicationSet
	// Replies are by index of the generator.
	Replies []Reply
	// Previous are the Applications that the set made before.
	Previous []manifest.Application
	// Base is the release that previews opened or pushed to now are completed from: "harbour#7". May be empty.
	Base string
}

// Output is what should be.
type Output struct {
	// Applications are to be created or changed; those of Previous that stay as they are among them.
	Applications []manifest.Application
	// Delete names Applications of Previous to delete.
	Delete []string
	// Held says why deletions are held back; empty if none are.
	Held string
	// Faults are the elements that make no Application, each with what it makes and why. What such an element made before stays.
	Faults []string
	// Err is a generator's error, or the template's where it makes nothing of any element: the last result is kept.
	Err error
}

// Expand gives the Applications of a set. Where a generator failed the earlier ones are kept as they are, because an
// error is not an empty answer.
func Expand(in Input) Output {
	previous := map[string]manifest.Application{}
	for _, a := range in.Previous {
		previous[a.Name] = a
	}
	x := &expansion{in: in, previous: previous, wanted: map[string]manifest.Application{}, kept: map[string]bool{}}
	err := x.applications()
	if err != nil {
		return Output{Applications: in.Previous, Err: fmt.Errorf("ApplicationSet %s: %w", in.Set.Name, err)}
	}
	wanted, out := x.wanted, Output{Faults: x.faults}
	policy := ""
	if p := in.Set.Spec.SyncPolicy; p != nil {
		policy = p.ApplicationsSync
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		a := wanted[name]
		if old, there := previous[name]; there && (policy == "create-only" || policy == "create-delete") {
			a = old
		}
		out.Applications = append(out.Applications, a)
	}
	for _, a := range in.Previous {
		if _, still := wanted[a.Name]; still {
			continue
		}
		if x.keeps(a) {
			out.Applications = append(out.Applications, a)
		} else {
			out.Delete = append(out.Delete, a.Name)
		}
	}
	switch {
	case policy == "create-only" || policy == "create-update":
		out.Delete = nil
	case len(in.Previous) >= brakeFrom && 2*len(out.Delete) > len(in.Previous) && in.Set.Annotations[AnnotationApproved] == "":
		out.Held = fmt.Sprintf("%d of %d Applications would be deleted at once; annotate the ApplicationSet with %s to allow it",
			len(out.Delete), len(in.Previous), AnnotationApproved)
		out.Delete = nil
	}
	return out
}

// requestOf finds the merge request that a parameter set is of; a selector may have dropped some.
func requestOf(requests []event.PullRequest, params map[string]any, j int) event.PullRequest {
	for _, r := range requests {
		if strconv.Itoa(r.Number) == params["number"] {
			return r
		}
	}
	if j < len(requests) {
		return requests[j]
	}
	return event.PullRequest{}
}

// pin notes on a preview which merge request it is of, which services come from it, and which release the others come
// from: the one that is the latest when the merge request is opened and at each push.
func pin(a *manifest.Application, in Input, r event.PullRequest, old manifest.Application) {
	if a.Annotations == nil {
		a.Annotations = map[string]string{}
	}
	notes := a.Annotations
	notes[promote.AnnotationMR] = strconv.Itoa(r.Number)
	notes[AnnotationHead] = r.HeadSHA
	delete(notes, promote.AnnotationFork)
	if r.Fork {
		notes[promote.AnnotationFork] = cmp.Or(r.SourceRepo, "unknown")
	}
	for _, key := range []string{promote.AnnotationServices, promote.AnnotationRelease} {
		if value := in.Set.Annotations[key]; value != "" && notes[key] == "" {
			notes[key] = value
		}
	}
	notes[promote.AnnotationSelected] = strings.Join(Services(notes[promote.AnnotationServices], r.Labels), ",")
	base := in.Base
	if old.Annotations[AnnotationHead] == r.HeadSHA && old.Annotations[promote.AnnotationBase] != "" {
		base = old.Annotations[promote.AnnotationBase]
	}
	if base != "" {
		notes[promote.AnnotationBase] = base
	}
}

// Services reads the annotation tiphys.dev/services: of "label:deploy:" the services named by the labels that begin
// with "deploy:", sorted.
func Services(annotation string, labels []string) []string {
	prefix, byLabel := strings.CutPrefix(annotation, "label:")
	if !byLabel {
		return nil
	}
	var found []string
	for _, label := range labels {
		if service, is := strings.CutPrefix(label, prefix); is && service != "" && !slices.Contains(found, service) {
			found = append(found, service)
		}
	}
	slices.Sort(found)
	return found
}

// render makes one Application from the template.
func render(set manifest.ApplicationSet, params map[string]any) (manifest.Application, error) {
	var a manifest.Application
	raw, err := json.Marshal(set.Spec.Template)
	if err != nil {
		return a, fmt.Errorf("read template: %w", err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return a, fmt.Errorf("read template: %w", err)
	}
	engine := newEngine(set.Spec.GoTemplate, set.Spec.GoTemplateOptions)
	if tree, err = engine.tree(tree, params); err != nil {
		return a, fmt.Errorf("template: %w", err)
	}
	if raw, err = json.Marshal(tree); err != nil {
		return a, fmt.Errorf("template: %w", err)
	}
	var made struct {
		Metadata manifest.ApplicationTemplateMeta `json:"metadata"`
		Spec     manifest.ApplicationSpec         `json:"spec"`
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		return a, fmt.Errorf("template: the result is no Application: %w", err)
	}
	a.TypeMeta = metav1.TypeMeta{APIVersion: manifest.APIVersion, Kind: "Application"}
	a.Name, a.Namespace = made.Metadata.Name, made.Metadata.Namespace
	if a.Namespace == "" {
		a.Namespace = set.Namespace
	}
	a.Labels, a.Annotations, a.Finalizers = made.Metadata.Labels, made.Metadata.Annotations, made.Metadata.Finalizers
	a.Spec = made.Spec
	if p := set.Spec.SyncPolicy; (p == nil || !p.PreserveResourcesOnDeletion) && !slices.Contains(a.Finalizers, ResourcesFinalizer) {
		a.Finalizers = append(a.Finalizers, ResourcesFinalizer)
	}
	if !dnsName(a.Name) {
		return a, fmt.Errorf("template: %.300q is no name for an Application: use lower-case letters, digits and -; the branch_slug parameter is one", a.Name)
	}
	if err := manifest.FirstError(a.Validate()); err != nil {
		return a, fmt.Errorf("application %s: %w", a.Name, err)
	}
	return a, nil
}

var errNoAnswer = errors.New("the forge gave no answer")
