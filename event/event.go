// Package event is where changes in the world become facts: sources receive them, the ledger records them
// before anybody is told that they were received, and sensors decide what they lead to.
package event

import (
	"encoding/json"
	"time"
)

// Event is one thing that happened outside, in the shape of a CloudEvent as Argo Events makes it.
type Event struct {
	// ID is unique; a forge's delivery id is kept in Delivery.
	ID string `json:"id"`
	// Type is the kind of source: "gitlab", "github", "gitea", "webhook", "calendar", "git" (the built-in remote)…
	Type string `json:"type"`
	// Source is the EventSource's name, Subject the event name in it.
	Source  string `json:"source"`
	Subject string `json:"subject"`
	// Namespace of the EventSource.
	Namespace string    `json:"namespace"`
	Time      time.Time `json:"time"`
	// Data is what sensors see: Argo's layout for the type (headers, body), and "git" (see Git) where it is
	// about a repository. It is valid JSON.
	Data json.RawMessage `json:"data,omitempty"`
	// Git is Data's "git" key, typed; nil if the event is not about a repository.
	Git *Git `json:"git,omitempty"`
	// Delivery identifies a delivery: "forge instance/delivery id". Two events with the same one are the same.
	Delivery string `json:"delivery,omitempty"`
	// Content identifies a signed delivery by its body, where the delivery's id is not part of what is signed: who recorded one delivery could send
	// it again under another id.
	Content string `json:"content,omitempty"`
	// Filtered says why the event source's filter leaves the event out: no sensor is asked. A replay asks them.
	Filtered string `json:"filtered,omitempty"`
	// Actor is who caused it, e.g. "user:ada", and whether that was proved.
	Actor    string `json:"actor,omitempty"`
	Verified string `json:"verified,omitempty"` // none, token, hmac-sha256, standard-webhooks, local
	// Seq is the ledger sequence once it is recorded; ReplayOf the event that this one repeats.
	Seq      int64 `json:"seq,omitempty"`
	ReplayOf int64 `json:"replayOf,omitempty"`
}

// Git is the normalised form of what forges say; its JSON is the "git" key of Data.
// The layout is the same for every forge, including the built-in remote.
type Git struct {
	Forge    string `json:"forge"` // gitlab, github, gitea, bitbucket, bitbucketserver, tiphys
	Instance string `json:"instance,omitempty"`
	// Kind: push, tag, branch, pull_request, comment, review, release, pipeline, status, other.
	Kind string `json:"kind"`
	// Action is the strongest of Actions: create, update, delete; open, sync, edit, close, merge, reopen, label,
	// unlabel, draft, ready, approve, unapprove; success, failed, running.
	Action  string   `json:"action,omitempty"`
	Actions []string `json:"actions,omitempty"`
	Repo    Repo     `json:"repo"`
	// Ref is full ("refs/heads/main"); RefType branch or tag; Branch and Tag are short.
	Ref     string `json:"ref,omitempty"`
	RefType string `json:"refType,omitempty"`
	Branch  string `json:"branch,omitempty"`
	Tag     string `json:"tag,omitempty"`
	SHA     string `json:"sha,omitempty"`
	Before  string `json:"before,omitempty"`
	Forced  bool   `json:"forced,omitempty"`
	Created bool   `json:"created,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
	// Protected says that the ref may be changed only as the forge's rules allow.
	Protected            bool         `json:"protected,omitempty"`
	Commits              []Commit     `json:"commits,omitempty"`
	CommitsTruncated     bool         `json:"commitsTruncated,omitempty"`
	ChangedFiles         []string     `json:"changedFiles,omitempty"`
	ChangedFilesComplete bool         `json:"changedFilesComplete,omitempty"`
	PR                   *PullRequest `json:"pr,omitempty"`
	Comment              *Comment     `json:"comment,omitempty"`
	Release              *Release     `json:"release,omitempty"`
	Pipeline             *Pipeline    `json:"pipeline,omitempty"`
	Sender               Person       `json:"sender"`
}

// Repo names a repository.
type Repo struct {
	ID            string `json:"id,omitempty"`
	FullName      string `json:"fullName"`
	WebURL        string `json:"webURL,omitempty"`
	CloneHTTP     string `json:"cloneHTTP,omitempty"`
	CloneSSH      string `json:"cloneSSH,omitempty"`
	DefaultBranch string `json:"defaultBranch,omitempty"`
	Private       bool   `json:"private,omitempty"`
}

// Commit of a push.
type Commit struct {
	SHA     string `json:"sha"`
	Message string `json:"message,omitempty"`
	Author  Person `json:"author"`
	URL     string `json:"url,omitempty"`
}

// Person as a forge knows them.
type Person struct {
	Login string `json:"login,omitempty"`
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
}

// PullRequest is a merge request or pull request.
type PullRequest struct {
	Number        int      `json:"number"`
	Title         string   `json:"title,omitempty"`
	Body          string   `json:"body,omitempty"`
	URL           string   `json:"url,omitempty"`
	State         string   `json:"state,omitempty"` // open, closed, merged
	Draft         bool     `json:"draft,omitempty"`
	Merged        bool     `json:"merged,omitempty"`
	SourceBranch  string   `json:"sourceBranch,omitempty"`
	TargetBranch  string   `json:"targetBranch,omitempty"`
	HeadSHA       string   `json:"headSHA,omitempty"`
	BaseSHA       string   `json:"baseSHA,omitempty"`
	MergeSHA      string   `json:"mergeSHA,omitempty"`
	Fork          bool     `json:"fork,omitempty"`
	SourceRepo    string   `json:"sourceRepo,omitempty"`
	Author        string   `json:"author,omitempty"`
	AuthorTrust   string   `json:"authorTrust,omitempty"` // member, collaborator, contributor, none, unknown
	Labels        []string `json:"labels,omitempty"`
	LabelsAdded   []string `json:"labelsAdded,omitempty"`
	LabelsRemoved []string `json:"labelsRemoved,omitempty"`
	// Updated is when it last changed, by the forge's clock; zero if the forge does not say.
	Updated time.Time `json:"updatedAt,omitzero"`
}

// Comment on a merge request, an issue or a commit.
type Comment struct {
	ID          string `json:"id,omitempty"`
	Body        string `json:"body"`
	Author      string `json:"author,omitempty"`
	URL         string `json:"url,omitempty"`
	Association string `json:"association,omitempty"`
	// Created is when it was written, by the forge's clock; zero if the forge does not say.
	Created time.Time `json:"createdAt,omitzero"`
}

// Release of a forge.
type Release struct {
	Tag        string `json:"tag"`
	Name       string `json:"name,omitempty"`
	Body       string `json:"body,omitempty"`
	Draft      bool   `json:"draft,omitempty"`
	Prerelease bool   `json:"prerelease,omitempty"`
	URL        string `json:"url,omitempty"`
}

// Pipeline of a forge's own CI.
type Pipeline struct {
	ID     string `json:"id,omitempty"`
	Status string `json:"status,omitempty"`
	URL    string `json:"url,omitempty"`
	Source string `json:"source,omitempty"`
}

// Decision is what one sensor's trigger made of one event. Those of one event are one entry "sensor.decided" and one row of the
// "decision" table.
type Decision struct {
	Sensor   string `json:"sensor"` // namespace/name
	Trigger  string `json:"trigger"`
	EventSeq int64  `json:"event"`
	// Dependency is the dependency that the event was considered for; empty if none names its source and subject.
	Dependency string `json:"dependency,omitempty"`
	// Outcome: fired, waiting, filtered, transform-error, no-dependency, suspended, rate-limited, unapproved; left-out by whoever released a restored server.
	Outcome string `json:"outcome"`
	// Reason says why in words, with the values that were compared.
	Reason string `json:"reason"`
	// Satisfied and Missing are dependencies of the condition, where it waits.
	Satisfied []string `json:"satisfied,omitempty"`
	Missing   []string `json:"missing,omitempty"`
	// Firing is the number of the firing, from 1, where Outcome is fired; Events are the events used, by dependency.
	Firing int64            `json:"firing,omitempty"`
	Events map[string]int64 `json:"events,omitempty"`
	// Digest is the sensor definition's content digest.
	Digest string `json:"digest,omitempty"`
}
