// Package posts writes statuses and comments to forges. What a forge elsewhere is to be told is on record before anybody hears that it
// was taken, and is told again until the forge has it: a forge that is down for a while loses nothing.
//
// The forge that is part of this server is written to at once. What it is told is an entry of the same ledger, so an outbox before it
// would record the wish and its fulfilment in one place, and whoever asked would learn later what is wrong with it.
package posts

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Instances finds forges by name; forge.Forges is one.
type Instances interface {
	Instance(ctx context.Context, name string) (forge.Instance, error)
}

// Options of a Controller; all are required.
type Options struct {
	Ledger ledger.Ledger
	Forges Instances
	Now    func() time.Time
	Log    *slog.Logger
}

// Controller takes posts and sends them. Methods are safe for concurrent use.
type Controller struct {
	o Options

	mu    sync.Mutex
	waits map[string]pause // forges that did not take the last that they were told
}

// pause is how long a forge is left alone, after how many failures in a row, and why.
type pause struct {
	until  time.Time
	fails  int
	reason string
}

var _ control.Service = (*Controller)(nil)

// New returns a controller; nothing is sent until Run.
func New(o Options) *Controller { return &Controller{o: o, waits: map[string]pause{}} }

// Post is one status or comment.
type Post struct {
	// ID tells it from an earlier post in the same place.
	ID string `json:"id"`
	// Instance names the forge.
	Instance string `json:"instance"`
	Repo     string `json:"repo"`
	// SHA and Status are set for a status of a commit.
	SHA    string        `json:"sha,omitempty"`
	Status *forge.Status `json:"status,omitempty"`
	// Number, Marker and Body are set for a comment on a merge request.
	Number int    `json:"number,omitempty"`
	Marker string `json:"marker,omitempty"`
	Body   string `json:"body,omitempty"`
	// Asked is when it was taken.
	Asked time.Time `json:"asked"`
}

// Key is the place that it is for: a later post for the same place takes its place.
func (p Post) Key() string {
	parts := []string{p.Instance, p.Repo, "sha", p.SHA}
	if p.Status != nil {
		parts = append(parts, p.Status.Context)
	} else {
		parts = []string{p.Instance, p.Repo, "mr", strconv.Itoa(p.Number), p.Marker}
	}
	for i := range parts {
		parts[i] = url.QueryEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// same reports whether two posts say the same.
func (p Post) same(q Post) bool {
	return p.Body == q.Body && (p.Status == nil) == (q.Status == nil) && (p.Status == nil || *p.Status == *q.Status)
}

// The most that is taken, in bytes: forges take less.
const (
	maxBody = 64 << 10
	maxText = 4 << 10
)

// SetStatus puts a status of a commit on a forge. It returns when that is on record; forge.WithBy says in the context for whom.
func (c *Controller) SetStatus(ctx context.Context, instance, repo, sha string, s forge.Status) error {
	if s.Context == "" {
		s.Context = "default"
	}
	in, err := c.o.Forges.Instance(ctx, instance)
	switch {
	case err != nil:
		return fmt.Errorf("set status of %s: %w", repo, err)
	case in.Local:
		return in.Forge.SetStatus(ctx, repo, sha, s)
	case len(s.Context)+len(s.Description)+len(s.URL) > maxText:
		return failure.Invalidf("set status of %s: it has more than %d bytes", repo, maxText)
	}
	return c.take(ctx, Post{Instance: instance, Repo: repo, SHA: sha, Status: &s})
}

// Comment puts a comment on a merge request of a forge, or changes the one with the same marker. It returns when that is on record.
func (c *Controller) Comment(ctx context.Context, instance, repo string, number int, marker, body string) error {
	in, err := c.o.Forges.Instance(ctx, instance)
	switch {
	case err != nil:
		return fmt.Errorf("comment on %s!%d: %w", repo, number, err)
	case in.Local:
		return in.Forge.Comment(ctx, repo, number, marker, body)
	case marker == "" || len(marker) > maxText || len(body) > maxBody:
		return failure.Invalidf("comment on %s!%d: it needs a marker, and may have %d bytes", repo, number, maxBody)
	}
	return c.take(ctx, Post{Instance: instance, Repo: repo, Number: number, Marker: marker, Body: body})
}

// take records a post, and has it sent. One that says what was said last, or is to be said, changes nothing.
func (c *Controller) take(ctx context.Context, p Post) error {
	by := forge.ByOf(ctx)
	p.Asked = c.o.Now().UTC()
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	p.ID = hex.EncodeToString(id[:])
	key := p.Key()
	subject := subjectPrefix + key
	// What is asked comes from outside: it rests on the row alone, which is read within.
	err := c.o.Ledger.Write(ctx, ledger.Anyone(subject), func(tx ledger.Tx) error {
		before, err := rowOf(tx, key)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		if err == nil && before.State != stateFailed && before.same(p) {
			return nil
		}
		asked, err := tx.Append(ledger.Draft{Actor: by.Actor, Kind: kindAsked, Subject: subject, Cause: ledger.At(by.Cause), Body: p})
		if err != nil {
			return err
		}
		body, err := json.Marshal(p)
		if err != nil {
			return err
		}
		return tx.Enqueue(ledger.Work{Queue: queue, Key: key, Due: tx.Now(), Cause: asked, Body: body})
	})
	if err != nil {
		return fmt.Errorf("record what forge %s is to be told: %w", p.Instance, err)
	}
	return nil
}

func rowOf(tx ledger.Tx, key string) (Row, error) {
	var r Row
	row, err := tx.Get(Table, key)
	if err == nil {
		err = json.Unmarshal(row.Body, &r)
	}
	return r, err
}
