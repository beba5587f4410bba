package wire

import (
	"context"
	"path"

	"github.com/tiphys/tiphys/artifact"
)

// lister lists folders of the store for data templates. Whose rights do not reach to all that is in the folder gets
// nothing of it: a list that leaves something out would be taken for the whole.
func lister(store artifact.Store, authorize func(ctx context.Context, key string, write bool) error) func(context.Context, artifact.Caller, string) ([]string, error) {
	return func(ctx context.Context, caller artifact.Caller, folder string) ([]string, error) {
		ctx = artifact.WithCaller(ctx, caller)
		infos, err := store.List(ctx, folder+"/")
		if err != nil {
			return nil, err
		}
		keys, asked := make([]string, len(infos)), map[string]bool{}
		for i, info := range infos {
			keys[i] = info.Key
			if dir := path.Dir(info.Key); authorize != nil && !asked[dir] {
				asked[dir] = true
				if err := authorize(ctx, info.Key, false); err != nil {
					return nil, err
				}
			}
		}
		return keys, nil
	}
}
