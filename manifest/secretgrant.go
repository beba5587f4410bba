package manifest

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecretGrant lets the runs of some repositories name Secrets of its own namespace (a kind of our own). Only an administrator may declare
// one.
type SecretGrant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              SecretGrantSpec `json:"spec"`
}

// SecretGrantSpec says what is given, and to whom.
type SecretGrantSpec struct {
	To SecretGrantTo `json:"to"`
	// Secrets are names of Secrets in the grant's namespace; a * at the end stands for anything.
	Secrets []string `json:"secrets"`
}

// SecretGrantTo says whose runs a grant is for.
type SecretGrantTo struct {
	// Repositories: "harbour" of the built-in remote, "gitlab.example.org/fleet/harbour" elsewhere; "fleet/*" is everything below, "*" every
	// repository. If several had a hand in a run each of them must be named.
	Repositories []string `json:"repositories"`
	// Refs are full refs of these repositories: "refs/heads/main", "refs/tags/*"; every ref if there are none.
	Refs []string `json:"refs,omitempty"`
	// MergeRequests extends the grant to merge requests of these repositories. Forks never have one.
	MergeRequests bool `json:"mergeRequests,omitempty"`
}

// Validate says what is missing; whether the names can be what was meant is not asked.
func (g *SecretGrant) Validate() []Diagnostic {
	var found []Diagnostic
	fail := func(path, hint, format string, args ...any) {
		found = append(found, Diagnostic{Severity: SeverityError, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if g.Name == "" {
		fail("metadata.name", "", "a SecretGrant needs a name")
	}
	if len(g.Spec.To.Repositories) == 0 {
		fail("spec.to", "name repositories; \"*\" stands for all", "spec.to.repositories: it names nobody")
	}
	if len(g.Spec.Secrets) == 0 {
		fail("spec", "name Secrets of its namespace", "spec.secrets: it gives nothing")
	}
	return found
}
