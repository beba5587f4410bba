package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// Condition is what is wrong with a declared EventSource or Sensor.
type Condition struct {
	// Definition is Kind/namespace/name.
	Definition string `json:"definition"`
	// Problem says why it cannot be used.
	Problem string `json:"problem"`
	// Digest is that of an earlier version, which goes on instead; empty if there is none.
	Digest string `json:"digest,omitempty"`
}

// roster is what is declared: each definition stands alone. One is present, absent (which only an entry that deletes it makes it) or
// unreadable: then the last good one goes on, and the condition says so. Its methods are safe for concurrent use, those that change it
// one at a time.
type roster struct {
	store   *definitions.Store
	sources *sources
	warn    func(definitions.Definition, []manifest.Diagnostic)
	book    *quarantine.Book
	scripts sensor.Scripts

	mu         sync.RWMutex
	byKey      map[string]*sensor.Sensor
	ordered    []*sensor.Sensor // by key; replaced and never changed
	conditions map[string]Condition
}

// The kinds of definitions that are of this room.
const (
	kindSource = "EventSource"
	kindSensor = "Sensor"
)

// load takes everything that is declared. The error is the ledger's.
func (r *roster) load(ctx context.Context) error {
	for _, kind := range []string{kindSource, kindSensor} {
		defs, err := r.store.List(ctx, kind, "")
		if err != nil {
			return fmt.Errorf("load every %s: %w", kind, err)
		}
		for _, d := range defs {
			if err := r.take(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// changed looks at one definition again, after an entry about it. The error is the ledger's.
func (r *roster) changed(ctx context.Context, entry ledger.Entry) error {
	kind, namespace, name, ok := subjectOf(entry.Subject)
	if !ok {
		return nil
	}
	d, err := r.store.Latest(ctx, kind, namespace, name)
	if errors.Is(err, ledger.ErrNotFound) {
		// Only its deletion makes it so: this entry, or one that is yet to come.
		r.forget(kind, namespace+"/"+name)
		return nil
	}
	if err != nil {
		return err
	}
	return r.take(ctx, d)
}

// subjectOf reads the subject of an entry about a definition; ok is false for kinds of other rooms.
func subjectOf(subject string) (kind, namespace, name string, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(subject, "definition/"), "/", 3)
	if len(parts) != 3 || parts[0] != kindSource && parts[0] != kindSensor {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}

func (r *roster) forget(kind, key string) {
	if kind == kindSource {
		r.sources.forget(key)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conditions, kind+"/"+key)
	if kind == kindSensor {
		delete(r.byKey, key)
		r.order()
	}
}

// maxEarlier is how many earlier versions of a definition are tried at a start.
const maxEarlier = 100

// take makes a definition count. One that cannot be used leaves what counted before: what is in memory, or at a start the last
// version that could be used.
func (r *roster) take(ctx context.Context, d definitions.Definition) error {
	err := r.use(d)
	if err == nil {
		r.note(d, "", "")
		return nil
	}
	problem := err.Error()
	r.mu.RLock()
	before, known := r.conditions[d.Key()]
	r.mu.RUnlock()
	if held := r.held(d); held != "" || known {
		if held == "" {
			held = before.Digest
		}
		r.note(d, problem, held)
		return nil
	}
	earlier, err := r.store.Earlier(ctx, d, maxEarlier)
	if err != nil {
		return err
	}
	digest := ""
	for _, was := range earlier {
		if r.use(was) == nil {
			digest = was.Digest
			break
		}
	}
	r.note(d, problem, digest)
	return nil
}

// note says what is wrong with a definition, and which version goes on instead; no problem means that nothing is.
func (r *roster) note(d definitions.Definition, problem, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem == "" {
		delete(r.conditions, d.Key())
		return
	}
	if r.conditions[d.Key()].Problem != problem {
		r.warn(d, []manifest.Diagnostic{{Severity: manifest.SeverityError, Message: problem}})
	}
	r.conditions[d.Key()] = Condition{Definition: d.Key(), Problem: problem, Digest: digest}
}

// held is the digest of what counts now of a definition; empty if nothing does.
func (r *roster) held(d definitions.Definition) string {
	if d.Kind == kindSource {
		return r.sources.digest(d.Namespace + "/" + d.Name)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s := r.byKey[d.Namespace+"/"+d.Name]; s != nil {
		return s.Digest
	}
	return ""
}

// use makes a definition count, or says why it cannot.
func (r *roster) use(d definitions.Definition) error {
	return r.book.Try(quarantine.Version(quarantine.KindDefinition, d.Key(), d.Digest), func() error { return r.compile(d) })
}

func (r *roster) compile(d definitions.Definition) error {
	if d.Kind == kindSource {
		seen := definitions.Decode[manifest.EventSource](d)
		if seen.Problem != nil {
			return seen.Problem
		}
		r.warn(d, r.sources.apply(&seen.Value, d.Digest))
		return nil
	}
	seen := definitions.Decode[manifest.Sensor](d)
	if seen.Problem != nil {
		return seen.Problem
	}
	s, found := sensor.New(&seen.Value, d.Digest, r.scripts)
	if s == nil {
		return fmt.Errorf("read %s: %w", d.Key(), manifest.FirstError(found))
	}
	r.warn(d, found)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byKey[s.Key] = s
	r.order()
	return nil
}

// order makes the list of sensors anew; the caller holds the lock.
func (r *roster) order() {
	r.ordered = make([]*sensor.Sensor, 0, len(r.byKey))
	for _, key := range slices.Sorted(maps.Keys(r.byKey)) {
		r.ordered = append(r.ordered, r.byKey[key])
	}
}

// sensors are those that count now, in the order of their keys.
func (r *roster) sensors() []*sensor.Sensor {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ordered
}

// wrong is what is wrong with definitions, in the order of their names.
func (r *roster) wrong() []Condition {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]Condition, 0, len(r.conditions))
	for _, key := range slices.Sorted(maps.Keys(r.conditions)) {
		out = append(out, r.conditions[key])
	}
	return out
}
