package people

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// How long things last.
const (
	// OfferLife is how long a login code is good.
	OfferLife = 10 * time.Minute
	// SessionLife is how long a browser stays logged in.
	SessionLife = 12 * time.Hour
)

// Store keeps people. Create it with New.
type Store struct {
	ledger ledger.Ledger
	epoch  int64
	now    func() time.Time
	failed failures
}

// New returns a store in a ledger, which needs [Projection]. The epoch is the server's: see [Hashed.Epoch].
func New(l ledger.Ledger, epoch int64, now func() time.Time) *Store {
	return &Store{ledger: l, epoch: epoch, now: now}
}

// names are those that people can have: they stand in actors, file names and addresses.
var names = regexp.MustCompile(`^[a-z0-9]([a-z0-9._@-]{0,61}[a-z0-9])?$`) //nolint:gochecknoglobals // a constant

// Add adds a person or a robot; by is the actor who does it.
func (s *Store) Add(ctx context.Context, by string, p Person) error {
	if !names.MatchString(p.Name) {
		return failure.Invalidf("user %q: use up to 63 lower-case letters, digits and '.', '_', '@', '-'; begin and end with a letter or digit", p.Name)
	}
	if p.Name == Admin {
		return failure.Invalidf("user %q: that is the name of the admin token's holders", p.Name)
	}
	if err := access.CheckBindings(p.Roles); err != nil {
		return err
	}
	return s.write(ctx, p.Name, func(r record, known bool) (ledger.Draft, error) {
		if known {
			return ledger.Draft{}, failure.Conflictf("user %s is there already", p.Name)
		}
		return ledger.Draft{Actor: by, Kind: KindAdded, Body: Person{Name: p.Name, Robot: p.Robot, Roles: p.Roles}}, nil
	})
}

// Change gives a person other roles, or has their credentials count no more, or again. nil keeps what is.
func (s *Store) Change(ctx context.Context, by, name string, roles []access.Binding, disabled *bool) error {
	if roles != nil {
		if err := access.CheckBindings(roles); err != nil {
			return err
		}
	}
	return s.write(ctx, name, func(r record, known bool) (ledger.Draft, error) {
		if err := changeable(name, known); err != nil {
			return ledger.Draft{}, err
		}
		c := Change{Roles: r.Roles, Disabled: r.Disabled}
		if roles != nil {
			c.Roles = roles
		}
		if disabled != nil {
			c.Disabled = *disabled
		}
		return ledger.Draft{Actor: by, Kind: KindChanged, Body: c}, nil
	})
}

// Remove removes a person with all credentials.
func (s *Store) Remove(ctx context.Context, by, name string) error {
	return s.write(ctx, name, func(_ record, known bool) (ledger.Draft, error) {
		return ledger.Draft{Actor: by, Kind: KindRemoved, Body: struct{}{}}, changeable(name, known)
	})
}

func changeable(name string, known bool) error {
	switch {
	case name == Admin:
		return failure.Conflictf("%s are the holders of the admin token: change the token instead (keys/admin.token in the data folder)", Admin)
	case !known:
		return missing(name)
	}
	return nil
}

func missing(name string) error {
	return failure.WithHint(failure.NotFoundf("there is no user %s", name), "tiphys user list has all")
}

// List gives everybody, in order of their names.
func (s *Store) List(ctx context.Context) ([]Person, error) {
	all := []Person{}
	for row, err := range ledger.Each(ctx, s.ledger, ledger.Query{Table: TableUsers}) {
		r, err := readRecord(row, err)
		if err != nil {
			return nil, err
		}
		if r.Name != Admin {
			all = append(all, r.Person)
		}
	}
	slices.SortFunc(all, func(a, b Person) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// person reads somebody who has credentials; the holders of the admin token are always there.
func (s *Store) person(ctx context.Context, name string) (record, error) {
	r, err := readRecord(s.ledger.Row(ctx, TableUsers, name))
	if err != nil {
		return r, err
	}
	if r.Name == "" && name != Admin {
		return r, missing(name)
	}
	return asAdmin(r, name), nil
}

// asAdmin fills in what the record does not say of the holders of the admin token.
func asAdmin(r record, name string) record {
	if name == Admin {
		r.Name, r.Roles, r.Disabled, r.Robot = Admin, []access.Binding{{Role: access.Admin}}, false, false
	}
	return r
}

// NewToken is a token that is to be made.
type NewToken struct {
	User, Note string
	Scopes     []access.Scope
	// Life is how long it is good; 0 is for ever.
	Life time.Duration
	// As is what a holder of the admin token is called; it counts for tokens of [Admin] only.
	As string
}

// maxNote bounds a note, in bytes.
const maxNote = 200

// CreateToken makes a token and gives its text, which nobody can read again.
func (s *Store) CreateToken(ctx context.Context, by string, n NewToken) (Text, Token, error) {
	if len(n.Note) > maxNote {
		return Text{}, Token{}, failure.Invalidf("the note has %d bytes and may have %d", len(n.Note), maxNote)
	}
	if err := access.CheckScopes(n.Scopes); err != nil {
		return Text{}, Token{}, err
	}
	if n.Life < 0 {
		return Text{}, Token{}, failure.New(failure.Invalid, "a token cannot have expired before it is made")
	}
	text, hashed := fresh(rand.Reader, tokenPrefix, "")
	t := Token{Hashed: hashed, User: n.User, Note: n.Note, Scopes: n.Scopes}
	if n.User == Admin {
		t.As = n.As
	}
	if n.Life > 0 {
		t.Until = s.now().Add(n.Life).UTC().Truncate(time.Second)
	}
	err := s.write(ctx, n.User, func(r record, known bool) (ledger.Draft, error) {
		switch {
		case !known && n.User != Admin:
			return ledger.Draft{}, missing(n.User)
		case len(r.Tokens) >= maxTokens:
			return ledger.Draft{}, failure.WithHint(failure.Conflictf("user %s has %d tokens, which is the most", n.User, maxTokens), "revoke some")
		}
		return ledger.Draft{Actor: by, Kind: KindToken, Body: t}, nil
	})
	t.Created = s.now()
	return text, t, err
}

// Tokens gives the tokens of a person, or of everybody if name is empty, the newest first.
func (s *Store) Tokens(ctx context.Context, name string) ([]Token, error) {
	all := []Token{}
	for row, err := range ledger.Each(ctx, s.ledger, ledger.Query{Table: TableTokens, Owner: name}) {
		t, err := readToken(row, err)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// Token gives one by its id.
func (s *Store) Token(ctx context.Context, id string) (Token, error) {
	t, err := readToken(s.ledger.Row(ctx, TableTokens, id))
	if failure.Is(err, failure.NotFound) {
		err = failure.WithHint(failure.NotFoundf("there is no token %s", id), "tiphys token list has all")
	}
	return t, err
}

func readToken(row ledger.Row, err error) (Token, error) {
	var t Token
	if err == nil {
		err = json.Unmarshal(row.Body, &t)
	}
	if err != nil {
		return t, fmt.Errorf("read token: %w", err)
	}
	return t, nil
}

// Revoke has a token count no more.
func (s *Store) Revoke(ctx context.Context, by, id string) error {
	t, err := s.Token(ctx, id)
	if err != nil {
		return err
	}
	return s.write(ctx, t.User, func(r record, _ bool) (ledger.Draft, error) {
		if !slices.Contains(r.Tokens, id) {
			return ledger.Draft{}, failure.NotFoundf("there is no token %s", id)
		}
		return ledger.Draft{Actor: by, Kind: KindRevoked, Body: Revoked{ID: id}}, nil
	})
}

// write records something about a person, by what they are.
func (s *Store) write(ctx context.Context, name string, decide func(r record, known bool) (ledger.Draft, error)) error {
	return s.ledger.Write(ctx, ledger.Anyone(subject(name)), func(tx ledger.Tx) error {
		row, err := tx.Get(TableUsers, name)
		r, err := readRecord(row, err)
		if err != nil {
			return err
		}
		known := r.Name != ""
		d, err := decide(r, known)
		if err != nil {
			return err
		}
		if d.Subject = subject(name); known {
			d.Expect = ledger.Last(ledger.At(row.Seq))
		}
		_, err = tx.Append(d)
		return err
	})
}
