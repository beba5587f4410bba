package forge

import (
	"net/http"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event"
)

// What follows is what people have of a forge that is part of the server itself: its repositories, and merge requests as they work with
// them. The API speaks in these words, and whatever keeps the repositories answers in them.

// Actor is who does something, e.g. "user:ada", and whether that was proved.
type Actor struct {
	Name     string
	Verified bool
}

// String shows an actor who was not authenticated as such.
func (a Actor) String() string {
	switch {
	case a.Name == "":
		return "anonymous (unverified)"
	case a.Verified, a.Name == "system", strings.HasSuffix(a.Name, "(unverified)"):
		return a.Name
	}
	return a.Name + " (unverified)"
}

// Login is the actor's name without "user:".
func (a Actor) Login() string {
	return strings.TrimSuffix(strings.TrimPrefix(a.Name, "user:"), " (unverified)")
}

// Callers tells who sends a request by Git's protocol.
type Callers interface {
	// Caller says who it is, if he may do what the request is for. An error answers 401, one of kind failure.Refused 403.
	Caller(r *http.Request) (Caller, error)
}

// Caller is who sends a request.
type Caller struct {
	// Actor is empty where nobody says who he is: then the commits say it.
	Actor
	// Creates says that he may make a repository by pushing to it.
	Creates bool
	// Administers says that he may push to protected refs.
	Administers bool
}

// Repository is one repository that is kept here.
type Repository struct {
	Name          string `json:"name"`
	Description   string `json:"description,omitempty"`
	DefaultBranch string `json:"defaultBranch"`
	// Owner is who made it, "user:ada"; empty if nobody in particular did.
	Owner string `json:"owner,omitempty"`
	// Protect are its protected refs; nil protects the default branch, and an empty list none.
	Protect *[]Protection `json:"protect,omitempty"`
	Created time.Time     `json:"created"`
	Deleted bool          `json:"deleted,omitempty"`
	// LastMR is the highest number given to a merge request; numbers are not used again, not even after the
	// repository was deleted and made anew.
	LastMR int `json:"lastMR,omitempty"`
}

// RepositoryEdit says what to change; nil leaves a field as it is.
type RepositoryEdit struct {
	Description, DefaultBranch *string
	Protect                    *[]Protection
}

// MergeRequest is one merge request. The branches are of the same repository.
type MergeRequest struct {
	Repo   string `json:"repo"`
	Number int    `json:"number"`
	Title  string `json:"title"`
	Body   string `json:"body,omitempty"`
	URL    string `json:"url"`
	// State is open, closed or merged.
	State  string `json:"state"`
	Draft  bool   `json:"draft,omitempty"`
	Source string `json:"source"`
	Target string `json:"target"`
	// HeadSHA is where the source branch stands, BaseSHA the common ancestor with the target when it was last
	// pushed, MergeSHA the target's commit after the merge.
	HeadSHA  string   `json:"headSHA"`
	BaseSHA  string   `json:"baseSHA,omitempty"`
	MergeSHA string   `json:"mergeSHA,omitempty"`
	Labels   []string `json:"labels,omitempty"`
	// Author is who opened it, "user:ada"; Verified says whether that was proved.
	Author   string    `json:"author"`
	Verified bool      `json:"verified,omitempty"`
	MergedBy string    `json:"mergedBy,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Closed   time.Time `json:"closed,omitzero"`
	// Approvals are of all commits; see [MergeRequest.ApprovedBy].
	Approvals []Approval `json:"approvals,omitempty"`
	// Override is why it was merged though the rules of the target did not let it.
	Override string `json:"override,omitempty"`
	// RemoveSource deletes the source branch with the merge, Squash merges as one commit, AutoMerge merges
	// once every status of the head is success.
	RemoveSource bool `json:"removeSource,omitempty"`
	Squash       bool `json:"squash,omitempty"`
	AutoMerge    bool `json:"autoMerge,omitempty"`
}

// NewMR is what a merge request is opened with. Target is the default branch if empty, Title the last commit's
// first line.
type NewMR struct {
	Repo, Source, Target, Title, Body string
	Labels                            []string
	Draft, RemoveSource, Squash       bool
}

// MREdit says what to change; nil leaves a field as it is.
type MREdit struct {
	Title, Body, Target     *string
	AddLabels, RemoveLabels []string
	Draft, RemoveSource     *bool
	AutoMerge               *bool
}

// Ways to merge.
const (
	// MethodMerge makes a merge commit; the default.
	MethodMerge = "merge"
	// MethodFastForward moves the target to the head, and is refused if that is not ahead of it.
	MethodFastForward = "fast-forward"
	// MethodSquash puts the changes on the target as one commit.
	MethodSquash = "squash"
)

// MergeOptions say how to merge; the zero value makes a merge commit unless the merge request asks for a squash.
type MergeOptions struct {
	// Method is merge, fast-forward or squash.
	Method string
	// Message of the commit; empty makes one of title and number.
	Message string
	// SHA, if given, is the head that was reviewed: the merge is refused if the branch has moved since.
	SHA string
	// RemoveSource says whether to delete the source branch; nil does what the merge request says.
	RemoveSource *bool
	// Override is why an administrator merges though the rules of the target do not let it; empty holds to the rules. It is recorded.
	Override string
}

// MRDetail is a merge request with all that its page shows.
type MRDetail struct {
	MergeRequest
	// Commits are newest first, at most 200.
	Commits []LoggedCommit `json:"commits"`
	Files   []FileStat     `json:"files"`
	// Mergeable says whether it could be merged now; if not, Reason says why and Conflicts in which files. Blocked says that only the
	// rules of the target do not let it, which an administrator may override.
	Blocked   bool           `json:"blocked,omitempty"`
	Mergeable bool           `json:"mergeable"`
	Reason    string         `json:"reason,omitempty"`
	Conflicts []string       `json:"conflicts,omitempty"`
	Comments  []Comment      `json:"comments"`
	Statuses  []CommitStatus `json:"statuses"`
}

// FileStat is how much one file is changed. Binary files count no lines.
type FileStat struct {
	Path    string `json:"path"`
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
	Binary  bool   `json:"binary,omitempty"`
}

// LoggedCommit is a commit with its time.
type LoggedCommit struct {
	event.Commit
	Time time.Time `json:"time"`
	// Committer is who made the commit of what its author wrote.
	Committer event.Person `json:"-"`
}

// CommitStatus is a status with the commit it belongs to.
type CommitStatus struct {
	Repo string `json:"repo"`
	SHA  string `json:"sha"`
	Status
	Time time.Time `json:"time"`
}

// Comment is one comment on a merge request.
type Comment struct {
	ID     string `json:"id"`
	Repo   string `json:"repo"`
	Number int    `json:"number"`
	// Marker is set for a comment that is updated in place.
	Marker  string    `json:"marker,omitempty"`
	Body    string    `json:"body"`
	Author  string    `json:"author"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}
