package access

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// Binding gives a role: everywhere, in the namespaces of a pattern, or for the repositories of one. In a pattern "*" stands for any text.
type Binding struct {
	Role Role `json:"role"`
	// Namespace and Repository are patterns, of which one may be set; where both are empty the role counts everywhere.
	Namespace  string `json:"namespace,omitempty"`
	Repository string `json:"repository,omitempty"`
}

// ofRepository begins the place of a role that is for repositories.
const ofRepository = "repository:"

// ParseBinding reads a role and where it counts: "developer", "developer@shop" for a namespace, "developer@repository:team/*".
func ParseBinding(text string) (Binding, error) {
	role, place, placed := strings.Cut(text, "@")
	b := Binding{Role: Role(role)}
	if repo, ok := strings.CutPrefix(place, ofRepository); ok {
		b.Repository = repo
	} else {
		b.Namespace = place
	}
	if placed && b.Namespace+b.Repository == "" {
		return b, failure.Invalidf("role %q: say where it counts: ROLE@NAMESPACE, ROLE@repository:NAME, or ROLE alone", text)
	}
	return b, b.check()
}

// ParseBindings reads several; nil if there are none.
func ParseBindings(texts []string) ([]Binding, error) {
	var all []Binding
	for _, text := range texts {
		b, err := ParseBinding(text)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// String writes a binding as ParseBinding reads it.
func (b Binding) String() string {
	switch {
	case b.Repository != "":
		return string(b.Role) + "@" + ofRepository + b.Repository
	case b.Namespace != "":
		return string(b.Role) + "@" + b.Namespace
	}
	return string(b.Role)
}

// Everywhere says whether the role counts everywhere.
func (b Binding) Everywhere() bool { return b.Namespace == "" && b.Repository == "" }

// maxPlace bounds a pattern, in bytes.
const maxPlace = 200

func (b Binding) check() error {
	if !slices.Contains([]Role{Viewer, Developer, Admin}, b.Role) {
		return failure.Invalidf("role %q: use %s, %s or %s", string(b.Role), Viewer, Developer, Admin)
	}
	place := b.Namespace + b.Repository
	if b.Namespace != "" && b.Repository != "" || len(place) > maxPlace || strings.ContainsAny(place, "@! \t\r\n") || strings.Contains(b.Namespace, "/") {
		return failure.Invalidf("role %s: %q is neither a namespace nor a repository", b.Role, place)
	}
	return nil
}

// maxBindings is how many roles one person may have.
const maxBindings = 50

// CheckBindings says what is wrong with somebody's roles: there must be one, and at most one that counts everywhere.
func CheckBindings(all []Binding) error {
	everywhere := 0
	for _, b := range all {
		if err := b.check(); err != nil {
			return err
		}
		if b.Everywhere() {
			everywhere++
		}
	}
	switch {
	case len(all) == 0:
		return failure.Invalidf("say which role: %s, %s or %s", Viewer, Developer, Admin)
	case everywhere > 1:
		return failure.New(failure.Invalid, "one role at most can count everywhere")
	case len(all) > maxBindings:
		return failure.Invalidf("there are %d roles and one may have %d", len(all), maxBindings)
	}
	return nil
}

// Split tells the role that counts everywhere, if there is one, from the rest.
func Split(all []Binding) (everywhere Role, rest []Binding) {
	for _, b := range all {
		if b.Everywhere() {
			everywhere = b.Role
		} else {
			rest = append(rest, b)
		}
	}
	return everywhere, rest
}

// covers says whether an object is where the role counts.
func (b Binding) covers(kind, namespace, name string) bool {
	if b.Repository == "" {
		return b.Namespace != "" && namespace != "" && namespace != unknown && glob(b.Namespace, namespace)
	}
	if namespace != "" {
		return false
	}
	switch kind {
	case Repository:
	case MergeRequest:
		name = before(name, "!")
	case Image:
		// The images of a repository have its name, or begin with it.
		name = before(name, "@")
		if glob(b.Repository+"/*", name) {
			return true
		}
	default:
		return false
	}
	return name != "" && name != unknown && glob(b.Repository, name)
}

// RoleIn is the strongest role that somebody has in a namespace; empty for none.
func (i Identity) RoleIn(namespace string) Role {
	strength := func(r Role) int { return slices.Index([]Role{Viewer, Developer, Admin}, r) }
	roles := []Role{i.Role}
	for _, b := range i.Bindings {
		if b.Namespace != "" && b.covers("", namespace, "") {
			roles = append(roles, b.Role)
		}
	}
	return slices.MaxFunc(roles, func(a, b Role) int { return cmp.Compare(strength(a), strength(b)) })
}
