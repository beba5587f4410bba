package artifact

import (
	"context"
	"path"
)

// Guard says who may read or write the keys of the default store.
type Guard interface {
	// May asks about a key before it is read or written; ctx has the [Caller]. A no is an error of kind failure.Refused.
	May(ctx context.Context, key string, write bool) error
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
	infos, err := f.Store.List(ctx, folder+"/")
	if err != nil {
		return nil, err
	}
	keys, asked := make([]string, len(infos)), map[string]bool{}
	for i, info := range infos {
		keys[i] = info.Key
		if dir := path.Dir(info.Key); f.Guard != nil && !asked[dir] {
			asked[dir] = true
			if err := f.Guard.May(ctx, info.Key, false); err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
}
