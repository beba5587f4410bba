package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// Tables of the projection.
const (
	tableRepository = "repository" // key name; state active or deleted
	tableRef        = "ref"        // key repo#ref, owner repo
	tablePush       = "push"       // key id, owner repo; state intended, received or abandoned
	tableMR         = "mr"         // key repo#number, owner repo; state open, closed or merged
	tableComment    = "comment"    // key repo#number/id, owner repo#number
	tableStatus     = "status"     // key repo/sha/context, owner repo@sha
)

// Kinds of the entries that the remote writes, apart from its events.
const (
	kindRepoCreated   = "repo.created"
	kindRepoChanged   = "repo.changed"
	kindRepoDeleted   = "repo.deleted"
	kindPushIntended  = "push.intended"
	kindPushAbandoned = "push.abandoned"
	kindRefChanged    = "ref.changed"
	kindMRCommented   = "mr.commented"
	kindStatus        = "mr.status"
)

// States of rows.
const (
	stateActive    = "active"
	stateDeleted   = "deleted"
	stateIntended  = "intended"
	stateReceived  = "received"
	stateAbandoned = "abandoned"
	stateOpen      = "open"
	stateClosed    = "closed"
	stateMerged    = "merged"
)

// mrKinds are the entries whose body is the merge request as it is afterwards.
var mrKinds = []string{"mr.opened", "mr.updated", "mr.synced", "mr.labeled", "mr.draft", "mr.ready", "mr.approved", "mr.closed", "mr.reopened", "mr.merged"}

// repoDeleted is the body of repo.deleted; it names the refs because a projection cannot list rows.
type repoDeleted struct {
	forge.Repository
	Refs []string `json:"refs,omitempty"`
}

// Change is one ref that a push changes. Old and New are full hashes; zeros where there was or is nothing.
type Change struct {
	Ref string `json:"ref"`
	Old string `json:"old"`
	New string `json:"new"`
	// Confirmed says that the change was found on disk and recorded.
	Confirmed bool `json:"confirmed,omitempty"`
}

// Push is an intended push, or merge.
type Push struct {
	ID       string   `json:"id"`
	Repo     string   `json:"repo"`
	Actor    string   `json:"actor"`
	Verified bool     `json:"verified,omitempty"`
	Changes  []Change `json:"changes"`
	Options  []string `json:"options,omitempty"`
	// Merge is set where the change is the merge of a merge request.
	Merge *mergeIntent `json:"merge,omitempty"`
	// Seq is the push.intended entry.
	Seq int64 `json:"seq,omitempty"`
}

type mergeIntent struct {
	Number int    `json:"number"`
	SHA    string `json:"sha"`
	Method string `json:"method"`
	// Override is why it was merged though the rules of the target did not let it.
	Override string `json:"override,omitempty"`
}

// refChanged is the body of ref.changed.
type refChanged struct {
	Push string `json:"push,omitempty"` // empty if the change was made on disk
	Repo string `json:"repo"`
	Change
}

// pushAbandoned is the body of push.abandoned.
type pushAbandoned struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

func mrKey(repo string, number int) string    { return repo + "#" + strconv.Itoa(number) }
func refKey(repo, ref string) string          { return repo + "#" + ref }
func statusKey(repo, sha, name string) string { return repo + "/" + sha + "/" + name }

// Projection derives the remote's rows from its entries; the ledger must be opened with it.
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string {
	return []string{tableRepository, tableRef, tablePush, tableMR, tableComment, tableStatus}
}

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool {
	switch kind {
	case kindRepoCreated, kindRepoChanged, kindRepoDeleted, kindPushIntended, kindPushAbandoned, kindRefChanged, kindMRCommented, kindStatus:
		return true
	}
	return isMRKind(kind)
}

func isMRKind(kind string) bool {
	for _, k := range mrKinds {
		if k == kind {
			return true
		}
	}
	return false
}

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Body == nil {
		return nil // erased: nothing is known of it any more
	}
	if err := apply(e, rows); err != nil {
		return fmt.Errorf("apply %s to the git rows: %w", e.Kind, err)
	}
	return nil
}

func apply(e ledger.Entry, rows ledger.Rows) error {
	switch e.Kind {
	case kindRepoCreated, kindRepoChanged:
		return applyRepository(e, rows)
	case kindRepoDeleted:
		return applyDeleted(e, rows)
	case kindPushIntended:
		return applyIntended(e, rows)
	case kindPushAbandoned:
		return applyAbandoned(e, rows)
	case kindRefChanged:
		return applyRef(e, rows)
	case kindMRCommented:
		var c forge.Comment
		if err := json.Unmarshal(e.Body, &c); err != nil {
			return err
		}
		key := mrKey(c.Repo, c.Number)
		return rows.Put(ledger.Row{Table: tableComment, Key: key + "/" + c.ID, Owner: key, Time: c.Created, Body: e.Body})
	case kindStatus:
		var s forge.CommitStatus
		if err := json.Unmarshal(e.Body, &s); err != nil {
			return err
		}
		return rows.Put(ledger.Row{Table: tableStatus, Key: statusKey(s.Repo, s.SHA, s.Context), Owner: s.Repo + "@" + s.SHA,
			State: s.State, Time: s.Time, Body: e.Body})
	}
	return applyMR(e, rows)
}

// rowBody reads one row's body into v; false if there is no such row.
func rowBody(rows ledger.Rows, table, key string, v any) (bool, error) {
	row, err := rows.Get(table, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(row.Body, v)
}

func putRow(rows ledger.Rows, row ledger.Row, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	row.Body = raw
	return rows.Put(row)
}

func putRepository(rows ledger.Rows, repo forge.Repository) error {
	state := stateActive
	if repo.Deleted {
		state = stateDeleted
	}
	return putRow(rows, ledger.Row{Table: tableRepository, Key: repo.Name, State: state, Time: repo.Created}, repo)
}

func applyRepository(e ledger.Entry, rows ledger.Rows) error {
	var repo, before forge.Repository
	if err := json.Unmarshal(e.Body, &repo); err != nil {
		return err
	}
	if _, err := rowBody(rows, tableRepository, repo.Name, &before); err != nil {
		return err
	}
	repo.LastMR = max(repo.LastMR, before.LastMR)
	return putRepository(rows, repo)
}

func applyDeleted(e ledger.Entry, rows ledger.Rows) error {
	var d repoDeleted
	if err := json.Unmarshal(e.Body, &d); err != nil {
		return err
	}
	for _, ref := range d.Refs {
		if err := rows.Delete(tableRef, refKey(d.Name, ref)); err != nil {
			return err
		}
	}
	d.Deleted = true
	return putRepository(rows, d.Repository)
}

func applyIntended(e ledger.Entry, rows ledger.Rows) error {
	var p Push
	if err := json.Unmarshal(e.Body, &p); err != nil {
		return err
	}
	return putRow(rows, ledger.Row{Table: tablePush, Key: p.ID, Owner: p.Repo, State: stateIntended, Time: e.Time, Stamp: ledger.Stamp{Field: "seq"}}, p)
}

func applyAbandoned(e ledger.Entry, rows ledger.Rows) error {
	var a pushAbandoned
	if err := json.Unmarshal(e.Body, &a); err != nil {
		return err
	}
	row, err := rows.Get(tablePush, a.ID)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	row.State = stateAbandoned
	return rows.Put(row)
}

func applyRef(e ledger.Entry, rows ledger.Rows) error {
	var c refChanged
	if err := json.Unmarshal(e.Body, &c); err != nil {
		return err
	}
	var err error
	if c.New == git.Zero {
		err = rows.Delete(tableRef, refKey(c.Repo, c.Ref))
	} else {
		err = putRow(rows, ledger.Row{Table: tableRef, Key: refKey(c.Repo, c.Ref), Owner: c.Repo, Time: e.Time}, c)
	}
	if err != nil || c.Push == "" {
		return err
	}
	row, err := rows.Get(tablePush, c.Push)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var p Push
	if err := json.Unmarshal(row.Body, &p); err != nil {
		return err
	}
	open := false
	for i, pc := range p.Changes {
		if pc.Ref == c.Ref && pc.Old == c.Old && pc.New == c.New {
			p.Changes[i].Confirmed = true
		}
		open = open || !p.Changes[i].Confirmed
	}
	if !open {
		row.State = stateReceived
	}
	return putRow(rows, row, p)
}

func applyMR(e ledger.Entry, rows ledger.Rows) error {
	var c mrChanged
	if err := json.Unmarshal(e.Body, &c); err != nil {
		return err
	}
	m := c.MergeRequest
	if e.Kind == "mr.opened" {
		var repo forge.Repository
		found, err := rowBody(rows, tableRepository, m.Repo, &repo)
		if err != nil {
			return err
		}
		if found && repo.LastMR < m.Number {
			repo.LastMR = m.Number
			if err := putRepository(rows, repo); err != nil {
				return err
			}
		}
	}
	return putRow(rows, ledger.Row{Table: tableMR, Key: mrKey(m.Repo, m.Number), Owner: m.Repo, State: m.State, Time: m.Created,
		Labels: map[string]string{"source": m.Source, "target": m.Target}}, m)
}
