package event

import (
	"fmt"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// Kinds of the entries about merge requests of people who may not write to the repository. Their body is an [Approval].
const (
	// KindHeld says that an event waits until somebody has approved the commit that it is about.
	KindHeld = "event.held"
	// KindApproved says that somebody approved that commit.
	KindApproved = "event.approved"
)

// TableApproval has a row for each such merge request: key [ApprovalKey], owner the event's source, states waiting and approved.
const TableApproval = "approval"

// The states of an approval.
const (
	StateWaiting  = "waiting"
	StateApproved = "approved"
)

// Approval is where a merge request stands whose author may not write to the repository. It is of one commit: another push waits anew.
type Approval struct {
	Key string `json:"key"`
	// SHA is the commit, Author who opened the merge request, Event the last event about the commit.
	SHA    string `json:"sha"`
	Author string `json:"author"`
	Event  string `json:"event"`
	// Repo, Number and Title are the merge request's, for people; older entries do not have them.
	Repo   string `json:"repo,omitempty"`
	Number int    `json:"number,omitempty"`
	Title  string `json:"title,omitempty"`
	// Pushed is when the forge first said that this is the commit, by its own clock; zero if it does not say.
	Pushed time.Time `json:"pushed,omitzero"`
	// By is who approved it.
	By string `json:"by,omitempty"`
}

// ApprovalKey names a merge request among those of all forges.
func ApprovalKey(g Git) string {
	return fmt.Sprintf("%s %s %s!%d", g.Forge, g.Instance, g.Repo.FullName, g.PR.Number)
}

func applyApproval(e ledger.Entry, rows ledger.Rows) error {
	body, err := ledger.Read[Approval](e)
	if err != nil {
		return err
	}
	state := StateWaiting
	if e.Kind == KindApproved {
		state = StateApproved
	}
	return put(rows, ledger.Row{Table: TableApproval, Key: body.Key, Owner: sourceOf(e.Subject), State: state, Time: e.Time}, body)
}
