package plan

import (
	"cmp"
	"fmt"
	"slices"
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
	// Confirmed approves prunes and deletions that wait for approval.
	Confirmed       bool
	CreateNamespace bool
	// OutOfSyncOnly applies only objects that differ.
	OutOfSyncOnly bool
	PruneLast     bool
	Replace       bool
	Force         bool
	NoPrune       bool
	ConfirmPrune  bool
	// NoDelete and ConfirmDelete are for the deletion of the Application: its objects stay, or go when somebody has confirmed it.
	NoDelete      bool
	ConfirmDelete bool
	// RespectIgnored has fields that ignoreDifferences names stay as they are live.
	RespectIgnored bool
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
// has no say over the others, unless the Application or its project gives it. Three things need no leave, since they take nothing from anybody:
// a Job or a Pod may ask to be made anew; what asks not to be pruned is pruned only when somebody has confirmed it; what asks to outlive the
// Application does. A preview protects nothing from going.
type Manifest struct {
	Force, Replace, Prune, Delete bool
}

// ManifestOptions reads a list of such options, separated by commas: "Force, Replace, Prune, Delete".
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
		case "Delete":
			m.Delete = true
		}
	}
	return m
}

// Or gives what one of two gives.
func (m Manifest) Or(other Manifest) Manifest {
	return Manifest{Force: m.Force || other.Force, Replace: m.Replace || other.Replace, Prune: m.Prune || other.Prune, Delete: m.Delete || other.Delete}
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
		case "Delete":
			o.NoDelete, o.ConfirmDelete = value == "false", value == "confirm"
		case "RespectIgnoreDifferences":
			o.RespectIgnored = on
		}
	}
	return o
}

// ObjectOptions are what holds for one object: the sync's options and its own annotation.
type ObjectOptions struct {
	NoPrune, ConfirmPrune, PruneLast, Replace, Force, NoDelete, ConfirmDelete bool
}

// annotationKept is Helm's: with "keep" the object is neither pruned nor deleted.
const annotationKept = "helm.sh/resource-policy"

// ownOptions are the options of a sync with what an object's own annotations say of it.
func ownOptions(o *unstructured.Unstructured, all Options) Options {
	own := all.WithSyncOptions(words(o.GetAnnotations()[annotationOptions]))
	if slices.Contains(words(o.GetAnnotations()[annotationKept]), "keep") {
		own.NoPrune, own.NoDelete, own.ConfirmPrune, own.ConfirmDelete = true, true, false, false
	}
	return own
}

// OptionsOf are those of one object.
func OptionsOf(o *unstructured.Unstructured, all Options) ObjectOptions {
	own, may := ownOptions(o, all), all.Manifest
	may.Force, may.Replace = may.Force || remade(o), may.Replace || remade(o)
	made := ObjectOptions{PruneLast: own.PruneLast, Replace: own.Replace && (all.Replace || may.Replace), Force: own.Force && (all.Force || may.Force),
		NoPrune: all.NoPrune, ConfirmPrune: all.ConfirmPrune, NoDelete: all.NoDelete, ConfirmDelete: all.ConfirmDelete}
	switch {
	case may.Prune:
		made.NoPrune, made.ConfirmPrune = own.NoPrune, own.ConfirmPrune
	case (own.NoPrune || own.ConfirmPrune) && !all.Preview:
		// It may be all the data that there is: a person decides.
		made.ConfirmPrune = true
	}
	switch {
	case may.Delete:
		made.NoDelete, made.ConfirmDelete = own.NoDelete, own.ConfirmDelete
	case !all.Preview:
		made.NoDelete, made.ConfirmDelete = made.NoDelete || own.NoDelete, made.ConfirmDelete || own.ConfirmDelete
	}
	return made
}

// remade says that objects of a kind are made anew without harm: nothing is kept in them, and nobody but their Application has them.
func remade(o *unstructured.Unstructured) bool {
	switch o.GroupVersionKind().GroupKind().String() {
	case "Pod", "Job.batch":
		return true
	}
	return false
}

// Ignored says what of objects' own annotations has no effect: options that neither the Application nor its project lets manifests set, and words
// that nobody knows.
func Ignored(objects []*unstructured.Unstructured, all Options) []string {
	var notes []string
	for _, o := range objects {
		own, used := ownOptions(o, all), OptionsOf(o, all)
		var names []string
		for _, one := range []struct {
			name   string
			differ bool
		}{{"Force", own.Force != used.Force}, {"Replace", own.Replace != used.Replace}, {"Prune", own.NoPrune != used.NoPrune || own.ConfirmPrune != used.ConfirmPrune},
			{"Delete", own.NoDelete != used.NoDelete || own.ConfirmDelete != used.ConfirmDelete}} {
			if one.differ {
				names = append(names, one.name)
			}
		}
		if len(names) > 0 {
			notes = append(notes, fmt.Sprintf("%s %s: the sync option %s of its own annotation has no effect: set it in the Application's syncOptions, or let manifests set it (%s)",
				o.GetKind(), o.GetName(), strings.Join(names, " and "), AnnotationManifestOptions))
		}
		notes = append(notes, unknownWords(o)...)
	}
	return notes
}

// unknownWords says which words in an object's annotations mean nothing: most are slips of the pen.
func unknownWords(o *unstructured.Unstructured) []string {
	var notes []string
	say := func(what, word string) {
		notes = append(notes, fmt.Sprintf("%s %s: %s %.60q is not known and has no effect", o.GetKind(), cmp.Or(o.GetName(), o.GetGenerateName()), what, word))
	}
	for _, option := range words(o.GetAnnotations()[annotationOptions]) {
		if problem, _ := manifest.SyncOptionProblem(option); problem != "" {
			say("the sync option", option)
		}
	}
	for _, word := range words(o.GetAnnotations()[annotationHook]) {
		if word != skip && !slices.Contains(phases, Phase(word)) {
			say("the hook", word)
		}
	}
	for _, word := range words(o.GetAnnotations()[annotationPolicy]) {
		if !slices.Contains(deletePolicies, word) {
			say("the hook's delete policy", word)
		}
	}
	return notes
}

// AnnotationManifestOptions is on an Application, or on its AppProject, and names the sync options that manifests may set for themselves:
// Force, Replace, Prune and Delete, separated by commas. Applications of merge requests never let them.
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
