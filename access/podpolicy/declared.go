package podpolicy

import (
	"cmp"
	"context"
	"fmt"

	"github.com/tiphys/tiphys/manifest"
)

// Declared are grants of Secrets that administrators declare while the server runs, beside the operator's file.
type Declared interface {
	// SecretGrants are those that are declared now. The error is one of reading them at all: one that cannot be understood gives nothing.
	SecretGrants(ctx context.Context) ([]Grant, error)
}

// With returns the policy with declared grants beside its own. They count in what [Policy.Now] gives.
func (p Policy) With(d Declared) Policy {
	p.declared = d
	return p
}

// Now is the policy as it is at this moment, with what is declared. It does not change. Without [Policy.With] it is the policy itself.
func (p Policy) Now(ctx context.Context) (Policy, error) {
	if p.declared == nil {
		return p, nil
	}
	more, err := p.declared.SecretGrants(ctx)
	if err != nil {
		return Policy{}, fmt.Errorf("read the declared grants of Secrets: %w", err)
	}
	p.grants = append(p.grants[:len(p.grants):len(p.grants)], more...)
	return p, nil
}

// SecretGrant is the grant that a declaration in a namespace makes; the diagnostics say what in it cannot be what was meant, by paths
// from its root.
func SecretGrant(namespace string, spec manifest.SecretGrantSpec) (Grant, []manifest.Diagnostic) {
	g := Grant{
		To:      To{Repositories: append([]string{}, spec.To.Repositories...), Refs: spec.To.Refs, Namespaces: []string{namespace}, MergeRequests: spec.To.MergeRequests},
		Secrets: spec.Secrets,
	}
	tree, err := manifest.NewTree(map[string]any{})
	if err != nil {
		return Grant{}, []manifest.Diagnostic{{Severity: manifest.SeverityError, Message: err.Error()}}
	}
	var r reader
	r.to(tree, "spec", &g.To)
	r.names(tree, "spec", "secrets", g.Secrets)
	return g, r.diags
}

// CheckSecretGrant says what in a declared SecretGrant cannot be what was meant, with its place.
func CheckSecretGrant(o manifest.Object) []manifest.Diagnostic {
	t, found := manifest.Read[manifest.SecretGrant](o)
	if manifest.Failed(found) {
		return nil // that is said elsewhere
	}
	_, diags := SecretGrant(cmp.Or(o.Namespace, "default"), t.Value.Spec)
	return manifest.Locate(o.Tree, diags)
}
