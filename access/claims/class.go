package claims

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Class says by whose claims something that runs share is written and read: memoized results, artifacts under a key of one's own, names in
// the registry, volumes. The one rule of all of them is [Class.Reads]: a protected ref reads what protected refs wrote and nothing else; everybody
// else reads what their own class wrote first, and then what protected refs wrote; and who acts for nobody shares nothing.
type Class struct {
	// scope is what the class writes: "" for runs of no repository, "protected", or "branch-", "mr-" or "run-" and a digest.
	scope string
	// alone says that nobody else reads it, and that it reads nobody else's.
	alone bool
}

// protectedScope is what protected refs write.
const protectedScope = "protected"

// scopeOf names a scope, without letters that a key could not have and such that nobody can choose another's name.
func scopeOf(kind string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return kind + "-" + hex.EncodeToString(sum[:16])
}

// Class gives the class of a run; uid is the run's.
func (a ActsFor) Class(uid string) Class {
	switch {
	case a.Nobody, a.MR < 0, a.Repo == "" && a.MR != 0:
		return Class{scopeOf("run", uid), true}
	case a.MR != 0:
		return Class{scope: scopeOf("mr", a.Forge, a.Repo, strconv.Itoa(a.MR))}
	case a.Protected:
		return Class{scope: protectedScope}
	case a.Repo != "":
		return Class{scope: scopeOf("branch", a.Forge, a.Repo)}
	}
	return Class{}
}

// Writes is the scope that the class writes: one part of a key. It is empty for runs of no repository.
func (c Class) Writes() string { return c.scope }

// Reads are the scopes that the class reads, in the order in which it looks.
func (c Class) Reads() []string {
	if c.alone || c.scope == protectedScope {
		return []string{c.scope}
	}
	return []string{c.scope, protectedScope}
}

// Shares tells whether the class may write what it shares with others that are not of it: a volume, or a name that all use. Only protected refs
// may, and runs of no repository, which have what is in their own namespace.
func (c Class) Shares() bool { return c.scope == protectedScope || c.scope == "" }
