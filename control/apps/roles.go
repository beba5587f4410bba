package apps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// Roles tells what people have by the roles of AppProjects. It is asked at each request, so it keeps the projects and what belongs to them,
// and reads again what the ledger's entries say has changed. Its methods are safe for concurrent use.
type Roles struct {
	definitions definitions.Reader
	ledger      ledger.Reader

	mu sync.Mutex
	// projects are those that are declared as of the entry projectsAt.
	projects   []definitions.Seen[manifest.AppProject]
	projectsAt int64
	// owned has the project of each Application as of the entry ownedAt.
	owned   map[string]string
	ownedAt int64
}

// NewRoles makes a Roles. It reads nothing before somebody asks.
func NewRoles(d definitions.Reader, l ledger.Reader) *Roles { return &Roles{definitions: d, ledger: l} }

// Of gives somebody's membership; nothing for who is in no group. A project that cannot be read gives nobody anything, and takes nothing.
func (r *Roles) Of(ctx context.Context, person string) (access.Membership, error) {
	var m access.Membership
	if person == "" {
		return m, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.lookAtProjects(ctx); err != nil {
		return m, fmt.Errorf("read the roles of projects: %w", err)
	}
	for _, p := range r.projects {
		for _, role := range p.Value.Spec.Roles {
			if !slices.Contains(role.Groups, person) {
				continue
			}
			for _, line := range role.Policies {
				if rule, ok := ruleOf(p.Name, role.Name, line); ok {
					m.Rules = append(m.Rules, rule)
				}
			}
		}
	}
	if len(m.Rules) == 0 {
		return m, nil
	}
	if err := r.lookAtApplications(ctx); err != nil {
		return access.Membership{}, fmt.Errorf("read applications: %w", err)
	}
	m.Applications = map[string]string{}
	for key, project := range r.owned {
		if slices.ContainsFunc(m.Rules, func(rule access.ProjectRule) bool { return rule.Project == project }) {
			m.Applications[key] = project
		}
	}
	return m, nil
}

// lookAtProjects reads the projects again if one was declared or deleted.
func (r *Roles) lookAtProjects(ctx context.Context) error {
	if r.projects != nil {
		news, next, err := r.definitions.Changes(ctx, r.projectsAt, manifest.KindName[manifest.AppProject]())
		if err != nil {
			return err
		}
		if len(news) == 0 {
			r.projectsAt = max(r.projectsAt, next)
			return nil
		}
	}
	at, err := r.head(ctx) // before they are read: what comes meanwhile is read once more
	if err != nil {
		return err
	}
	list, err := definitions.All[manifest.AppProject](ctx, r.definitions, "")
	if err != nil {
		return err
	}
	r.projects, r.projectsAt = append([]definitions.Seen[manifest.AppProject]{}, list...), at
	return nil
}

// applicationEntries are the kinds of entries that change the row of an Application.
var applicationEntries = []string{deploy.KindApplicationSet, deploy.KindApplicationDeleted, deploy.KindApplicationChanged, deploy.KindHealthChanged,
	deploy.KindSyncStarted, deploy.KindSyncStep, deploy.KindSyncFinished}

// mostNews is how many entries are followed; after more all Applications are read.
const mostNews = 1000

// lookAtApplications follows which Application belongs to which project.
func (r *Roles) lookAtApplications(ctx context.Context) error {
	if r.owned == nil {
		return r.readApplications(ctx)
	}
	entries, err := r.ledger.Entries(ctx, ledger.EntryQuery{After: r.ownedAt, Kinds: applicationEntries, Limit: mostNews, Bare: true})
	if err != nil {
		return err
	}
	if len(entries) == mostNews {
		return r.readApplications(ctx)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		key := strings.TrimPrefix(e.Subject, "application/")
		if seen[key] {
			continue
		}
		seen[key] = true
		row, err := r.ledger.Row(ctx, deploy.TableApplication, key)
		if errors.Is(err, ledger.ErrNotFound) {
			delete(r.owned, key)
			continue
		}
		if err != nil {
			return err // it is followed from the same place the next time
		}
		r.own(row)
	}
	if len(entries) > 0 {
		r.ownedAt = entries[len(entries)-1].Seq
	}
	return nil
}

func (r *Roles) readApplications(ctx context.Context) error {
	r.owned = nil
	at, err := r.head(ctx)
	if err != nil {
		return err
	}
	owned := map[string]string{}
	for row, err := range ledger.Each(ctx, r.ledger, ledger.Query{Table: deploy.TableApplication}) {
		if err != nil {
			return err
		}
		if project, ok := projectOfRow(row); ok {
			owned[row.Key] = project
		}
	}
	r.owned, r.ownedAt = owned, at
	return nil
}

func (r *Roles) own(row ledger.Row) {
	delete(r.owned, row.Key)
	if project, ok := projectOfRow(row); ok {
		r.owned[row.Key] = project
	}
}

// projectOfRow is the project of an Application; one that cannot be read is nobody's by a role until it can be.
func projectOfRow(row ledger.Row) (string, bool) {
	var a deploy.ApplicationRow
	if err := json.Unmarshal(row.Body, &a); err != nil {
		return "", false
	}
	return projectOf(a.Spec), true
}

func (r *Roles) head(ctx context.Context) (int64, error) {
	head, err := r.ledger.Head(ctx)
	return head.Seq, err
}

// ruleOf is a line of a role; false for one that does not say what can be given, which was refused when it was declared.
func ruleOf(project, role, line string) (access.ProjectRule, bool) {
	p, err := manifest.ParseProjectPolicy(project, role, line)
	rule := access.ProjectRule{Project: project, Role: role, Kind: "Application", Action: p.Action, Object: p.Object, Deny: p.Deny}
	if _, err := budget.ParseGlob(p.Object); err != nil && p.Deny {
		rule.Object = "*" // nobody knows what it was to deny
	}
	if p.Logs {
		rule.Kind = access.ApplicationLog
	}
	return rule, err == nil
}
