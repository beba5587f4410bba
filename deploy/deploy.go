// Package deploy brings what Git says should run to where it runs: it renders (deploy/render), plans
// (deploy/plan), applies through a [Target] and judges health (deploy/health). Previews and releases are built
// on the same Applications.
package deploy

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/failure"
)

// Errors of targets, wrapped with what was being done.
var (
	// ErrNotFound says that a target has no such object.
	ErrNotFound = failure.New(failure.NotFound, "object not found")
	// ErrLeaving says that an object is being deleted: it can be applied again when it is gone.
	ErrLeaving = failure.New(failure.Waiting, "it is being deleted; try again when it is gone")
)

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

// Problem is something that a target cannot do, said at plan time.
type Problem struct {
	Key     Key    `json:"key"`
	Path    string `json:"path"`
	Message string `json:"message"`
	// Fatal keeps the object from being applied; otherwise the field has no effect.
	Fatal bool `json:"fatal"`
}

// maxRefusals is how many fatal problems a [Refusal] names.
const maxRefusals = 20

// Refusal puts the fatal ones of an object's problems into a sentence, each with its field; empty if there are none.
func Refusal(problems []Problem) string {
	var said []string
	for _, p := range problems {
		if p.Fatal {
			said = append(said, p.Text())
		}
	}
	if more := len(said) - maxRefusals; more > 0 {
		said = append(said[:maxRefusals], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(said, "; ")
}

// Text is the message with the field in front of it.
func (p Problem) Text() string {
	if p.Path == "" || strings.HasPrefix(p.Message, p.Path) {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// Health of an object or an application, in Argo CD's words.
type Health struct {
	Status  string `json:"status"` // Healthy, Suspended, Progressing, Missing, Degraded, Unknown
	Message string `json:"message,omitempty"`
}

// Release is an immutable, named set of image digests and a configuration commit. It is the body of a row of the
// "release" table. Forge, repository and name say which line of releases it is of.
type Release struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Number counts the releases of one name of one repository, from 1. In older entries it counts those of a name, whatever the repository.
	Number int64 `json:"number"`
	// Forge is the instance that Repo is of; empty is the built-in remote.
	Forge string `json:"forge,omitempty"`
	// Repo, Commit and Branch are what it was made from; Commit is also the configuration commit.
	Repo   string `json:"repo"`
	Commit string `json:"commit"`
	Branch string `json:"branch"`
	// MR is the merge request that it was made for; 0 for a branch.
	MR int `json:"mr,omitempty"`
	// Merged is the merge request whose merge made the commit; 0 if it was made otherwise.
	Merged int `json:"merged,omitempty"`
	// Unprotected says that a run recorded it which did not act for a protected ref. Only Applications take it that name its branch.
	Unprotected bool `json:"unprotected,omitempty"`
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
