package definitions

import (
	"context"
	"sync"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/manifest"
)

// granted are the declared grants as they were after so many changes.
type granted struct {
	mu      sync.Mutex
	known   bool
	changes int64
	grants  []podpolicy.Grant
}

var _ podpolicy.Declared = (*Store)(nil)

// SecretGrants implements [podpolicy.Declared]. One that cannot be read gives nothing, and shows why as its condition: what an earlier
// version gave may be what somebody wanted to take away.
func (s *Store) SecretGrants(ctx context.Context) ([]podpolicy.Grant, error) {
	s.mu.Lock()
	changes := s.changes // before the list is read: what changes meanwhile is read again
	s.mu.Unlock()
	s.granted.mu.Lock()
	defer s.granted.mu.Unlock()
	if s.granted.known && s.granted.changes >= changes {
		return s.granted.grants, nil
	}
	all, err := All[manifest.SecretGrant](ctx, s, "")
	if err != nil {
		return nil, err
	}
	var grants []podpolicy.Grant
	for _, seen := range all {
		if seen.State != Present || manifest.Failed(seen.Value.Validate()) {
			continue
		}
		if g, diags := podpolicy.SecretGrant(seen.Namespace, seen.Value.Spec); !manifest.Failed(diags) {
			grants = append(grants, g)
		}
	}
	s.granted.known, s.granted.changes, s.granted.grants = true, changes, grants
	return grants, nil
}
