package deploy

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
)

// builtinForge names the built-in remote among forges.
const builtinForge = "builtin"

// Line names the releases that are numbered together: NAMESPACE/NAME/FORGE/REPOSITORY. Forge and repository are escaped, so that neither has
// a slash.
func (r Release) Line() string {
	forge, repo := cmp.Or(r.Forge, builtinForge), r.Repo
	if forge != builtinForge {
		repo = strings.ToLower(repo) // forges elsewhere do not tell names by their case
	}
	return fmt.Sprintf("%s/%s/%s/%s", r.Namespace, r.Name, url.PathEscape(forge), url.PathEscape(repo))
}

// RowKey is the key of its row: the line and the number with nine digits.
func (r Release) RowKey() string { return fmt.Sprintf("%s/%09d", r.Line(), r.Number) }

// Subject is the subject of its entry. That of older entries is release/NAMESPACE/NAME/NUMBER.
func (r Release) Subject() string { return fmt.Sprintf("release/%s/%d", r.Line(), r.Number) }

// ReleaseRef says which release something is of.
type ReleaseRef struct {
	// Forge is the instance that Repo is of; empty is the built-in remote.
	Forge  string `json:"forge,omitempty"`
	Repo   string `json:"repo"`
	Name   string `json:"name"`
	Number int64  `json:"number"`
	Commit string `json:"commit"`
	// Seq is the ledger entry that recorded it.
	Seq int64 `json:"seq"`
}

// Ref names the release.
func (r Release) Ref() ReleaseRef {
	return ReleaseRef{Forge: r.Forge, Repo: r.Repo, Name: r.Name, Number: r.Number, Commit: r.Commit, Seq: r.Seq}
}
