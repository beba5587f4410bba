// Package people keeps who may use a server: persons and robots with their roles, their tokens, and how persons come in by a browser, with login
// codes that are good once and sessions. All of it is in the ledger; of what is secret the ledger has hashes alone.
//
// A credential says whose it is and which one, and then its secret: it is found by its name and compared in constant time. Single sign-on would be
// another way to a session: what follows from a session does not ask how it began ([Session.Way]).
package people

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/ledger"
)

// The kinds of entries. Their bodies are [Person], [Change], nothing, [Token], [Revoked], [Offer], [Succeeded], [Ended] and [Failures].
const (
	KindAdded     = "user.added"
	KindChanged   = "user.changed"
	KindRemoved   = "user.removed"
	KindToken     = "token.created"
	KindRevoked   = "token.revoked"
	KindOffered   = "login.offered"
	KindSucceeded = "login.succeeded"
	KindEnded     = "login.ended"
	KindFailed    = "login.failed"
)

// The tables: persons and robots by name, and their tokens by id.
const (
	TableUsers  = "user"
	TableTokens = "token"
)

// Admin is the name that holders of the admin token act under. Nobody else can have it, and what hangs on it counts for administrators.
const Admin = access.Administrators

// Limits of what one person has at the same time.
const (
	maxTokens   = 100
	maxOffers   = 8
	maxSessions = 16
)

// Person is somebody who may use the server.
type Person struct {
	Name string `json:"name"`
	// Robot says that it is a program: it has tokens and does not log in.
	Robot bool `json:"robot,omitempty"`
	// Roles are what they may do, and where.
	Roles []access.Binding `json:"roles"`
	// Disabled has none of their credentials count.
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created,omitzero"`
}

// Change is the body of a user.changed entry: what they are from now on.
type Change struct {
	Roles    []access.Binding `json:"roles"`
	Disabled bool             `json:"disabled,omitempty"`
}

// Hashed is a credential as the record has it.
type Hashed struct {
	// ID names it and is no secret.
	ID string `json:"id"`
	// Hash is SHA-256 of its secret in hex. The secret has 256 random bits, so that nobody finds it by trying.
	Hash string `json:"hash"`
	// Until is when it ends; zero for never.
	Until time.Time `json:"until,omitzero"`
	// As is what a holder of the admin token says they are called; empty for people with credentials of their own.
	As string `json:"as,omitempty"`
	// Epoch is the server's when it was made: a restore ends it. Tokens have none.
	Epoch int64 `json:"epoch,omitempty"`
}

// Token is the body of a token.created entry.
type Token struct {
	Hashed
	User string `json:"user"`
	// Note says what it is for.
	Note string `json:"note,omitempty"`
	// Scopes are what it is worth of its owner's rights.
	Scopes  []access.Scope `json:"scopes"`
	Created time.Time      `json:"created,omitzero"`
}

// Revoked is the body of a token.revoked entry.
type Revoked struct {
	ID string `json:"id"`
}

// Offer is the body of a login.offered entry: a code that is good for one session.
type Offer struct {
	Hashed
}

// WayCode is how a session began: by a code.
const WayCode = "code"

// Session is what a browser has.
type Session struct {
	Hashed
	// Way is how it began.
	Way string `json:"way"`
	// From is the client's address.
	From string `json:"from,omitempty"`
}

// Succeeded is the body of a login.succeeded entry.
type Succeeded struct {
	// Offer is the id of the code.
	Offer   string  `json:"offer"`
	Session Session `json:"session"`
}

// Ended is the body of a login.ended entry: somebody logged out.
type Ended struct {
	Session string `json:"session"`
}

// Failures is the body of a login.failed entry.
type Failures struct {
	// Count is how many there were since the entry before.
	Count int `json:"count"`
	// From is where the last of them came from.
	From string `json:"from,omitempty"`
}

// record is the row of a person: all that a request by a session asks for.
type record struct {
	Person
	// Tokens are the ids of their tokens.
	Tokens   []string  `json:"tokens,omitempty"`
	Offers   []Offer   `json:"offers,omitempty"`
	Sessions []Session `json:"sessions,omitempty"`
}

// subject is what entries about a person are about.
func subject(name string) string { return "user/" + name }

// subjectFailed is what entries about failed logins are about: it is not known whose they are.
const subjectFailed = "login/failed"

// Projection keeps the tables of users and tokens.
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{TableUsers, TableTokens} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool {
	switch kind {
	case KindAdded, KindChanged, KindRemoved, KindToken, KindRevoked, KindOffered, KindSucceeded, KindEnded:
		return true
	}
	return false
}

// Apply implements ledger.Projection. What is over by the time of an entry is left out, so that a row does not grow.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	name := strings.TrimPrefix(e.Subject, "user/")
	r, err := readRecord(rows.Get(TableUsers, name))
	if err != nil {
		return err
	}
	if e.Pruned {
		if r.Name == "" {
			return nil
		}
		return r.put(rows) // so that the row has the number of the subject's last entry
	}
	if r.Name == "" {
		r.Person = Person{Name: name, Created: e.Time}
	}
	switch e.Kind {
	case KindRemoved:
		for _, id := range r.Tokens {
			if err := rows.Delete(TableTokens, id); err != nil {
				return err
			}
		}
		return rows.Delete(TableUsers, name)
	case KindToken, KindRevoked:
		err = r.applyToken(e, rows)
	default:
		err = r.apply(e)
	}
	if err != nil {
		return err
	}
	return r.put(rows)
}

// apply changes the record by what concerns nothing but it.
func (r *record) apply(e ledger.Entry) error {
	switch e.Kind {
	case KindAdded:
		p, err := ledger.Read[Person](e)
		if err != nil {
			return err
		}
		r.Person = p
		r.Created = e.Time
	case KindChanged:
		c, err := ledger.Read[Change](e)
		if err != nil {
			return err
		}
		if r.Roles, r.Disabled = c.Roles, c.Disabled; r.Disabled {
			r.Offers, r.Sessions = nil, nil
		}
	case KindOffered:
		o, err := ledger.Read[Offer](e)
		if err != nil {
			return err
		}
		r.Offers = append(newest(r.Offers, e.Time, maxOffers-1), o)
	case KindSucceeded:
		s, err := ledger.Read[Succeeded](e)
		if err != nil {
			return err
		}
		r.Offers = slices.DeleteFunc(r.Offers, func(o Offer) bool { return o.ID == s.Offer })
		r.Sessions = append(newest(r.Sessions, e.Time, maxSessions-1), s.Session)
	case KindEnded:
		ended, err := ledger.Read[Ended](e)
		if err != nil {
			return err
		}
		r.Sessions = slices.DeleteFunc(r.Sessions, func(s Session) bool { return s.ID == ended.Session })
	}
	return nil
}

// applyToken changes the record and the row of a token.
func (r *record) applyToken(e ledger.Entry, rows ledger.Rows) error {
	if e.Kind == KindRevoked {
		revoked, err := ledger.Read[Revoked](e)
		if err != nil {
			return err
		}
		r.Tokens = slices.DeleteFunc(r.Tokens, func(id string) bool { return id == revoked.ID })
		return rows.Delete(TableTokens, revoked.ID)
	}
	t, err := ledger.Read[Token](e)
	if err != nil {
		return err
	}
	t.Created = e.Time
	body, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("write row of token %s: %w", t.ID, err)
	}
	r.Tokens = append(r.Tokens, t.ID)
	return rows.Put(ledger.Row{Table: TableTokens, Key: t.ID, Owner: r.Name, Time: e.Time, Body: body})
}

func (r *record) put(rows ledger.Rows) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write row of user %s: %w", r.Name, err)
	}
	state := ""
	if r.Disabled {
		state = "disabled"
	}
	return rows.Put(ledger.Row{Table: TableUsers, Key: r.Name, State: state, Time: r.Created, Body: body})
}

// readRecord reads the row of a person; a record without a name if there is none.
func readRecord(row ledger.Row, err error) (record, error) {
	var r record
	if errors.Is(err, ledger.ErrNotFound) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(row.Body, &r)
	}
	if err != nil {
		return record{}, fmt.Errorf("read user %s: %w", row.Key, err)
	}
	return r, nil
}

// credential is what has an end.
type credential interface{ hashed() Hashed }

func (h Hashed) hashed() Hashed { return h }

// over says whether a credential has ended.
func (h Hashed) over(now time.Time) bool { return !h.Until.IsZero() && !now.Before(h.Until) }

// newest are the last n that have not ended.
func newest[T credential](all []T, now time.Time, n int) []T {
	all = slices.DeleteFunc(slices.Clone(all), func(one T) bool { return one.hashed().over(now) })
	return all[max(0, len(all)-n):]
}
