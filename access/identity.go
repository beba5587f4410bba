// Package access decides who may do what: identities and their roles, rules, and what a step may do by its claims. It
// answers; whoever has the thing asks, before it is done or shown.
package access

import (
	"context"
	"slices"

	"github.com/tiphys/tiphys/access/steptoken"
)

// Role is a named set of rules.
type Role string

// The built-in roles.
const (
	// Admin may do everything.
	Admin Role = "admin"
	// Developer may see everything, run and declare what is deployed, and change repositories; Secrets, projects and what is of the
	// whole server are the administrator's.
	Developer Role = "developer"
	// Viewer may see everything but Secrets.
	Viewer Role = "viewer"
	// SensorTrigger is a sensor that declares what its trigger has. Whoever may declare a Sensor, or push to where one looks, is
	// behind it: so it may declare what a developer may.
	SensorTrigger Role = "sensor"
	// Step is a step of a run that acts for a branch, a tag or a person.
	Step Role = "step"
	// MergeRequestStep is a step of a run that acts for a merge request.
	MergeRequestStep Role = "merge-request step"
)

// Identity is who asks.
type Identity struct {
	// Actor is the ledger's actor: "user:admin", "step:default/run/node".
	Actor string
	// Verified says that the name is proved: the credential is that person's own. Claimed says that a holder of the admin token, which is nobody's
	// own, gave the name.
	Verified, Claimed bool
	// Person is the name of who it is among people; empty for steps and for what the server does itself.
	Person string
	// Role is what a person has everywhere, and Bindings are roles that count somewhere; a step's role follows from its claims.
	Role     Role
	Bindings []Binding
	// Only are the scopes of the token; empty for a credential without limits. ReadOnly says that what it is worth here is to look.
	Only     []Scope
	ReadOnly bool
	// Member is what roles of AppProjects give beside.
	Member Membership
	// Step is the token of a step; nil for people.
	Step *steptoken.Claims
}

// String is the actor as the ledger keeps and the screens show it: a name that is not proved is marked.
func (i Identity) String() string {
	if i.Verified || i.Actor == "" {
		return i.Actor
	}
	return i.Actor + " (unverified)"
}

// role is the role whose rules count; empty for nobody.
func (i Identity) role() Role {
	switch {
	case i.Step == nil:
		return i.Role
	case i.Step.MR != 0:
		return MergeRequestStep
	}
	return Step
}

// roles are all roles that somebody has anywhere.
func (i Identity) roles() []Role {
	all := []Role{i.role()}
	for _, b := range i.Bindings {
		all = append(all, b.Role)
	}
	return all
}

// Same says whether two identities are the same person with the same rights.
func (i Identity) Same(o Identity) bool {
	return i.Actor == o.Actor && i.Role == o.Role && i.Verified == o.Verified && i.ReadOnly == o.ReadOnly && slices.Equal(i.Bindings, o.Bindings) && slices.Equal(i.Only, o.Only) && i.Member.same(o.Member)
}

// Administrators is the name under which holders of the admin token are known among people.
const Administrators = "admin"

// Administrator is a holder of the admin token. The token proves the role and not the person, so a name is a claim.
func Administrator(name string) Identity {
	id := Identity{Person: Administrators, Actor: "user:" + Administrators, Verified: true, Role: Admin}
	if name != "" && name != Administrators {
		id.Actor, id.Verified, id.Claimed = "user:"+name, false, true
	}
	return id
}

type identityKey struct{}

// With gives a context in which an identity acts.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// From gives the identity that acts in a context; the zero value, which may do nothing, if there is none.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}
