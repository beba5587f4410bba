package plan

import (
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
	// FailOnShared refuses objects of another application.
	FailOnShared bool
	// Resources restricts the sync to these objects; hooks do not run then.
	Resources []manifest.SyncResource
	// Deadline ends an operation, HookDeadline a hook. 0 means 15 and 10 minutes.
	Deadline     time.Duration
	HookDeadline time.Duration
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

func objectOptions(o *unstructured.Unstructured, all Options) ObjectOptions {
	own := all.WithSyncOptions(words(o.GetAnnotations()[annotationOptions]))
	return ObjectOptions{NoPrune: own.NoPrune, ConfirmPrune: own.ConfirmPrune, PruneLast: own.PruneLast, Replace: own.Replace, Force: own.Force}
}

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
