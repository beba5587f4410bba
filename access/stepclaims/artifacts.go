package stepclaims

import (
	"context"
	"strings"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// ArtifactPrefix begins the keys of artifacts that steps put by name; the run's uid follows.
const ArtifactPrefix = "steps/"

// Artifacts lets a step at its own run's artifacts, and at keys that name no run's folder.
type Artifacts struct{ Ledger ledger.Reader }

var _ artifact.Guard = Artifacts{}

// May implements [artifact.Guard].
func (a Artifacts) May(ctx context.Context, key string, _ bool) error {
	caller := artifact.CallerFrom(ctx)
	if caller.Owner == "" {
		return nil
	}
	// A key may be a folder's, which is then fetched whole.
	rest, ok := strings.CutPrefix(strings.TrimSuffix(key, "/")+"/", ArtifactPrefix)
	if !ok {
		return a.ownerOfKey(ctx, caller, key)
	}
	owner, _, _ := strings.Cut(rest, "/")
	if owner != caller.Owner {
		return failure.Refusedf("artifact %s belongs to another run", key)
	}
	return nil
}

// ownerOfKey refuses a key that begins with another run's name, as the default key format has it, or is it.
func (a Artifacts) ownerOfKey(ctx context.Context, caller artifact.Caller, key string) error {
	first, _, _ := strings.Cut(key, "/")
	var run workflow.Run
	found, err := Attempts(a).read(ctx, "run", caller.Namespace+"/"+first, &run)
	if err != nil || !found {
		return err
	}
	if run.UID != caller.Owner {
		return failure.Refusedf("artifact %s belongs to run %s/%s", key, run.Namespace, run.Name)
	}
	return nil
}
