package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// settleTimeout is the most time for recording what the refs of one repository show.
const settleTimeout = 5 * time.Minute

// refStep is one change that happened on disk and is to be recorded.
type refStep struct {
	push *Push // nil if nobody announced it: made on disk
	Change
}

// planSteps finds out which changes lead from the refs that the ledger knows to those on disk. Where the
// intended pushes explain the difference they are used, in the order in which they must have happened (Git
// compares the old value before it sets a new one); what they do not explain is a change made on disk.
// sure are changes that Git said have happened, even if a later one undid them; they come first in pushes' order.
func planSteps(known, disk map[string]string, pushes []Push, sure []refStep) []refStep {
	refs := map[string]bool{}
	for ref := range known {
		refs[ref] = true
	}
	for ref := range disk {
		refs[ref] = true
	}
	for _, s := range sure {
		refs[s.Ref] = true
	}
	var chains [][]refStep
	for ref := range refs {
		if chain := planRef(ref, orZero(known[ref]), orZero(disk[ref]), pushes, sure); len(chain) > 0 {
			chains = append(chains, chain)
		}
	}
	// What is deleted comes last, so that a branch that was merged and deleted at once counts as merged.
	gone := func(c []refStep) bool { return c[len(c)-1].New == git.Zero }
	sort.Slice(chains, func(i, j int) bool {
		if a, b := gone(chains[i]), gone(chains[j]); a != b {
			return b
		}
		return chains[i][0].Ref < chains[j][0].Ref
	})
	return slices.Concat(chains...)
}

func orZero(sha string) string {
	if sha == "" {
		return git.Zero
	}
	return sha
}

// planRef finds the steps of one ref.
func planRef(ref, from, to string, pushes []Push, sure []refStep) []refStep {
	var edges []refStep
	for i := range pushes {
		for _, c := range pushes[i].Changes {
			if c.Ref == ref && !c.Confirmed && c.Old != c.New {
				edges = append(edges, refStep{push: &pushes[i], Change: c})
			}
		}
	}
	var chain []refStep
	link := func(goal string) {
		path, ok := shortest(edges, from, goal)
		if !ok {
			path = []refStep{{Change: Change{Ref: ref, Old: from, New: goal}}}
		}
		chain = append(chain, path...)
		for _, s := range path {
			edges = slices.DeleteFunc(edges, func(e refStep) bool { return e == s })
		}
		from = goal
	}
	for _, s := range sure {
		if s.Ref != ref || !slices.Contains(edges, s) {
			continue // of another ref, or recorded already
		}
		edges = slices.DeleteFunc(edges, func(e refStep) bool { return e == s })
		link(s.Old)
		chain = append(chain, s)
		from = s.New
	}
	link(to)
	return chain
}

// shortest is the least number of steps from one value to another, breadth first.
func shortest(edges []refStep, from, to string) ([]refStep, bool) {
	type place struct {
		at   string
		path []refStep
	}
	seen := map[string]bool{from: true}
	for queue := []place{{at: from}}; len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		if p.at == to {
			return p.path, true
		}
		for _, e := range edges {
			if e.Old == p.at && !seen[e.New] {
				seen[e.New] = true
				queue = append(queue, place{at: e.New, path: append(slices.Clone(p.path), e)})
			}
		}
	}
	return nil, false
}

// settle records what the refs of a repository show and the ledger does not; changes are those of one push that
// Git said have happened.
func (r *Remote) settle(ctx context.Context, name, push string, changes []Change) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	unlock, err := r.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return r.settleLocked(ctx, name, push, changes)
}

func (r *Remote) settleLocked(ctx context.Context, name, push string, changes []Change) error {
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return err
	}
	// The ledger is read before the disk: what it knows has happened on disk, so the disk is never behind it.
	known, err := r.knownRefs(ctx, name)
	if err != nil {
		return err
	}
	pushes, err := r.openPushes(ctx, name)
	if err != nil {
		return err
	}
	disk, err := r.diskRefs(ctx, name)
	if err != nil {
		return err
	}
	var sure []refStep
	for i := range pushes {
		if pushes[i].ID == push {
			for _, c := range changes {
				sure = append(sure, refStep{push: &pushes[i], Change: c})
			}
		}
	}
	steps := planSteps(known, disk, pushes, sure)
	if len(steps) == 0 {
		return nil
	}
	return r.recordSteps(ctx, repo, known, disk, steps)
}

func (r *Remote) recordSteps(ctx context.Context, repo forge.Repository, known, disk map[string]string, steps []refStep) error {
	b := r.newBatch(repo)
	if branch := pickDefault(repo.DefaultBranch, disk); branch != repo.DefaultBranch {
		b.repo.DefaultBranch = branch
		b.add(ledger.Draft{Actor: "system", Kind: kindRepoChanged, Subject: "repo/" + repo.Name, Body: b.repo}, cause{})
	}
	open, err := r.ListMRs(ctx, repo.Name, stateOpen)
	if err != nil {
		return err
	}
	s := &settling{r: r, b: b, refs: known, mrs: open, lastMR: repo.LastMR}
	for _, step := range steps {
		if err := s.step(ctx, step); err != nil {
			return err
		}
	}
	if err := b.write(ctx); err != nil {
		return err
	}
	if b.repo.DefaultBranch != repo.DefaultBranch {
		if err := r.setHead(ctx, b.repo); err != nil {
			return err
		}
	}
	return r.keepHeads(ctx, repo.Name, b.heads)
}

// pickDefault keeps a repository's default branch if it exists, or if there is no branch at all; else the
// repository began with another one.
func pickDefault(branch string, disk map[string]string) string {
	if disk["refs/heads/"+branch] != "" {
		return branch
	}
	var names []string
	for ref := range disk {
		if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, usual := range []string{"main", "master", "trunk"} {
		if slices.Contains(names, usual) {
			return usual
		}
	}
	if len(names) > 0 {
		return names[0]
	}
	return branch
}

// openPushes are the pushes with changes that nobody has confirmed: those in progress, oldest first, then the
// latest of those that seemed to have failed, for a git that outlived its server may still have finished them.
func (r *Remote) openPushes(ctx context.Context, repo string) ([]Push, error) {
	var pushes []Push
	add := func(row ledger.Row) error {
		var p Push
		if err := json.Unmarshal(row.Body, &p); err != nil {
			return err
		}
		pushes = append(pushes, p)
		return nil
	}
	err := r.each(ctx, ledger.Query{Table: tablePush, Owner: repo, States: []string{stateIntended}, Oldest: true}, add)
	if err != nil {
		return nil, fmt.Errorf("read pushes of %s: %w", repo, err)
	}
	rows, err := r.ledger.List(ctx, ledger.Query{Table: tablePush, Owner: repo, States: []string{stateAbandoned}, Limit: 50})
	if err != nil {
		return nil, fmt.Errorf("read pushes of %s: %w", repo, err)
	}
	for _, row := range rows {
		if err := add(row); err != nil {
			return nil, fmt.Errorf("read pushes of %s: %w", repo, err)
		}
	}
	return pushes, nil
}

// abandon records that a push did not change what it meant to.
func (r *Remote) abandon(ctx context.Context, p Push, reason string) error {
	err := r.ledger.Write(ctx, ledger.On("repo/"+p.Repo), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{
			Actor: "system", Kind: kindPushAbandoned, Subject: pushSubject(p), Cause: ledger.At(p.Seq),
			Body: pushAbandoned{ID: p.ID, Reason: reason}, Unique: "push-abandoned/" + p.ID,
		})
		if errors.Is(err, ledger.ErrExists) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record that push %s failed: %w", p.ID, err)
	}
	return nil
}
