package apps

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/preview"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// set is the state of one ApplicationSet.
type set struct {
	row   deploy.SetRow
	known bool // row is in the ledger
}

func (c *Controller) loadSet(ctx context.Context, key string) (*set, error) {
	s := &set{}
	s.row.Namespace, s.row.Name, _ = strings.Cut(key, "/")
	row, err := c.o.Ledger.Row(ctx, deploy.TableSet, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(row.Body, &s.row)
	}
	if err != nil {
		return nil, fmt.Errorf("read ApplicationSet %s: %w", key, err)
	}
	s.known = true
	return s, nil
}

// handleSet expands one set. A set's own trouble, or its forge's, keeps its Applications and is shown on it.
func (c *Controller) handleSet(ctx context.Context, key string, s *set, _ []message) []error {
	c.sets.take(key)
	c.sets.at(key, c.o.Poll)
	definition := c.wanted.set(key)
	if definition == nil {
		return []error{c.setGone(ctx, key, s)}
	}
	next := s.row
	next.Digest = definition.digest
	problem := definition.unreadable
	if problem == "" {
		made, said, err := c.expand(ctx, key, *definition)
		if err != nil && ctx.Err() != nil {
			return []error{err}
		}
		if problem = said; err != nil {
			problem = err.Error()
		} else {
			next.Applications = slices.Sorted(maps.Keys(made))
			for _, changed := range c.wanted.publish(key, made) {
				c.apps.wake(changed, true)
			}
			if twins := c.wanted.twins(key); len(twins) > 0 {
				if problem != "" {
					problem += "; "
				}
				problem += fmt.Sprintf("it makes Applications that are declared elsewhere, which stay as they are there: %s", strings.Join(twins, ", "))
			}
		}
	}
	next.Conditions = next.Conditions.Set(deploy.ConditionErrorOccurred, problem, c.o.Now())
	return []error{c.recordSet(ctx, key, s, next, definition.seq)}
}

func (c *Controller) recordSet(ctx context.Context, key string, s *set, next deploy.SetRow, cause int64) error {
	if s.known && reflect.DeepEqual(s.row, next) {
		return nil
	}
	if next.Applications == nil {
		next.Applications = []string{}
	}
	err := c.o.Ledger.Write(ctx, ledger.On(originOf(key)), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "system", Kind: deploy.KindSetChanged, Subject: originOf(key), Cause: ledger.At(cause), Body: next})
		return err
	})
	if err != nil {
		return fmt.Errorf("record ApplicationSet %s: %w", key, err)
	}
	s.row, s.known = next, true
	return nil
}

// setGone forgets a set whose deletion is on record. Its Applications see for themselves.
func (c *Controller) setGone(ctx context.Context, key string, s *set) error {
	at, err := c.undefined(ctx, "ApplicationSet", key)
	if err != nil {
		return err
	}
	if !at.gone {
		if !s.known {
			return nil
		}
		next := s.row
		next.Conditions = next.Conditions.Set(deploy.ConditionErrorOccurred, at.held, c.o.Now())
		return c.recordSet(ctx, key, s, next, 0)
	}
	for _, changed := range c.wanted.publish(key, nil) {
		c.apps.wake(changed, true)
	}
	c.sets.forget(key)
	if !s.known {
		return nil
	}
	err = c.o.Ledger.Write(ctx, ledger.On(originOf(key)), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "system", Kind: deploy.KindSetDeleted, Subject: originOf(key)})
		return err
	})
	if err != nil {
		return fmt.Errorf("record that ApplicationSet %s is gone: %w", key, err)
	}
	*s = set{row: deploy.SetRow{Namespace: s.row.Namespace, Name: s.row.Name}}
	return nil
}

// expand gives the Applications of one set by namespace/name, and what is not as the set has it: elements that make none, and
// deletions that are held back. It is empty if all is.
func (c *Controller) expand(ctx context.Context, key string, d defined) (map[string]*declared, string, error) {
	in := preview.Input{Set: d.set}
	rows, err := all(ctx, c.o.Ledger, ledger.Query{Table: deploy.TableApplication, Owner: originOf(key)})
	if err != nil {
		return nil, "", err
	}
	previous := map[string]deploy.ApplicationRow{}
	for _, row := range rows {
		var a deploy.ApplicationRow
		if err := json.Unmarshal(row.Body, &a); err != nil {
			return nil, "", fmt.Errorf("read application %s: %w", row.Key, err)
		}
		if !a.Deleting {
			previous[a.Key()] = a
			in.Previous = append(in.Previous, applicationOf(a))
		}
	}
	if in.Base, err = c.base(ctx, in.Set); err != nil {
		return nil, "", err
	}
	for _, g := range in.Set.Spec.Generators {
		in.Replies = append(in.Replies, c.ask(ctx, g))
	}
	out, err := quarantine.Value(c.o.Quarantine, quarantine.Version(quarantine.KindApplicationSet, key, d.digest), func() (preview.Output, error) {
		out := preview.Expand(in)
		return out, out.Err
	})
	if err != nil {
		return nil, "", err
	}
	var said []string
	if len(out.Faults) > 0 {
		said = append(said, "some elements make no Application: "+strings.Join(out.Faults, "; "))
	}
	if out.Held != "" {
		said = append(said, "deletions are held back: "+out.Held)
		out.Applications = append(out.Applications, dropped(in.Previous, out.Applications)...)
	}
	made := map[string]*declared{}
	for _, a := range out.Applications {
		if a.Namespace == "" {
			a.Namespace = in.Set.Namespace
		}
		if made[a.Namespace+"/"+a.Name], err = c.made(ctx, key, d, a); err != nil {
			return nil, "", err
		}
	}
	return made, strings.Join(said, "; "), nil
}

// dropped are those of previous that are not in next.
func dropped(previous, next []manifest.Application) []manifest.Application {
	still := map[string]bool{}
	for _, a := range next {
		still[a.Name] = true
	}
	var found []manifest.Application
	for _, a := range previous {
		if !still[a.Name] {
			found = append(found, a)
		}
	}
	return found
}

// made is an Application that a set makes, as a definition.
func (c *Controller) made(ctx context.Context, key string, d defined, a manifest.Application) (*declared, error) {
	raw, err := json.Marshal([]any{a.Labels, a.Annotations, a.Finalizers, a.Spec})
	if err != nil {
		return nil, fmt.Errorf("write application %s: %w", a.Name, err)
	}
	cause, err := c.causeOf(ctx, a.Annotations[preview.AnnotationHead])
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	return &declared{Application: a, origin: originOf(key), digest: "sha256:" + hex.EncodeToString(sum[:]), seq: max(d.seq, cause)}, nil
}

func applicationOf(a deploy.ApplicationRow) manifest.Application {
	m := manifest.Application{Spec: a.Spec}
	m.Namespace, m.Name, m.Labels, m.Annotations, m.Finalizers = a.Namespace, a.Name, a.Labels, a.Annotations, a.Finalizers
	return m
}

// ask asks the forge for one generator.
func (c *Controller) ask(ctx context.Context, g manifest.ApplicationSetGenerator) preview.Reply {
	if g.PullRequest == nil {
		return preview.Reply{}
	}
	kind, repo := preview.Repository(g.PullRequest)
	var f manifest.PullRequestForge
	for _, given := range []*manifest.PullRequestForge{g.PullRequest.GitHub, g.PullRequest.GitLab, g.PullRequest.Gitea, g.PullRequest.Tiphys} {
		if given != nil {
			f = *given
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	list, err := c.o.Forges.PullRequests(ctx, kind, repo, f)
	if err != nil {
		return preview.Reply{Err: err, NotFound: errors.Is(err, forge.ErrNotFound)}
	}
	return preview.Reply{PullRequests: list}
}

// base is the release that a set's previews are completed from now; empty if there is none.
func (c *Controller) base(ctx context.Context, set manifest.ApplicationSet) (string, error) {
	text := cmp.Or(set.Annotations[promote.AnnotationRelease], set.Spec.Template.Metadata.Annotations[promote.AnnotationRelease])
	wishes, _, err := promote.Wishes(text)
	name := promote.Own(wishes).Name
	if err != nil || name == "" || strings.Contains(text, "{{") {
		return "", nil // the Applications that it makes say what is wrong with it
	}
	var source struct {
		Source struct {
			RepoURL string `json:"repoURL"`
		} `json:"source"`
	}
	if err := json.Unmarshal(set.Spec.Template.Spec, &source); err != nil {
		source.Source.RepoURL = "" // Expand says what is wrong with the template.
	}
	releases, err := c.releases(ctx, set.Namespace, name, source.Source.RepoURL)
	if err != nil {
		return "", err
	}
	branch := "main"
	if url := source.Source.RepoURL; url != "" && !strings.Contains(url, "{{") {
		ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
		defer cancel()
		if branch, err = c.o.Repositories.DefaultBranch(ctx, url); err != nil {
			return "", fmt.Errorf("find the default branch of %s: %w", url, err)
		}
	}
	r, found := promote.Latest(releases, promote.Accepts(set.Annotations, branch))
	if !found {
		return "", nil
	}
	return promote.Key(r), nil
}
