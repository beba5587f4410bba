package apps

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// The kinds of entries that tell of definitions; their subject is definition/KIND/NAMESPACE/NAME.
const (
	kindDefined   = "definition.set"
	kindUndefined = "definition.deleted"
)

// declared is an Application as it should be.
type declared struct {
	manifest.Application
	origin, digest string
	seq            int64
	// unreadable says why it cannot be read; what is there is held then.
	unreadable string
}

// defined is a definition of a set.
type defined struct {
	set        manifest.ApplicationSet
	digest     string
	seq        int64
	unreadable string
}

// board has what is declared, by people and by sets. Actors read it; methods are safe for concurrent use.
type board struct {
	mu sync.Mutex
	// own are the Applications that people declare, by namespace/name; definitions are the sets.
	own         map[string]*declared
	definitions map[string]*defined
	// made are the Applications of each set, as it was last expanded without an error.
	made map[string]map[string]*declared
}

func (b *board) clear() {
	b.own, b.definitions, b.made = map[string]*declared{}, map[string]*defined{}, map[string]map[string]*declared{}
}

// declare reads what people declare.
func (c *Controller) declare(ctx context.Context) error {
	applications, err := definitions.All[manifest.Application](ctx, c.o.Definitions, "")
	if err != nil {
		return fmt.Errorf("read Applications: %w", err)
	}
	sets, err := definitions.All[manifest.ApplicationSet](ctx, c.o.Definitions, "")
	if err != nil {
		return fmt.Errorf("read ApplicationSets: %w", err)
	}
	own, known := map[string]*declared{}, map[string]*defined{}
	for _, d := range applications {
		own[d.Namespace+"/"+d.Name] = &declared{Application: d.Value, origin: d.Origin, digest: d.Digest, seq: d.Seq, unreadable: unreadable(d.Problem)}
	}
	for _, d := range sets {
		known[d.Namespace+"/"+d.Name] = newDefined(d)
	}
	c.wanted.mu.Lock()
	defer c.wanted.mu.Unlock()
	c.wanted.own, c.wanted.definitions = own, known
	return nil
}

func newDefined(d definitions.Seen[manifest.ApplicationSet]) *defined {
	return &defined{set: d.Value, digest: d.Digest, seq: d.Seq, unreadable: unreadable(d.Problem)}
}

// unreadable says why a definition cannot be read and what to do; empty if it can be.
func unreadable(problem error) string {
	if problem == nil {
		return ""
	}
	if hint := failure.HintOf(problem); hint != "" {
		return problem.Error() + "; " + hint
	}
	return problem.Error()
}

// applications are the keys of those that are declared, and the given ones.
func (b *board) applications(keys []string) map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[string]bool{}
	for key := range b.own {
		found[key] = true
	}
	for _, made := range b.made {
		for key := range made {
			found[key] = true
		}
	}
	for _, key := range keys {
		found[key] = true
	}
	return found
}

// sets are the keys of the sets that are declared, and the given ones.
func (b *board) sets(keys []string) map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[string]bool{}
	for key := range b.definitions {
		found[key] = true
	}
	for _, key := range keys {
		found[key] = true
	}
	return found
}

// set is the definition of a set; nil if there is none.
func (b *board) set(key string) *defined {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.definitions[key]
}

// publish keeps what a set makes; nil is that the set is gone. It gives the keys whose definition may be another now.
func (b *board) publish(set string, made map[string]*declared) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var changed []string
	for key, a := range made {
		if old := b.made[set][key]; old == nil || old.digest != a.digest || old.seq != a.seq {
			changed = append(changed, key)
		}
	}
	for key := range b.made[set] {
		if made[key] == nil {
			changed = append(changed, key)
		}
	}
	if made == nil {
		delete(b.made, set)
	} else {
		b.made[set] = made
	}
	return changed
}

// twins are those of a set's Applications that somebody else declares.
func (b *board) twins(set string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for key := range b.made[set] {
		if b.own[key] != nil || b.maker(key) != set {
			found = append(found, key)
		}
	}
	slices.Sort(found)
	return found
}

// maker is the set that makes an Application: of several the first by name. The lock is held.
func (b *board) maker(key string) string {
	first := ""
	for set, made := range b.made {
		if made[key] != nil && (first == "" || set < first) {
			first = set
		}
	}
	return first
}

// originOf is the origin of what a set makes.
func originOf(set string) string { return originSet + set }

const originSet = "applicationset/"

// standing is how an Application stands: declared, or gone, or neither is sure, and then held says why.
type standing struct {
	declared *declared
	gone     bool
	held     string
}

// stands says how an Application stands. That nobody declares it is not enough for gone: an entry has to tell of the deletion.
func (c *Controller) stands(ctx context.Context, key string, row deploy.ApplicationRow) (standing, error) {
	b := &c.wanted
	b.mu.Lock()
	d := b.own[key]
	if d == nil {
		if set := b.maker(key); set != "" {
			d = b.made[set][key]
		}
	}
	set, bySet := strings.CutPrefix(row.Origin, originSet)
	made, expanded := b.made[set]
	definition := b.definitions[set]
	b.mu.Unlock()
	switch {
	case d != nil && d.unreadable != "":
		return standing{declared: d, held: d.unreadable}, nil
	case d != nil:
		return standing{declared: d}, nil
	case row.Name == "" || row.Deleting:
		return standing{gone: true}, nil
	case !bySet:
		return c.undefined(ctx, "Application", key)
	case definition == nil:
		return c.undefined(ctx, "ApplicationSet", set)
	case definition.unreadable != "":
		return standing{held: "the ApplicationSet " + set + " that made it cannot be read"}, nil
	case expanded && made[key] == nil:
		return standing{gone: true}, nil
	}
	return standing{held: "the ApplicationSet " + set + " that made it was not expanded yet"}, nil
}

// undefined says that something is gone if the last entry about its definition is that it was deleted.
func (c *Controller) undefined(ctx context.Context, kind, key string) (standing, error) {
	entries, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: "definition/" + kind + "/" + key,
		Kinds: []string{kindDefined, kindUndefined}, Newest: true, Limit: 1, Bare: true})
	if err != nil {
		return standing{}, fmt.Errorf("read when %s was deleted: %w", key, err)
	}
	if len(entries) == 1 && entries[0].Kind == kindUndefined {
		return standing{gone: true}, nil
	}
	return standing{held: fmt.Sprintf("the %s %s is not among what is declared, and no entry tells that it was deleted: declare it again, or delete it", kind, key)}, nil
}
