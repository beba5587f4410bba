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
	"strings"
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
	// OriginSensor begins the origin of what a sensor's trigger made; the sensor's key follows.
	OriginSensor = "sensor:"
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

	// unread says why the row could not be read or opened.
	unread error
	// memo keeps the decoded form; may be nil.
	memo *memo
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
	rules  Checker

	// opened are definitions as Look last gave them: a webhook's secret is wanted at every delivery. What was read before the last change is not
	// used, and nothing is while one is being made: whoever is woken by its commit may be here before the one who makes it is told.
	mu      sync.Mutex
	changes int64 // those that this store has made
	making  int   // and is making
	opened  map[string]opened
	// decoded are the decoded forms by row, of so many bytes of manifests.
	decoded      map[string]*memo
	granted      granted
	decodedBytes int
}

// opened is a definition as it was after so many changes.
type opened struct {
	Definition
	changes int64
}

// maxOpened bounds how many definitions are kept open.
const maxOpened = 256

// New returns a store. Without rules, which is nil, it takes every object.
func New(l ledger.Ledger, box Sealer, rules Checker) *Store {
	return &Store{ledger: l, box: box, rules: rules, opened: map[string]opened{}, decoded: map[string]*memo{}}
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
		if s.rules != nil {
			ch.Diagnostics = append(ch.Diagnostics, s.rules.Check(o)...)
		}
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
	unheard, err := s.listening(ctx, objects)
	if err != nil {
		return ch, err
	}
	ch.Diagnostics = append(ch.Diagnostics, unheard...)
	set := ch
	defer s.changing()()
	err = s.ledger.Write(ctx, about(), func(tx ledger.Tx) error {
		ch = set
		return s.write(tx, actor, origin, defs, replace, &ch)
	})
	return ch, err
}

// about is what every change of definitions is about: they live together, and whoever takes a request may change them, since each change
// is decided by what the transaction itself reads.
func about() ledger.Scope { return ledger.Anyone("definition/all") }

// changing has Look ask the ledger until the change that begins is over, and once more behind it. Only this store declares, as long as one process has
// the ledger: where others do as well each must be told of their changes.
func (s *Store) changing() (over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.making--
		s.changes++
		clear(s.opened)
	}
}

func define(o manifest.Object, origin string) Definition {
	ns := o.Namespace
	if ns == "" && !clusterScoped(o.Kind) {
		ns = "default"
	}
	return Definition{
		Kind: o.Kind, Namespace: ns, Name: o.Name, Origin: origin,
		Digest: o.Digest(), Object: o.Tree.JSON(), Position: o.Position,
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
			if old.Owner != origin && !takes(origin, old.Owner) {
				return fmt.Errorf("%s %w: it was declared by %s and only that may change it", k, ErrOrigin, old.Owner)
			}
			if s.same(old, d) {
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

// same reports whether a definition is what it was. A sealed one is opened to see. What cannot be read is not the same: to
// declare it again is how it is mended.
func (s *Store) same(old ledger.Row, is Definition) bool {
	was := s.Open(old)
	if was.unread != nil {
		return false
	}
	if is.Kind == "Secret" {
		return string(was.Object) == string(is.Object)
	}
	return was.Digest == is.Digest
}

func (s *Store) put(tx ledger.Tx, actor string, d Definition) error {
	if d.Kind == "Secret" {
		sealed := s.box.Seal(secret.New(string(d.Object)), d.Key())
		d.Object, d.Sealed = nil, sealed
		// The digest of a short secret could be guessed from: it covers the sealed form.
		sum := sha256.Sum256(sealed)
		d.Digest = "sha256:" + hex.EncodeToString(sum[:])
	}
	if d.Kind == kindClaim {
		if err := runs.CancelClaim(tx, d.Namespace, d.Name); err != nil {
			return err
		}
	}
	_, err := tx.Append(ledger.Draft{Actor: actor, Kind: kindSet, Subject: subjectPrefix + d.Key(), Body: d})
	return err
}

// kindClaim is the kind whose storage goes with its declaration.
const kindClaim = "PersistentVolumeClaim"

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
	_, err := tx.Append(ledger.Draft{Actor: actor, Kind: KindDeleted, Subject: subjectPrefix + key, Body: struct{}{}})
	if parts := strings.Split(key, "/"); err == nil && len(parts) == 3 && parts[0] == kindClaim {
		err = runs.EnqueueClaim(tx, parts[1], parts[2])
	}
	return err
}

// takes tells whether an origin may change what another declared: what a trigger made is an object of its own, which nobody declares any more,
// so an operator may delete it or declare it.
func takes(origin, owner string) bool {
	return (origin == OriginAPI || origin == OriginFolder) && strings.HasPrefix(owner, OriginSensor)
}

// Delete removes a definition of an origin.
func (s *Store) Delete(ctx context.Context, actor, origin, kind, namespace, name string) error {
	k := key(kind, namespace, name)
	defer s.changing()()
	return s.ledger.Write(ctx, about(), func(tx ledger.Tx) error {
		row, err := tx.Get(table, k)
		if err != nil {
			return fmt.Errorf("delete %s: %w", k, err)
		}
		if row.Owner != origin && !takes(origin, row.Owner) {
			return fmt.Errorf("delete %s: it %w (%s): delete it there", k, ErrOrigin, row.Owner)
		}
		return remove(tx, actor, k)
	})
}

// Get gives one definition; ledger.ErrNotFound if there is none, and an error of kind failure.Stalled if it cannot be opened.
// Its Object must not be changed.
func (s *Store) Get(ctx context.Context, kind, namespace, name string) (Definition, error) {
	d, state, err := s.Look(ctx, kind, namespace, name)
	switch {
	case err != nil:
		return Definition{}, err
	case state == Absent:
		return Definition{}, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, ledger.ErrNotFound)
	case d.unread != nil:
		return Definition{}, unreadable(d, manifest.Diagnostic{Message: d.unread.Error()})
	}
	return d, nil
}

// Look implements [Reader]. A definition that cannot be opened is Unreadable; one that can is Present, whether or not its kind's
// decoder takes it: see [Find].
func (s *Store) Look(ctx context.Context, kind, namespace, name string) (Definition, State, error) {
	k := key(kind, namespace, name)
	s.mu.Lock()
	known, ok := s.opened[k]
	changes, making := s.changes, s.making > 0
	s.mu.Unlock()
	if ok && !making && known.changes == changes {
		return known.Definition, Present, nil
	}
	row, err := s.ledger.Row(ctx, table, k)
	if errors.Is(err, ledger.ErrNotFound) {
		return s.rowless(ctx, kind, namespace, name)
	}
	if err != nil {
		return Definition{}, Unreadable, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
	}
	d := s.Open(row)
	if d.unread != nil {
		return d, Unreadable, nil
	}
	if making {
		return d, Present, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.opened) >= maxOpened {
		clear(s.opened)
	}
	s.opened[k] = opened{d, changes}
	return d, Present, nil
}

// rowless tells what it means that a definition has no row. It is absent if it was never declared, or an entry says that it was
// deleted; otherwise the rows are damaged.
func (s *Store) rowless(ctx context.Context, kind, namespace, name string) (Definition, State, error) {
	d := Definition{Kind: kind, Namespace: namespace, Name: name}
	last, err := s.ledger.Entries(ctx, ledger.EntryQuery{Subject: subjectPrefix + d.Key(), Kinds: []string{kindSet, KindDeleted}, Newest: true, Limit: 1, Bare: true})
	if err != nil {
		return d, Unreadable, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
	}
	if len(last) == 0 || last[0].Kind == KindDeleted {
		return d, Absent, nil
	}
	// The row may have been written since it was looked for.
	row, err := s.ledger.Row(ctx, table, d.Key())
	if err == nil {
		d = s.Open(row)
	} else if !errors.Is(err, ledger.ErrNotFound) {
		return d, Unreadable, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
	} else {
		d.Seq = last[0].Seq
		d.unread = fmt.Errorf("entry %d declares it, and its row is missing", last[0].Seq)
	}
	if d.unread != nil {
		return d, Unreadable, nil //nolint:nilerr // that the row is missing is what was found out
	}
	return d, Present, nil
}

// Open reads the row of a definition. If it cannot be read its [Definition.Conditions] say so, and it has no Object.
func (s *Store) Open(row ledger.Row) Definition {
	var d Definition
	if err := json.Unmarshal(row.Body, &d); err != nil {
		d = Definition{Origin: row.Owner, unread: fmt.Errorf("its row is damaged: %w", err)}
		if parts := strings.SplitN(row.Key, "/", 3); len(parts) == 3 {
			d.Kind, d.Namespace, d.Name = parts[0], parts[1], parts[2]
		}
	}
	d.Seq = row.Seq
	if d.unread != nil {
		return d
	}
	if len(d.Sealed) > 0 {
		plain, err := s.box.Open(d.Sealed, d.Key())
		if err != nil {
			d.Sealed, d.unread = nil, err
			return d
		}
		d.Object, d.Sealed = json.RawMessage(plain.Reveal()), nil
		return d
	}
	d.memo = s.memo(row.Key, d)
	return d
}

// The most that is kept decoded, in bytes of manifests, and the largest manifest among them.
const (
	maxDecoded    = 32 << 20
	maxDecodedOne = 64 << 10
)

// memo is where a definition's decoded form is kept, until there is another: controllers look at all of a kind at each change.
func (s *Store) memo(key string, d Definition) *memo {
	if len(d.Object) > maxDecodedOne {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.decoded[key]; m != nil && m.seq == d.Seq {
		return m
	}
	if s.decodedBytes += len(d.Object); s.decodedBytes > maxDecoded {
		clear(s.decoded)
		s.decodedBytes = len(d.Object)
	}
	m := &memo{seq: d.Seq}
	s.decoded[key] = m
	return m
}

// List implements [Reader].
func (s *Store) List(ctx context.Context, kind, namespace string) ([]Definition, error) {
	prefix := kind + "/"
	if namespace != "" {
		prefix += namespace + "/"
	}
	var out []Definition
	for row, err := range ledger.Each(ctx, s.ledger, ledger.Query{Table: table, KeyPrefix: prefix, Oldest: true}) {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		out = append(out, s.Open(row))
	}
	return out, nil
}

// Object implements runs.Objects.
func (s *Store) Object(ctx context.Context, ref workflow.Ref) (json.RawMessage, error) {
	d, err := s.Get(ctx, ref.Kind, ref.Namespace, ref.Name)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, runs.ErrNoObject
	}
	return d.Object, err
}
