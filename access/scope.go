package access

import (
	"slices"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// Scope is what a token is worth of its owner's rights.
type Scope string

// The scopes.
const (
	// ScopeAll is all of them.
	ScopeAll Scope = "all"
	// ScopeRead is to see what the owner sees, and to change nothing.
	ScopeRead Scope = "read"
	// ScopeGit is the Git remote, ScopeImages the registry, and nothing else.
	ScopeGit    Scope = "git"
	ScopeImages Scope = "images"
	// ScopeMetrics is to read the metrics.
	ScopeMetrics Scope = "metrics"
)

func scopes() []Scope { return []Scope{ScopeAll, ScopeRead, ScopeGit, ScopeImages, ScopeMetrics} }

// CheckScopes says what is wrong with the scopes of a token: there must be one.
func CheckScopes(all []Scope) error {
	var known []string
	for _, s := range scopes() {
		known = append(known, string(s))
	}
	if len(all) == 0 || len(all) > len(known) {
		return failure.Invalidf("say what the token is for: %s", strings.Join(known, ", "))
	}
	for _, s := range all {
		if !slices.Contains(scopes(), s) {
			return failure.Invalidf("scope %q: use %s", string(s), strings.Join(known, ", "))
		}
	}
	return nil
}

// Door is a part of the port that credentials can be limited to.
type Door int

// The doors. The zero value is the one that opens to the fewest credentials.
const (
	DoorAPI Door = iota
	DoorGit
	DoorImages
	DoorMetrics
)

// At is an identity at a door: what its credential is worth there. One that is worth nothing there is refused. The token of a step is held to its
// claims and has no scopes.
func (i Identity) At(d Door) (Identity, error) {
	if len(i.Only) == 0 || slices.Contains(i.Only, ScopeAll) {
		return i, nil
	}
	own := map[Door]Scope{DoorGit: ScopeGit, DoorImages: ScopeImages, DoorMetrics: ScopeMetrics}[d]
	if own != "" && slices.Contains(i.Only, own) {
		return i, nil
	}
	if slices.Contains(i.Only, ScopeRead) {
		i.ReadOnly = true
		return i, nil
	}
	var has []string
	for _, s := range i.Only {
		has = append(has, string(s))
	}
	return Identity{}, failure.WithHint(failure.Refusedf("a token of %s for %s is not worth this", i.Actor, strings.Join(has, " and ")), "use a token of another scope, see tiphys token create --help")
}
