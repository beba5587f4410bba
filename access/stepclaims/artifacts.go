package stepclaims

import (
	"context"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/workflow"
)

// ArtifactPrefix begins the keys of artifacts that steps put by name; the run's uid follows.
const ArtifactPrefix = "steps/"

// scopePrefix begins the keys of what was written under claims; the scope of the writer's class follows, and then the key that was asked for.
const scopePrefix = "by/"

// Artifacts lets a step at its own run's artifacts, and at keys that name no run's folder: these it writes under its claims, and reads
// as [claims.Class.Reads] has it.
type Artifacts struct{ Claims Reader }

var _ artifact.Guard = Artifacts{}

// Places implements [artifact.Guard].
func (a Artifacts) Places(ctx context.Context, key string, write bool) ([]string, error) {
	caller := artifact.CallerFrom(ctx)
	if caller.Owner == "" {
		return []string{key}, nil
	}
	// A key may be a folder's, which is then fetched whole.
	if rest, ok := strings.CutPrefix(strings.TrimSuffix(key, "/")+"/", ArtifactPrefix); ok {
		owner, _, _ := strings.Cut(rest, "/")
		if owner != caller.Owner {
			return nil, failure.Refusedf("artifact %s belongs to another run", key)
		}
		return []string{key}, nil
	}
	own, run, err := a.ownKey(ctx, caller, key, write)
	if err != nil {
		return nil, err
	}
	var acts claims.ActsFor
	if run.UID != "" {
		acts, err = a.Claims.actsFor(ctx, run)
	} else {
		acts, err = a.Claims.ofCaller(ctx, caller)
	}
	if err != nil {
		return nil, err
	}
	class := acts.Class(caller.Owner)
	if rest, ok := strings.CutPrefix(strings.TrimSuffix(key, "/")+"/", scopePrefix); ok {
		return written(class, key, rest, write)
	}
	return placesOf(class, key, own, write), nil
}

// written is for a key that says under whose claims it was written.
func written(class claims.Class, key, rest string, write bool) ([]string, error) {
	scope, _, _ := strings.Cut(rest, "/")
	if scope == "" || write && scope != class.Writes() || !slices.Contains(class.Reads(), scope) {
		return nil, failure.WithHint(failure.Refusedf("artifact %s was written by a run with other rights", key),
			"a protected ref reads what protected refs wrote, and a merge request what it or they wrote")
	}
	return []string{key}, nil
}

// placesOf says where a key is. The run's own folder needs no scope where its class may write what others read.
func placesOf(class claims.Class, key string, own, write bool) []string {
	if own && class.Shares() {
		return []string{key}
	}
	if write {
		return []string{scoped(class.Writes(), key)}
	}
	var places []string
	for _, scope := range class.Reads() {
		places = append(places, scoped(scope, key))
	}
	return places
}

func scoped(scope, key string) string {
	if scope == "" {
		return key
	}
	return scopePrefix + scope + "/" + key
}

// ownKey tells whether a key begins with the caller's run, as the default key format has it, or is it, and gives the run if it is named. One of
// another run is refused, unless it is read by a run that takes the results of that one: both act for the same.
func (a Artifacts) ownKey(ctx context.Context, caller artifact.Caller, key string, write bool) (own bool, run workflow.Run, err error) {
	first, _, _ := strings.Cut(key, "/")
	if first == caller.Owner {
		return true, run, nil
	}
	found, err := Attempts{a.Claims.Ledger}.read(ctx, "run", caller.Namespace+"/"+first, &run)
	if err != nil || !found {
		return false, workflow.Run{}, err
	}
	if run.UID != caller.Owner {
		by, found, err := a.Claims.runOf(ctx, caller)
		if err != nil {
			return false, workflow.Run{}, err
		}
		if found && !write && by.Earlier.Has(run.UID) {
			return true, by, nil
		}
		return false, workflow.Run{}, failure.Refusedf("artifact %s belongs to run %s/%s", key, run.Namespace, run.Name)
	}
	return true, run, nil
}
