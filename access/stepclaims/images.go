package stepclaims

import (
	"context"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/artifact"
)

// Images says which images of the built-in registry the pods of a run may be made of.
type Images struct{ Claims Reader }

// MayPull says why the caller in ctx may not have an image by a tag; see [access.Pulls]. A caller that is no run may: what an Application
// deploys is its release's.
func (i Images) MayPull(ctx context.Context, repo, version string) error {
	run, found, err := i.Claims.runOf(ctx, artifact.CallerFrom(ctx))
	if err != nil || !found {
		return err
	}
	acts, err := i.Claims.actsFor(ctx, run)
	if err != nil {
		return err
	}
	return access.Pulls(acts, repo, version)
}
