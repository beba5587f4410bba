package definitions

import (
	"context"
	"sync"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/manifest"
)

// granted are the declared grants as the entry at left them.
type granted struct {
	mu     sync.Mutex
	known  bool
	at     int64
	grants []podpolicy.Grant
}

var _ podpolicy.Declared = (*Store)(nil)

// SecretGrants implements [podpolicy.Declared]. One that cannot be read gives nothing, and shows why as its condition: what an earlier
// version gave may be what somebody wanted to take away.
func (s *Store) SecretGrants(ctx context.Context) ([]podpolicy.Grant, error) {
	s.granted.mu.Lock()
	defer s.granted.mu.Unlock()
	if s.granted.known {
		news, next, err := s.Changes(ctx, s.granted.at, manifest.KindName[manifest.SecretGrant]())
		if err != nil {
			return nil, err
		}
		if len(news) == 0 {
			s.granted.at = next
			return s.granted.grants, nil
		}
	}
	head, err := s.ledger.Head(ctx) // before the list is read: what changes meanwhile is read again
	if err != nil {
		return nil, err
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
	s.granted.known, s.granted.at, s.granted.grants = true, head.Seq, grants
	return grants, nil
}
