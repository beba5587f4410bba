package access

import (
	"sync"

	"github.com/tiphys/tiphys/ledger"
)

// Sight is what somebody may see of the ledger's rows and entries. People of the same role, and of no other, have the same Sight, so that what many
// of them look at is judged once; [Policy.Sight] gives it.
type Sight struct {
	policy Policy
	id     Identity
	all    bool
}

// Sees says whether a row may be seen: whoever sees it may get what it is about.
func (s *Sight) Sees(row ledger.Row) bool { return s.all || s.each(OfRow(row)) }

// SeesEntry is [Sight.Sees] of an entry.
func (s *Sight) SeesEntry(e ledger.Entry) bool { return s.all || s.each(OfEntry(e)) }

func (s *Sight) each(things []Thing) bool {
	for _, t := range things {
		if t.Name == unknown && !s.policy.whole(s.id.role(), t.Kind) {
			return false
		}
		if !s.policy.permits(s.id, Get, t.Kind, t.Namespace, t.Name) {
			return false
		}
		if s.id.Step != nil && within(*s.id.Step, Get, t.Kind, t.Name) != nil {
			return false
		}
	}
	return true
}

// sights keeps the Sight of each role.
type sights struct {
	mu     sync.Mutex
	byRole map[Role]*Sight
}

// Sight gives what an identity may see.
func (p Policy) Sight(id Identity) *Sight {
	if id.Step != nil || id.Role == "" || len(id.Bindings) > 0 || len(id.Member.Rules) > 0 || p.sights == nil {
		return &Sight{policy: p, id: id}
	}
	p.sights.mu.Lock()
	defer p.sights.mu.Unlock()
	s, ok := p.sights.byRole[id.Role]
	if !ok && p.roles()[id.Role] { // nobody makes us keep one for each name of a role
		s = &Sight{policy: p, id: Identity{Role: id.Role}, all: p.everything(id.Role)}
		p.sights.byRole[id.Role] = s
	}
	if s == nil {
		s = &Sight{policy: p, id: id}
	}
	return s
}

// roles are those that the rules speak of.
func (p Policy) roles() map[Role]bool {
	roles := map[Role]bool{}
	for _, r := range p.rules {
		roles[r.Role] = true
	}
	return roles
}

// whole says whether a role may get every thing of a kind.
func (p Policy) whole(role Role, kind string) bool {
	all := false
	for _, r := range p.rules {
		if !r.about(role, Get, kind) {
			continue
		}
		if r.Deny {
			return false
		}
		all = all || r.Object == "*" || r.Object == "*/*"
	}
	return all
}

// everything says whether a role may get all there is, so that nothing need be asked of each thing.
func (p Policy) everything(role Role) bool {
	all := false
	for _, r := range p.rules {
		if r.Role != role || role == "" || !glob(r.Action, string(Get)) {
			continue
		}
		if r.Deny {
			return false
		}
		all = all || r.Resource == "*" && (r.Object == "*" || r.Object == "*/*")
	}
	return all
}
