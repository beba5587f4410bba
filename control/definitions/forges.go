package definitions

import (
	"context"
	"fmt"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/manifest"
)

// maxEarlier is how many earlier versions of a forge's declaration are tried.
const maxEarlier = 20

// Forges implements [forge.Declarations]. Of a declaration that cannot be read the last version that could be goes on.
func (s *Store) Forges(ctx context.Context) ([]forge.Declaration, error) {
	all, err := All[manifest.Forge](ctx, s, "")
	if err != nil {
		return nil, fmt.Errorf("read declared forges: %w", err)
	}
	out := make([]forge.Declaration, 0, len(all))
	for _, seen := range all {
		one := forge.Declaration{Namespace: seen.Namespace, Name: seen.Name}
		if one.Spec, one.Problem = forgeSpec(seen); one.Problem == nil {
			one.Digest = seen.Digest
		} else if err := s.earlierForge(ctx, seen.Definition, &one); err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// earlierForge puts the last version that could be read into a declaration, if there is one.
func (s *Store) earlierForge(ctx context.Context, now Definition, one *forge.Declaration) error {
	earlier, err := s.Earlier(ctx, now, maxEarlier)
	if err != nil {
		return err
	}
	for _, was := range earlier {
		if spec, err := forgeSpec(Decode[manifest.Forge](was)); err == nil {
			one.Spec, one.Digest = spec, was.Digest
			return nil
		}
	}
	return nil
}

// forgeSpec reads one declaration.
func forgeSpec(seen Seen[manifest.Forge]) (manifest.ForgeSpec, error) {
	if seen.State != Present {
		return manifest.ForgeSpec{}, seen.Problem
	}
	if err := manifest.FirstError(seen.Value.Validate()); err != nil {
		return manifest.ForgeSpec{}, err
	}
	return seen.Value.Spec, nil
}
