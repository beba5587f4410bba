package people

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// errCredential does not say why: whoever tries should not learn from it.
var errCredential = failure.New(failure.Unauthenticated, "the credential is not valid, or has ended") //nolint:gochecknoglobals // a constant

// Offer makes a code by which a person may log in once, until [OfferLife] is over. As is what a holder of the admin token is called.
func (s *Store) Offer(ctx context.Context, by, name, as string) (Text, time.Time, error) {
	text, hashed := fresh(rand.Reader, "", name)
	hashed.Until, hashed.Epoch = s.now().Add(OfferLife).UTC(), s.epoch
	if name == Admin {
		hashed.As = as
	}
	err := s.write(ctx, name, func(r record, known bool) (ledger.Draft, error) {
		switch r = asAdmin(r, name); {
		case !known && name != Admin:
			return ledger.Draft{}, missing(name)
		case r.Robot:
			return ledger.Draft{}, failure.WithHint(failure.Conflictf("%s is a robot, which does not log in", name), "make a token for it")
		case r.Disabled:
			return ledger.Draft{}, failure.Conflictf("user %s is disabled", name)
		}
		return ledger.Draft{Actor: by, Kind: KindOffered, Body: Offer{hashed}}, nil
	})
	return text, hashed.Until, err
}

// LogIn takes a code for a session and gives its text. Of two that use the same code one gets a session. From is the client's address.
func (s *Store) LogIn(ctx context.Context, code, from string) (Text, time.Time, error) {
	given, ok := parse("", code)
	if !ok {
		return Text{}, time.Time{}, errCredential
	}
	text, hashed := fresh(rand.Reader, "", given.name)
	hashed.Until, hashed.Epoch = s.now().Add(SessionLife).UTC(), s.epoch
	err := s.write(ctx, given.name, func(r record, _ bool) (ledger.Draft, error) {
		r = asAdmin(r, given.name)
		offer, found := find(r.Offers, given)
		if !found || !s.counts(offer.Hashed) || r.Disabled || r.Name == "" {
			return ledger.Draft{}, errCredential
		}
		hashed.As = offer.As
		actor := r.identity(offer.As).String()
		body := Succeeded{Offer: offer.ID, Session: Session{Hashed: hashed, Way: WayCode, From: from}}
		return ledger.Draft{Actor: actor, Kind: KindSucceeded, Body: body, Unique: "login/" + offer.ID, Horizon: 24 * time.Hour}, nil
	})
	if errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrConflict) {
		err = errCredential
	}
	return text, hashed.Until, err
}

// LogOut ends a session.
func (s *Store) LogOut(ctx context.Context, session string) error {
	given, ok := parse("", session)
	if !ok {
		return errCredential
	}
	return s.write(ctx, given.name, func(r record, _ bool) (ledger.Draft, error) {
		found, ok := find(r.Sessions, given)
		if !ok {
			return ledger.Draft{}, errCredential
		}
		return ledger.Draft{Actor: asAdmin(r, given.name).identity(found.As).String(), Kind: KindEnded, Body: Ended{Session: found.ID}}, nil
	})
}

// BySession tells whose session it is.
func (s *Store) BySession(ctx context.Context, text string) (access.Identity, error) {
	given, ok := parse("", text)
	if !ok {
		return access.Identity{}, errCredential
	}
	r, err := s.holder(ctx, given.name)
	if err != nil {
		return access.Identity{}, err
	}
	session, found := find(r.Sessions, given)
	if !found || !s.counts(session.Hashed) || r.Robot {
		return access.Identity{}, errCredential
	}
	return r.identity(session.As), nil
}

// ByToken tells whose token it is, and what it is worth. As is what whoever sends it says they are called, which counts for tokens of [Admin] only.
func (s *Store) ByToken(ctx context.Context, text, as string) (access.Identity, error) {
	given, ok := parse(tokenPrefix, text)
	if !ok {
		return access.Identity{}, errCredential
	}
	t, err := readToken(s.ledger.Row(ctx, TableTokens, given.id))
	if failure.Is(err, failure.NotFound) {
		return access.Identity{}, errCredential
	}
	if err != nil {
		return access.Identity{}, failure.Mark(failure.Waiting, err)
	}
	if !given.proves(t.Hashed) || t.over(s.now()) {
		return access.Identity{}, errCredential
	}
	r, err := s.holder(ctx, t.User)
	if err != nil {
		return access.Identity{}, err
	}
	id := r.identity(cmp.Or(as, t.As))
	id.Only = t.Scopes
	return id, nil
}

// IsToken reports whether a text looks like a token of this package.
func IsToken(text string) bool {
	_, ok := parse(tokenPrefix, text)
	return ok
}

// holder reads whoever a credential names, if credentials of theirs count.
func (s *Store) holder(ctx context.Context, name string) (record, error) {
	r, err := s.person(ctx, name)
	switch {
	case failure.Is(err, failure.NotFound):
		return r, errCredential
	case err != nil:
		return r, failure.Mark(failure.Waiting, err)
	case r.Disabled:
		return r, errCredential
	}
	return r, nil
}

// counts says whether a code or a session is of this server's epoch and has not ended.
func (s *Store) counts(h Hashed) bool { return h.Epoch == s.epoch && !h.over(s.now()) }

// identity is somebody as the policy knows them. The admin token is nobody's own, so what a holder is called is a claim.
func (r record) identity(as string) access.Identity {
	if r.Name == Admin {
		return access.Administrator(as)
	}
	id := access.Identity{Person: r.Name, Actor: "user:" + r.Name, Verified: true}
	if r.Robot {
		id.Actor = "robot:" + r.Name
	}
	id.Role, id.Bindings = access.Split(r.Roles)
	return id
}

// failures are the logins that failed since the last that is on record.
type failures struct {
	mu    sync.Mutex
	count int
	from  string
	next  time.Time
}

// failuresEvery is the least time between two entries about failed logins: strangers must not fill the ledger.
const failuresEvery = time.Minute

// Fail counts a login that failed.
func (s *Store) Fail(ctx context.Context, from string) error {
	s.failed.add(1, from)
	return s.RecordFailures(ctx)
}

// RecordFailures records the logins that failed since it last did, unless that was a moment ago.
func (s *Store) RecordFailures(ctx context.Context) error {
	body := s.failed.take(s.now())
	if body.Count == 0 {
		return nil
	}
	err := s.ledger.Write(ctx, ledger.Anyone(subjectFailed), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "system", Kind: KindFailed, Subject: subjectFailed, Body: body})
		return err
	})
	if err != nil {
		s.failed.add(body.Count, body.From)
	}
	return err
}

func (f *failures) add(n int, from string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.from = f.count+n, from
}

// take gives what is to be recorded now, if anything.
func (f *failures) take(now time.Time) Failures {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == 0 || now.Before(f.next) {
		return Failures{}
	}
	taken := Failures{Count: f.count, From: f.from}
	f.count, f.next = 0, now.Add(failuresEvery)
	return taken
}
