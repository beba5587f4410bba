package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// batch is one decision about a repository, made ready under the repository's lock and written in one transaction.
type batch struct {
	r     *Remote
	repo  forge.Repository
	items []planned
	heads map[int]string // merge requests whose head is to be kept, by number
	err   error
}

type planned struct {
	draft ledger.Draft
	cause cause
	event *event.Event
}

// cause is what led to an entry: an earlier item of the batch (counted from 1), or else an entry of the ledger.
type cause struct {
	item int
	seq  int64
}

func (r *Remote) newBatch(repo forge.Repository) *batch {
	return &batch{r: r, repo: repo, heads: map[int]string{}}
}

func (b *batch) add(d ledger.Draft, c cause) cause {
	b.items = append(b.items, planned{draft: d, cause: c})
	return cause{item: len(b.items)}
}

// write appends everything. The context's end does not undo what the disk already shows, so callers that
// confirm changes pass a context of their own.
func (b *batch) write(ctx context.Context) error {
	if b.err != nil {
		return b.err
	}
	if len(b.items) == 0 {
		return nil
	}
	err := b.r.ledger.Write(ctx, ledger.On("repo/"+b.repo.Name), func(tx ledger.Tx) error {
		made := make([]ledger.Ref, len(b.items)+1)
		for i, it := range b.items {
			from := ledger.At(it.cause.seq)
			if it.cause.item > 0 {
				from = made[it.cause.item]
			}
			ref, err := b.append(tx, it, from)
			if err != nil {
				return err
			}
			made[i+1] = ref
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record changes of %s: %w", b.repo.Name, err)
	}
	return nil
}

func (b *batch) append(tx ledger.Tx, it planned, from ledger.Ref) (ledger.Ref, error) {
	if it.event != nil {
		return b.r.opt.Record(tx, b.repo.Name, *it.event, from)
	}
	d := it.draft
	d.Cause = from
	return tx.Append(d)
}

// recordEvent is the default of Options.Record.
func recordEvent(tx ledger.Tx, repo string, e event.Event, from ledger.Ref) (ledger.Ref, error) {
	return tx.Append(ledger.Draft{
		Actor: e.Actor, Kind: event.KindReceived, Subject: "delivery/" + repo + "/" + e.ID,
		Cause: from, Body: event.Received{Event: e}, Unique: event.DeliveryKey(e),
	})
}

// event adds an event about the repository. unique tells it from every other event of the remote, for ever.
func (b *batch) event(actor forge.Actor, g event.Git, body map[string]any, unique string, c cause) cause {
	g.Forge, g.Instance, g.Repo = "tiphys", b.r.host(), b.r.repoOf(b.repo)
	data, err := json.Marshal(map[string]any{
		"headers": map[string][]string{"X-Tiphys-Event": {g.Kind}},
		"body":    body,
		"git":     g,
	})
	if err != nil {
		b.err = fmt.Errorf("write event of %s: %w", b.repo.Name, err)
		return c
	}
	ns, source, subject := b.r.opt.Address(b.repo.Name)
	verified := "none"
	if actor.Verified {
		verified = "local"
	}
	e := event.Event{
		ID: eventID(unique), Type: "git", Source: source, Subject: subject, Namespace: ns, Time: b.r.now(), Data: data, Git: &g,
		Delivery: "tiphys/" + unique, Actor: actor.String(), Verified: verified,
	}
	b.items = append(b.items, planned{event: &e, cause: c})
	return cause{item: len(b.items)}
}

func (r *Remote) now() time.Time { return r.opt.Now().UTC().Truncate(time.Microsecond) }

// host names this remote among forges.
func (r *Remote) host() string {
	if u, err := url.Parse(r.opt.BaseURL); err == nil {
		return u.Host
	}
	return ""
}

func (r *Remote) repoOf(repo forge.Repository) event.Repo {
	return event.Repo{
		ID: repo.Name, FullName: repo.Name, WebURL: r.opt.BaseURL + "/repositories/" + repo.Name,
		CloneHTTP: r.URL(repo.Name), DefaultBranch: repo.DefaultBranch,
	}
}

// project is the repository as GitLab's webhooks have it, for sensors that were written for them.
func (b *batch) project() map[string]any {
	name := b.repo.Name
	return map[string]any{
		"name": name[strings.LastIndex(name, "/")+1:], "path_with_namespace": name, "default_branch": b.repo.DefaultBranch,
		"git_http_url": b.r.URL(name), "web_url": b.r.opt.BaseURL + "/repositories/" + name,
	}
}
