package forge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// Protection says how a ref of a repository that is kept here may change. Nobody may delete a protected ref, or move it to a commit that does not
// have the one before.
type Protection struct {
	// Ref is a full ref; a * at the end stands for anything: "refs/heads/main", "refs/tags/v*".
	Ref string `json:"ref"`
	// Push are those who may push to it, beside the repository's owner and administrators: "user:ada", or "*" for whoever may push to the
	// repository.
	Push []string `json:"push,omitempty"`
	// IgnoreChecks lets a merge request be merged whose checks fail or run still.
	IgnoreChecks bool `json:"ignoreChecks,omitempty"`
	// Approvals is how many others than its author must have approved the commit that is merged.
	Approvals int `json:"approvals,omitempty"`
}

// maxProtections bounds the protections of a repository: each push is held against all of them.
const maxProtections = 100

// Protection gives the one that holds for a full ref, the first that matches; false if the ref is not protected. Without a list of its own a
// repository protects its default branch.
func (r Repository) Protection(ref string) (Protection, bool) {
	if r.Protect == nil {
		if ref != "refs/heads/"+r.DefaultBranch {
			return Protection{}, false
		}
		return Protection{Ref: ref}, true
	}
	for _, p := range *r.Protect {
		start, open := strings.CutSuffix(p.Ref, "*")
		if ref == p.Ref || open && strings.HasPrefix(ref, start) {
			return p, true
		}
	}
	return Protection{}, false
}

// CheckProtections says what is wrong with a list of them.
func CheckProtections(list []Protection) error {
	if len(list) > maxProtections {
		return failure.Invalidf("a repository has at most %d protected refs: use patterns", maxProtections)
	}
	for _, p := range list {
		plain := strings.TrimSuffix(p.Ref, "*")
		switch {
		case !strings.HasPrefix(p.Ref, "refs/heads/") && !strings.HasPrefix(p.Ref, "refs/tags/"), strings.Contains(plain, "*"):
			return failure.Invalidf("%q is no ref that can be protected: write refs/heads/NAME or refs/tags/NAME, with a * at the end for all that begin so", p.Ref)
		case p.Approvals < 0 || p.Approvals > maxProtections:
			return failure.Invalidf("%s: %d approvals cannot be asked for", p.Ref, p.Approvals)
		}
		for _, who := range p.Push {
			if who != "*" && !strings.HasPrefix(who, "user:") {
				return failure.Invalidf("%s: %q is nobody who can push: write user:NAME, or *", p.Ref, who)
			}
		}
	}
	return nil
}

// MayPush says why somebody may not push to a ref that is protected; admin is whether he administers the server.
func (r Repository) MayPush(p Protection, who Actor, admin bool) error {
	owner := r.Owner == "" || who.Name == r.Owner
	if owner || admin || slices.Contains(p.Push, "*") || who.Verified && slices.Contains(p.Push, who.Name) {
		return nil
	}
	return failure.WithHint(failure.Refusedf("%s is protected: %s may not push to it", short(p.Ref), who),
		"push another branch and open a merge request: git push -o merge_request.create")
}

func short(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/")
}

// Blocked says why the rules of a merge request's target do not let it be merged, naming the check; empty if they do. Approvals count for
// the head only.
func (p Protection) Blocked(m MergeRequest, statuses []CommitStatus) string {
	if !p.IgnoreChecks {
		for _, s := range statuses {
			switch s.State {
			case "success":
			case "pending", "running":
				return fmt.Sprintf("the check %s is %s", s.Context, s.State)
			default:
				return fmt.Sprintf("the check %s is red (%s)", s.Context, s.State)
			}
		}
	}
	if have := len(m.ApprovedBy()); have < p.Approvals {
		return fmt.Sprintf("%d of %d approvals by others are there for %.10s", have, p.Approvals, m.HeadSHA)
	}
	return ""
}

// Approval is somebody's yes to a merge request at one commit.
type Approval struct {
	By  string `json:"by"`
	SHA string `json:"sha"`
}

// ApprovedBy are those who approved the head, without its author, each once.
func (m MergeRequest) ApprovedBy() []string {
	var who []string
	for _, a := range m.Approvals {
		if a.SHA == m.HeadSHA && a.By != m.Author && !slices.Contains(who, a.By) {
			who = append(who, a.By)
		}
	}
	return who
}
