// Package deploy brings what Git says should run to where it runs: it renders (deploy/render), plans
// (deploy/plan), applies through a [Target] and judges health (deploy/health). Previews and releases are built
// on the same Applications.
package deploy

import (
	"context"
	"errors"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ErrNotFound says that a target has no such object.
var ErrNotFound = errors.New("object not found")

// Key names an object on a target.
type Key struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String gives group/kind:namespace/name, the form of Argo's tracking id.
func (k Key) String() string { return k.Group + "/" + k.Kind + ":" + k.Namespace + "/" + k.Name }

// KeyOf gives an object's key.
func KeyOf(o *unstructured.Unstructured) Key {
	gvk := o.GroupVersionKind()
	return Key{Group: gvk.Group, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// ApplyOptions say how an object is applied and on whose behalf.
type ApplyOptions struct {
	// Application owns the object: namespace/name. Another owner's object is refused unless Force.
	Application string
	// Cause is the ledger sequence of the sync that asks.
	Cause int64
	// Replace recreates instead of changing in place.
	Replace bool
	Force   bool
	// DryRun changes nothing and returns what would be.
	DryRun bool
}

// Target is where Applications run: this machine (deploy/target/local) or a Kubernetes cluster. Objects are in
// Kubernetes' shape, with a status in Kubernetes' shape, on every target, so that planning and health are one piece
// of code. Methods are safe for concurrent use. Every implementation runs the suite in deploy/target/targettest.
type Target interface {
	// Check says what of an object cannot be had here, before anything is applied. It touches nothing.
	Check(o *unstructured.Unstructured) []Problem
	// Apply creates or changes an object and returns it as it now is. It returns when the wish is on record;
	// status follows.
	Apply(ctx context.Context, o *unstructured.Unstructured, opt ApplyOptions) (*unstructured.Unstructured, error)
	// Delete asks for an object to go. It is gone when Get says ErrNotFound. Deleting what is not there is no error.
	Delete(ctx context.Context, k Key, opt ApplyOptions) error
	// Get gives the live object with its status; ErrNotFound if there is none.
	Get(ctx context.Context, k Key) (*unstructured.Unstructured, error)
	// List gives every live object of an application, children (ReplicaSets, Pods) included, owners before what
	// they own. An empty application lists everything.
	List(ctx context.Context, application string) ([]*unstructured.Unstructured, error)
	// Changes delivers keys of objects whose state changed; the same channel at each call. It is a hint.
	Changes() <-chan Change
	// Logs reads a pod's container log; Previous asks for the instance before the last restart.
	Logs(ctx context.Context, pod Key, container string, o LogOptions) (io.ReadCloser, error)
	Close() error
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

// Problem is something that a target cannot do, said at plan time.
type Problem struct {
	Key     Key    `json:"key"`
	Path    string `json:"path"`
	Message string `json:"message"`
	// Fatal keeps the object from being applied; otherwise the field has no effect.
	Fatal bool `json:"fatal"`
}

// Health of an object or an application, in Argo CD's words.
type Health struct {
	Status  string `json:"status"` // Healthy, Suspended, Progressing, Missing, Degraded, Unknown
	Message string `json:"message,omitempty"`
}

// Release is an immutable, named set of image digests and a configuration commit. It is the body of a row of the
// "release" table (key namespace/name/number).
type Release struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Number counts the releases of one name, from 1.
	Number int64 `json:"number"`
	// Repo, Commit and Branch are what it was made from; Commit is also the configuration commit.
	Repo   string `json:"repo"`
	Commit string `json:"commit"`
	Branch string `json:"branch"`
	// MR is the merge request that it was made for; 0 for a branch.
	MR int `json:"mr,omitempty"`
	// Merged is the merge request whose merge made the commit; 0 if it was made otherwise.
	Merged int `json:"merged,omitempty"`
	// Images maps a service to its image by digest: "harbour/api@sha256:…".
	Images map[string]string `json:"images"`
	// Sources maps a service to the commit it was built from, where that is not Commit (taken over from an earlier release).
	Sources map[string]string `json:"sources,omitempty"`
	Run     string            `json:"run"`
	Actor   string            `json:"actor"`
	Time    time.Time         `json:"time"`
	// Seq is the ledger entry that recorded it.
	Seq int64 `json:"seq"`
}
