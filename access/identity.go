// Package access decides who may do what: identities and their roles, rules, and what a step may do by its claims. It
// answers; whoever has the thing asks, before it is done or shown.
package access

import (
	"context"

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
	// Verified says that the identity was proved. Claimed says that a caller who proves nothing gave the name; otherwise
	// it is that of whoever runs the server.
	Verified, Claimed bool
	// Role is a person's; a step's follows from its claims.
	Role Role
	// Step is the token of a step; nil for people.
	Step *steptoken.Claims
}

// String is the actor as the ledger keeps and the screens show it: one who proved nothing is marked.
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
