package local

import (
	"cmp"
	"slices"

	"github.com/tiphys/tiphys/deploy"
)

// index finds objects by each of the ways in which they are asked for, so that no question looks at all of them. The zero value is
// not ready; see newIndex. Its user holds the lock.
type index struct {
	byKey         map[deploy.Key]*object
	byUID         map[string]*object
	byApplication shelf
	byOwner       shelf // by the uid of what owns them
	byKind        shelf // of kinds that this machine runs
	byNamespace   shelf
	// leaving are those that are being deleted.
	leaving map[*object]bool
	// places say where each object was put, which it may have outgrown.
	places map[*object]place
}

// place is where an object was put.
type place struct {
	key         deploy.Key
	uid         string
	application string
	owners      []string
}

// shelf has objects by one of their properties.
type shelf map[string]map[*object]bool

func (s shelf) put(name string, o *object) {
	if s[name] == nil {
		s[name] = map[*object]bool{}
	}
	s[name][o] = true
}

func (s shelf) take(name string, o *object) {
	delete(s[name], o)
	if len(s[name]) == 0 {
		delete(s, name)
	}
}

func newIndex() *index {
	return &index{byKey: map[deploy.Key]*object{}, byUID: map[string]*object{}, byApplication: shelf{}, byOwner: shelf{}, byKind: shelf{},
		byNamespace: shelf{}, leaving: map[*object]bool{}, places: map[*object]place{}}
}

// put adds an object, or notes what has changed of one.
func (x *index) put(o *object) {
	x.remove(o)
	p := place{key: o.Key, uid: o.UID, application: o.Application}
	for _, r := range o.live.GetOwnerReferences() {
		p.owners = append(p.owners, string(r.UID))
	}
	x.places[o] = p
	x.byKey[p.key], x.byUID[p.uid] = o, o
	x.byApplication.put(p.application, o)
	if runs(p.key) {
		x.byKind.put(p.key.Kind, o)
	}
	x.byNamespace.put(p.key.Namespace, o)
	for _, owner := range p.owners {
		x.byOwner.put(owner, o)
	}
	if o.deleting() {
		x.leaving[o] = true
	}
}

// remove takes an object away; one that is not there is no error.
func (x *index) remove(o *object) {
	p, there := x.places[o]
	if !there {
		return
	}
	delete(x.places, o)
	delete(x.leaving, o)
	delete(x.byUID, p.uid)
	if x.byKey[p.key] == o {
		delete(x.byKey, p.key)
	}
	x.byApplication.take(p.application, o)
	x.byKind.take(p.key.Kind, o)
	x.byNamespace.take(p.key.Namespace, o)
	for _, owner := range p.owners {
		x.byOwner.take(owner, o)
	}
}

// of gives the objects of an application, owners before what they own, else in order of their keys. Empty is all.
func (x *index) of(application string) []*object {
	if application != "" {
		return x.ordered(x.byApplication[application])
	}
	all := make(map[*object]bool, len(x.places))
	for o := range x.places {
		all[o] = true
	}
	return x.ordered(all)
}

func (x *index) ordered(set map[*object]bool) []*object {
	type placed struct {
		o     *object
		depth int
		text  string
	}
	list := make([]placed, 0, len(set))
	for o := range set {
		list = append(list, placed{o, x.depth(o), o.Key.String()})
	}
	slices.SortFunc(list, func(a, b placed) int { return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.text, b.text)) })
	found := make([]*object, len(list))
	for i, p := range list {
		found[i] = p.o
	}
	return found
}

// maxDepth is how many owners above an object are looked at: a Pod has two, and whoever writes references in a circle gets an end.
const maxDepth = 4

func (x *index) depth(o *object) int {
	depth := 0
	for owners := x.places[o].owners; len(owners) > 0 && depth < maxDepth; depth++ {
		owner := x.byUID[owners[0]]
		if owner == nil {
			break
		}
		owners = x.places[owner].owners
	}
	return depth
}

// owned gives the objects of a kind that an object owns in its namespace, in order of their keys.
func (x *index) owned(owner *object, kind string) []*object {
	var found []*object
	for o := range x.byOwner[owner.UID] {
		if o.Key.Kind == kind && runs(o.Key) && o.Key.Namespace == owner.Key.Namespace {
			found = append(found, o)
		}
	}
	return sortedByName(found)
}

// within gives what goes when an object goes: what it owns and does not leave, and what lies in it if it is a Namespace.
func (x *index) within(o *object) []*object {
	set := map[*object]bool{}
	for other := range x.byOwner[o.UID] {
		if !deploy.Kept(other.live) {
			set[other] = other != o
		}
	}
	if o.Key.Kind == "Namespace" && o.Key.Group == "" {
		for other := range x.byNamespace[o.Key.Name] {
			set[other] = other != o
		}
	}
	delete(set, o)
	return x.ordered(set)
}

// below gives what an object owns, and what that owns in turn.
func (x *index) below(o *object) []*object {
	seen := map[*object]bool{o: true}
	for list := []*object{o}; len(list) > 0; {
		var next []*object
		for _, owner := range list {
			for other := range x.byOwner[owner.UID] {
				if !seen[other] {
					seen[other] = true
					next = append(next, other)
				}
			}
		}
		list = next
	}
	delete(seen, o)
	return x.ordered(seen)
}

// kind gives the objects of a kind in order of their keys.
func (x *index) kind(kind string) []*object {
	found := make([]*object, 0, len(x.byKind[kind]))
	for o := range x.byKind[kind] {
		found = append(found, o)
	}
	return sortedByName(found)
}

func sortedByName(list []*object) []*object {
	slices.SortFunc(list, func(a, b *object) int {
		return cmp.Or(cmp.Compare(a.Key.Group, b.Key.Group), cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return list
}
