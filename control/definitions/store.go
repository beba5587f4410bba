// Package definitions keeps what users declared: templates, sensors, sources, applications, ConfigMaps and
// Secrets. Each has an origin (the folder, the API, a Git repository) and only its origin may change it; every change is a
// ledger entry with the content's digest.
package definitions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/workflow"
)

// Origins.
const (
	OriginFolder = "folder"
	OriginAPI    = "api"
)

// table is the projection's table; its keys are Kind/namespace/name.
const table = "definition"

// The kinds of entries.
const (
	kindSet = "definition.set"
	// KindDeleted is the kind of entries that take a definition away: "definition/" and the row's key are the subject.
	KindDeleted = "definition.deleted"
)

// ErrOrigin says that a definition belongs to another origin.
var ErrOrigin = failure.New(failure.Conflict, "belongs to another origin")

// Definition is one declared object.
type Definition struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Origin    string `json:"origin"`
	// Digest is "sha256:" and hex over the object's JSON.
	Digest string `json:"digest"`
	// Object is the manifest as JSON. A Secret's is sealed at rest, and open where Get and List return it.
	Object json.RawMessage `json:"object,omitempty"`
	Sealed []byte          `json:"sealed,omitempty"`
	// Position is where it was read.
	Position manifest.Position `json:"position"`
	// Seq is the entry of its last change.
	Seq int64 `json:"seq,omitempty"`
}

// Key names a definition: Kind/namespace/name.
func (d Definition) Key() string { return key(d.Kind, d.Namespace, d.Name) }

func key(kind, namespace, name string) string {
	if clusterScoped(kind) {
		namespace = ""
	}
	return kind + "/" + namespace + "/" + name
}

func clusterScoped(kind string) bool { return kind == "ClusterWorkflowTemplate" || kind == "Namespace" }

// Sealer keeps secrets at rest; secret.Box is one.
type Sealer interface {
	Seal(value secret.Value, context string) []byte
	Open(sealed []byte, context string) (secret.Value, error)
}

// Store is the definitions in a ledger. Methods are safe for concurrent use.
type Store struct {
	ledger ledger.Ledger
	box    Sealer
	// check judges an object before it is taken.
	check func(manifest.Object) []manifest.Diagnostic

	// opened are definitions as Get last gave them: a webhook's secret is wanted at every delivery. What was read before the last
	// change is not used.
	mu      sync.Mutex
	changes int64
	opened  map[string]opened
}

// opened is a definition as it was after so many changes.
type opened struct {
	Definition
	changes int64
}

// maxOpened bounds how many definitions are kept open.
const maxOpened = 256

// New returns a store. check may be nil.
func New(l ledger.Ledger, box Sealer, check func(manifest.Object) []manifest.Diagnostic) *Store {
	if check == nil {
		check = func(manifest.Object) []manifest.Diagnostic { return nil }
	}
	return &Store{ledger: l, box: box, check: check, opened: map[string]opened{}}
}

// Change tells what an Apply or Replace did.
type Change struct {
	Set, Deleted, Unchanged []string
	Diagnostics             []manifest.Diagnostic
}

// Apply takes objects on behalf of an origin. Nothing is taken if one of them is bad.
func (s *Store) Apply(ctx context.Context, actor, origin string, objects []manifest.Object) (Change, error) {
	return s.change(ctx, actor, origin, objects, false)
}

// Replace takes objects as everything that an origin declares: what it declared before and does not now is deleted.
func (s *Store) Replace(ctx context.Context, actor, origin string, objects []manifest.Object) (Change, error) {
	return s.change(ctx, actor, origin, objects, true)
}

func (s *Store) change(ctx context.Context, actor, origin string, objects []manifest.Object, replace bool) (Change, error) {
	var ch Change
	defs := map[string]Definition{}
	for _, o := range objects {
		ch.Diagnostics = append(ch.Diagnostics, s.check(o)...)
		d := define(o, origin)
		if twin, ok := defs[d.Key()]; ok {
			ch.Diagnostics = append(ch.Diagnostics, manifest.Diagnostic{
				Position: d.Position, Severity: manifest.SeverityError,
				Message: fmt.Sprintf("%s is declared twice", d.Key()), Hint: "the other one is at " + twin.Position.String(),
			})
		}
		defs[d.Key()] = d
	}
	if err := manifest.FirstError(ch.Diagnostics); err != nil {
		return ch, err
	}
	set := ch
	err := s.ledger.Write(ctx, about(), func(tx ledger.Tx) error {
		ch = set
		return s.write(tx, actor, origin, defs, replace, &ch)
	})
	s.changed()
	return ch, err
}

// about is what every change of definitions is about: they live together, and whoever takes a request may change them, since each change
// is decided by what the transaction itself reads.
func about() ledger.Scope { return ledger.Anyone("definition/all") }

// changed makes Get look at the ledger again.
func (s *Store) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	clear(s.opened)
}

func define(o manifest.Object, origin string) Definition {
	raw := o.Tree.JSON()
	sum := sha256.Sum256(raw)
	ns := o.Namespace
	if ns == "" && !clusterScoped(o.Kind) {
		ns = "default"
	}
	return Definition{
		Kind: o.Kind, Namespace: ns, Name: o.Name, Origin: origin,
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Object: raw, Position: o.Position,
	}
}

func (s *Store) write(tx ledger.Tx, actor, origin string, defs map[string]Definition, replace bool, ch *Change) error {
	keys := make([]string, 0, len(defs))
	for k := range defs {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		d := defs[k]
		old, err := tx.Get(table, k)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		if err == nil {
			var was Definition
			if err := json.Unmarshal(old.Body, &was); err != nil {
				return fmt.Errorf("decode %s: %w", k, err)
			}
			if was.Origin != origin {
				return fmt.Errorf("%s %w: it was declared by %s and only that may change it", k, ErrOrigin, was.Origin)
			}
			if same, err := s.same(was, d); err != nil || same {
				if err != nil {
					return err
				}
				ch.Unchanged = append(ch.Unchanged, k)
				continue
			}
		}
		if err := s.put(tx, actor, d); err != nil {
			return err
		}
		ch.Set = append(ch.Set, k)
	}
	if !replace {
		return nil
	}
	return s.prune(tx, actor, origin, defs, ch)
}

// same reports whether a definition is what it was. A sealed one is opened to see.
func (s *Store) same(was, is Definition) (bool, error) {
	if len(was.Sealed) == 0 {
		return was.Digest == is.Digest, nil
	}
	plain, err := s.box.Open(was.Sealed, was.Key())
	if err != nil {
		return false, fmt.Errorf("open %s: %w", was.Key(), err)
	}
	return plain.Reveal() == string(is.Object), nil
}

func (s *Store) put(tx ledger.Tx, actor string, d Definition) error {
	if d.Kind == "Secret" {
		sealed := s.box.Seal(secret.New(string(d.Object)), d.Key())
		d.Object, d.Sealed = nil, sealed
		// The digest of a short secret could be guessed from: it covers the sealed form.
		sum := sha256.Sum256(sealed)
		d.Digest = "sha256:" + hex.EncodeToString(sum[:])
	}
	_, err := tx.Append(ledger.Draft{Actor: actor, Kind: kindSet, Subject: "definition/" + d.Key(), Body: d})
	return err
}

// listLimit bounds one page of definitions.
const listLimit = 1000

func (s *Store) prune(tx ledger.Tx, actor, origin string, defs map[string]Definition, ch *Change) error {
	for row, err := range ledger.EachIn(tx, ledger.Query{Table: table, Owner: origin}) {
		if err != nil {
			return err
		}
		if _, ok := defs[row.Key]; ok {
			continue
		}
		if err := remove(tx, actor, row.Key); err != nil {
			return err
		}
		ch.Deleted = append(ch.Deleted, row.Key)
	}
	return nil
}

func remove(tx ledger.Tx, actor, key string) error {
	_, err := tx.Append(ledger.Draft{Actor: actor, Kind: KindDeleted, Subject: "definition/" + key, Body: struct{}{}})
	return err
}

// Delete removes a definition of an origin.
func (s *Store) Delete(ctx context.Context, actor, origin, kind, namespace, name string) error {
	k := key(kind, namespace, name)
	defer s.changed()
	return s.ledger.Write(ctx, about(), func(tx ledger.Tx) error {
		row, err := tx.Get(table, k)
		if err != nil {
			return fmt.Errorf("delete %s: %w", k, err)
		}
		if row.Owner != origin {
			return fmt.Errorf("delete %s: it %w (%s): delete it there", k, ErrOrigin, row.Owner)
		}
		return remove(tx, actor, k)
	})
}

// Get gives one definition; ledger.ErrNotFound if there is none. Its Object must not be changed.
func (s *Store) Get(ctx context.Context, kind, namespace, name string) (Definition, error) {
	k := key(kind, namespace, name)
	s.mu.Lock()
	known, ok := s.opened[k]
	changes := s.changes
	s.mu.Unlock()
	if ok && known.changes == changes {
		return known.Definition, nil
	}
	row, err := s.ledger.Row(ctx, table, k)
	if err != nil {
		return Definition{}, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
	}
	d, err := s.open(row)
	if err == nil {
		s.mu.Lock()
		if len(s.opened) >= maxOpened {
			clear(s.opened)
		}
		s.opened[k] = opened{d, changes}
		s.mu.Unlock()
	}
	return d, err
}

func (s *Store) open(row ledger.Row) (Definition, error) {
	var d Definition
	if err := json.Unmarshal(row.Body, &d); err != nil {
		return d, fmt.Errorf("decode %s: %w", row.Key, err)
	}
	d.Seq = row.Seq
	if len(d.Sealed) > 0 {
		plain, err := s.box.Open(d.Sealed, d.Key())
		if err != nil {
			return d, fmt.Errorf("open %s: %w", row.Key, err)
		}
		d.Object, d.Sealed = json.RawMessage(plain.Reveal()), nil
	}
	return d, nil
}

// List gives every definition of a kind, in all namespaces if namespace is empty.
func (s *Store) List(ctx context.Context, kind, namespace string) ([]Definition, error) {
	prefix := kind + "/"
	if namespace != "" {
		prefix += namespace + "/"
	}
	var out []Definition
	var after *ledger.Cursor
	for {
		rows, err := s.ledger.List(ctx, ledger.Query{Table: table, KeyPrefix: prefix, After: after, Limit: listLimit, Oldest: true})
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		for _, row := range rows {
			d, err := s.open(row)
			if err != nil {
				return nil, err
			}
			out = append(out, d)
		}
		if len(rows) < listLimit {
			return out, nil
		}
		after = &ledger.Cursor{Time: rows[len(rows)-1].Time, Key: rows[len(rows)-1].Key}
	}
}

// Object implements runs.Objects.
func (s *Store) Object(ctx context.Context, ref workflow.Ref) (json.RawMessage, error) {
	d, err := s.Get(ctx, ref.Kind, ref.Namespace, ref.Name)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, runs.ErrNoObject
	}
	return d.Object, err
}
