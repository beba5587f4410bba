package deploy

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/failure"
)

// ApplyOptions say how an object is applied or deleted and on whose behalf.
type ApplyOptions struct {
	// Application owns the object: namespace/name. An object of another one is refused with an [OwnedError], but for TakeFrom.
	// An object that nobody owns becomes its own. Empty is nobody: then Delete asks for no owner.
	Application string
	// For is for whom the object's pods are. A target keeps it with the object and gives it to the executor with each pod.
	For podpolicy.Subject
	// TakeFrom is the Application whose object may be taken over, or deleted. It is named, so that an owner who came in between
	// is refused.
	TakeFrom string
	// Hosts are host names that the Application's project gives it, in lower case: of an Ingress's others whoever had one first keeps it,
	// and a second claim is refused with a [HostError].
	Hosts []string
	// Ignore are kinds that the Application has kept without effect where the target has them not. It says nothing of kinds that the target has.
	Ignore Ignored
	// Cause is the ledger sequence of the sync that asks.
	Cause int64
	// Replace replaces the whole object, where a target would otherwise merge with what others have set. With Force, what can never be changed in
	// place (a Pod, a Job) is recreated at each apply, changed or not.
	Replace bool
	// Force recreates what cannot be changed in place; else that is an error. The object is deleted, and the answer is [ErrLeaving] until it is gone
	// and can be applied again. It takes nothing from another Application.
	Force bool
	// DryRun changes nothing and returns what would be.
	DryRun bool
}

// Target is one cluster where Applications run: this machine (deploy/target/local) or a Kubernetes cluster. Objects are in
// Kubernetes' shape, with a status in Kubernetes' shape, on every target, so that planning and health are one piece
// of code. Methods are safe for concurrent use and end with their context. Every implementation runs the suite in
// deploy/target/targettest.
type Target interface {
	// Capabilities says what the target can do now.
	Capabilities(ctx context.Context) (Capabilities, error)
	// Check says what of these objects cannot be had here on the behalf that the options name, before anything is applied. It changes
	// nothing.
	Check(ctx context.Context, objects []*unstructured.Unstructured, opt ApplyOptions) ([]Problem, error)
	// Apply creates or changes an object and returns it as it now is. It returns when the wish is on record;
	// status follows. A wish that is there already changes nothing. An object that is being deleted is refused with [ErrLeaving].
	Apply(ctx context.Context, o *unstructured.Unstructured, opt ApplyOptions) (*unstructured.Unstructured, error)
	// Delete asks for an object to go. It is gone when Get says ErrNotFound. Deleting what is not there is no error. A Namespace
	// in which another Application has objects, or nobody owns one, is refused with a [SharedError].
	Delete(ctx context.Context, k Key, opt ApplyOptions) error
	// Release makes an object nobody's, with what it owns. It stays as it is, and what runs goes on. One of another Application than the
	// options name is refused with an [OwnedError]; what is not there, and what nobody owns, is no error.
	Release(ctx context.Context, k Key, opt ApplyOptions) error
	// Get gives the live object with its status; ErrNotFound if there is none.
	Get(ctx context.Context, k Key) (*unstructured.Unstructured, error)
	// List gives every live object of an application, children (ReplicaSets, Pods) included, owners before what
	// they own. An empty application lists everything. The resourceVersion of an object changes whenever anything of it does.
	List(ctx context.Context, application string) ([]*unstructured.Unstructured, error)
	// Changes delivers keys of objects whose state changed; the same channel at each call. It is a hint.
	Changes() <-chan Change
	Close() error
}

// Pods answers questions about the pods of a target.
type Pods interface {
	// Logs reads a pod's container log; Previous asks for the instance before the last restart. An empty container is the first.
	// A pod, a container or an instance that is not there is ErrNotFound. Whoever reads closes it.
	Logs(ctx context.Context, pod Key, container string, o LogOptions) (io.ReadCloser, error)
}

// Capabilities are what a target can do.
type Capabilities struct {
	// Version stands for everything that decides how a wish is completed and what is refused, beside the wish and the live object:
	// what a dry run said under one version says nothing about another.
	Version string
	// Kinds are those that can be applied.
	Kinds []Kind
}

// Kind is a kind of objects on a target.
type Kind struct {
	Group, Kind string
	Namespaced  bool
}

// Kind gives what a target says of a kind; false if it cannot be applied there.
func (c Capabilities) Kind(group, kind string) (Kind, bool) {
	for _, k := range c.Kinds {
		if k.Group == group && k.Kind == kind {
			return k, true
		}
	}
	return Kind{}, false
}

// Change says that an object of an application changed.
type Change struct {
	Application string
	Key         Key
	Time        time.Time
}

// LogOptions select from a log.
type LogOptions struct {
	Follow   bool
	Previous bool
	// Tail is the number of last lines; 0 means all.
	Tail int
}

// OwnedError says that an object belongs to another Application.
type OwnedError struct {
	Key Key
	// Owner is the Application that has it: namespace/name.
	Owner string
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("%s %s belongs to the application %q: remove it from one of the two, or let this one take it over with the sync option Force=true",
		e.Key.Kind, e.Key.Name, e.Owner)
}

// FailureKind implements failure.Classified.
func (e *OwnedError) FailureKind() failure.Kind { return failure.Conflict }

// HostError says that a host name of an Ingress belongs to another Application.
type HostError struct {
	Host string
	// Owner is the Application that has it: namespace/name.
	Owner string
}

func (e *HostError) Error() string {
	return fmt.Sprintf("the host %q belongs to the application %q, which had it first: choose another, or give it to this one by its AppProject (annotation %s)",
		e.Host, e.Owner, AnnotationHosts)
}

// FailureKind implements failure.Classified.
func (e *HostError) FailureKind() failure.Kind { return failure.Conflict }

// OwnHostError says that a host name of an Ingress is that of the server's own pages, or below it: a page there would be of the same site.
type OwnHostError struct {
	Host, Own string
}

func (e *OwnHostError) Error() string {
	return fmt.Sprintf("the host %q is that of the server's own pages, or below it (%s): a page there could act in the name of whoever is logged in; choose a domain of the applications' own", e.Host, e.Own)
}

// FailureKind implements failure.Classified.
func (e *OwnHostError) FailureKind() failure.Kind { return failure.Refused }

// EveryHostError says that an Ingress of a merge request would have every host that nobody names.
type EveryHostError struct{}

func (e *EveryHostError) Error() string {
	return "a merge request may not have every host: name a host in each rule of the Ingress, and no defaultBackend without rules"
}

// FailureKind implements failure.Classified.
func (e *EveryHostError) FailureKind() failure.Kind { return failure.Refused }

// AnnotationKept is on an object that stays when what made it and its Application go: a claim that a StatefulSet made for one of its pods. A
// target writes it, with the reason, and takes it from nobody.
const AnnotationKept = "target.tiphys.dev/kept"

// Kept says that an object stays when its Application goes; see [AnnotationKept].
func Kept(o *unstructured.Unstructured) bool { return o.GetAnnotations()[AnnotationKept] != "" }

// AnnotationHosts is on an AppProject and gives host names to its Applications: patterns, separated by commas.
const AnnotationHosts = "tiphys.dev/hosts"

// HostsOf are the host names of an Ingress, in lower case and each once; empty stands for every one that no other Ingress names. A default
// backend without rules is for all of those.
func HostsOf(ingress *unstructured.Unstructured) []string {
	var hosts []string
	rules, _, _ := unstructured.NestedSlice(ingress.Object, "spec", "rules")
	for _, rule := range rules {
		r, _ := rule.(map[string]any)
		host, _ := r["host"].(string)
		if host = strings.ToLower(host); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if _, there, _ := unstructured.NestedMap(ingress.Object, "spec", "defaultBackend"); there && len(rules) == 0 {
		hosts = append(hosts, "")
	}
	return hosts
}

// PreviewError says that a namespace is a preview's, which shares it with nobody.
type PreviewError struct {
	Namespace string
	// Other is the Application that has objects there.
	Other string
}

func (e *PreviewError) Error() string {
	return fmt.Sprintf("objects of the application %q are in namespace %s, and a preview shares its namespace with nobody: choose another destination.namespace", e.Other, e.Namespace)
}

// FailureKind implements failure.Classified.
func (e *PreviewError) FailureKind() failure.Kind { return failure.Conflict }

// SharedError says that a Namespace cannot be deleted because others have objects in it.
type SharedError struct {
	Namespace string
	// Applications are the others: namespace/name, sorted; empty stands for objects that nobody owns.
	Applications []string
}

func (e *SharedError) Error() string {
	if slices.Contains(e.Applications, "") {
		return fmt.Sprintf("namespace %s stays: objects that belong to no application are in it", e.Namespace)
	}
	return fmt.Sprintf("namespace %s stays: objects of %v are in it", e.Namespace, e.Applications)
}

// FailureKind implements failure.Classified.
func (e *SharedError) FailureKind() failure.Kind { return failure.Conflict }
