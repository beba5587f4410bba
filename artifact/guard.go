package artifact

import (
	"context"
	"path"
	"slices"
	"strings"
)

// Guard says who may read or write the keys of the default store, and where the store has them: whoever writes a key that runs share writes it
// under claims, and others find what their own let them read.
type Guard interface {
	// Places gives the keys under which the store may have a key, in the order in which they are looked for; of a key to be written it
	// is one. Each of them may be asked about again and is then its only place. ctx has the [Caller]. A no is an error of kind failure.Refused.
	Places(ctx context.Context, key string, write bool) ([]string, error)
}

// Places asks a guard, which may be nil: then a key is where it says.
func Places(ctx context.Context, g Guard, key string, write bool) ([]string, error) {
	if g == nil {
		return []string{key}, nil
	}
	return g.Places(ctx, key, write)
}

// Folders lists folders of a store. A caller who may not read every object in the folder gets an error and nothing of it: a list
// that leaves something out would be taken for the whole.
type Folders struct {
	Store Store
	// Guard is asked; nil lets everybody read everything.
	Guard Guard
}

// Keys gives the keys below a folder, on behalf of a caller.
func (f Folders) Keys(ctx context.Context, caller Caller, folder string) ([]string, error) {
	ctx = WithCaller(ctx, caller)
	places, err := Places(ctx, f.Guard, folder, false)
	if err != nil {
		return nil, err
	}
	var keys []string
	asked := map[string]bool{}
	for _, place := range places {
		infos, err := f.Store.List(ctx, place+"/")
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			if dir := path.Dir(info.Key); !asked[dir] {
				asked[dir] = true
				if _, err := Places(ctx, f.Guard, info.Key, false); err != nil {
					return nil, err
				}
			}
			keys = append(keys, folder+strings.TrimPrefix(info.Key, place))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}
