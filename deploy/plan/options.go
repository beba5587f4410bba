package plan

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/manifest"
)

// Options of one sync.
type Options struct {
	Prune bool
	// Automated syncs do not prune an application to nothing unless AllowEmpty.
	Automated  bool
	AllowEmpty bool
	DryRun     bool
	// Confirmed approves prunes that wait for approval.
	Confirmed       bool
	CreateNamespace bool
	// OutOfSyncOnly applies only objects that differ.
	OutOfSyncOnly bool
	PruneLast     bool
	Replace       bool
	Force         bool
	NoPrune       bool
	ConfirmPrune  bool
	// Preview says that a merge request made the Application.
	Preview bool
	// Manifest says which options an object's own annotation may set.
	Manifest Manifest
	// FailOnShared refuses objects of another application.
	FailOnShared bool
	// Resources restricts the sync to these objects; hooks do not run then.
	Resources []manifest.SyncResource
	// Deadline ends an operation, HookDeadline a hook. 0 means 15 and 10 minutes.
	Deadline     time.Duration
	HookDeadline time.Duration
}

// Manifest says which options the manifests of an Application may set for themselves, in the annotation of sync options. Whoever writes a manifest
// has no say over the others, unless the Application or its project gives it. What asks not to be pruned without such leave is pruned only
// when somebody has confirmed it, and in a preview at once.
type Manifest struct {
	Force, Replace, Prune bool
}

// ManifestOptions reads a list of such options, separated by commas: "Force, Replace, Prune".
func ManifestOptions(list string) Manifest {
	var m Manifest
	for _, name := range words(list) {
		switch name {
		case "Force":
			m.Force = true
		case "Replace":
			m.Replace = true
		case "Prune":
			m.Prune = true
		}
	}
	return m
}

// Or gives what one of two gives.
func (m Manifest) Or(other Manifest) Manifest {
	return Manifest{Force: m.Force || other.Force, Replace: m.Replace || other.Replace, Prune: m.Prune || other.Prune}
}

// The deadlines where Options name none.
const (
	DefaultDeadline     = 15 * time.Minute
	DefaultHookDeadline = 10 * time.Minute
)

// WithSyncOptions adds Argo CD's "Name=value" options.
func (o Options) WithSyncOptions(list []string) Options {
	for _, option := range list {
		name, value, _ := strings.Cut(strings.TrimSpace(option), "=")
		on := value == "true"
		switch name {
		case "CreateNamespace":
			o.CreateNamespace = on
		case "ApplyOutOfSyncOnly":
			o.OutOfSyncOnly = on
		case "PruneLast":
			o.PruneLast = on
		case "Replace":
			o.Replace = on
		case "Force":
			o.Force = on
		case "FailOnSharedResource":
			o.FailOnShared = on
		case "Prune":
			o.NoPrune, o.ConfirmPrune = value == "false", value == "confirm"
		}
	}
	return o
}

// ObjectOptions are what holds for one object: the sync's options and its own annotation.
type ObjectOptions struct {
	NoPrune, ConfirmPrune, PruneLast, Replace, Force bool
}

// OptionsOf are those of one object.
func OptionsOf(o *unstructured.Unstructured, all Options) ObjectOptions {
	own := all.WithSyncOptions(words(o.GetAnnotations()[annotationOptions]))
	may := all.Manifest
	made := ObjectOptions{NoPrune: all.NoPrune, ConfirmPrune: all.ConfirmPrune, PruneLast: own.PruneLast,
		Replace: own.Replace && (all.Replace || may.Replace), Force: own.Force && (all.Force || may.Force)}
	switch {
	case may.Prune:
		made.NoPrune, made.ConfirmPrune = own.NoPrune, own.ConfirmPrune
	case (own.NoPrune || own.ConfirmPrune) && !all.Preview:
		// It may be all the data that there is: a person decides.
		made.ConfirmPrune = true
	}
	return made
}

// Ignored says which options of objects' own annotations have no effect, since neither the Application nor its project lets manifests set them.
func Ignored(objects []*unstructured.Unstructured, all Options) []string {
	var notes []string
	for _, o := range objects {
		own := all.WithSyncOptions(words(o.GetAnnotations()[annotationOptions]))
		used := OptionsOf(o, all)
		var names []string
		for _, one := range []struct {
			name   string
			differ bool
		}{{"Force", own.Force != used.Force}, {"Replace", own.Replace != used.Replace}, {"Prune", own.NoPrune != used.NoPrune || own.ConfirmPrune != used.ConfirmPrune}} {
			if one.differ {
				names = append(names, one.name)
			}
		}
		if len(names) > 0 {
			notes = append(notes, fmt.Sprintf("%s %s: the sync option %s of its own annotation has no effect: set it in the Application's syncOptions, or let manifests set it (%s)",
				o.GetKind(), o.GetName(), strings.Join(names, " and "), AnnotationManifestOptions))
		}
	}
	return notes
}

// AnnotationManifestOptions is on an Application, or on its AppProject, and names the sync options that manifests may set for themselves:
// Force, Replace and Prune, separated by commas. Applications of merge requests never let them.
const AnnotationManifestOptions = "tiphys.dev/manifest-options"

func (in Input) selected(o *unstructured.Unstructured) bool {
	if len(in.Options.Resources) == 0 {
		return true
	}
	for _, r := range in.Options.Resources {
		if r.Group == o.GroupVersionKind().Group && r.Kind == o.GetKind() && r.Name == o.GetName() &&
			(r.Namespace == "" || r.Namespace == o.GetNamespace()) {
			return true
		}
	}
	return false
}
