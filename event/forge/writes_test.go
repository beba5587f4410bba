package forge

import (
	"testing"

	"github.com/tiphys/tiphys/event"
)

// TestWrites: who the forge calls a member writes, and whoever could push the branch to the repository itself; what an event does not say counts
// for nothing.
func TestWrites(t *testing.T) {
	for _, c := range []struct {
		pr   event.PullRequest
		want bool
	}{
		{event.PullRequest{}, false},
		{event.PullRequest{SourceRepo: "fleet/harbour", AuthorTrust: "unknown"}, true},
		{event.PullRequest{SourceRepo: "mallory/harbour", Fork: true, AuthorTrust: "unknown"}, false},
		{event.PullRequest{SourceRepo: "mallory/harbour", Fork: true, AuthorTrust: "contributor"}, false},
		{event.PullRequest{SourceRepo: "ada/harbour", Fork: true, AuthorTrust: "member"}, true},
		{event.PullRequest{AuthorTrust: "collaborator"}, true},
		{event.PullRequest{AuthorTrust: "none"}, false},
	} {
		if got := Writes(c.pr); got != c.want {
			t.Errorf("%+v: %t", c.pr, got)
		}
	}
	for association, want := range map[string]bool{"OWNER": true, "MEMBER": true, "COLLABORATOR": true, "CONTRIBUTOR": false, "NONE": false, "": false, "member": true} {
		if Trusted(association) != want {
			t.Errorf("%q is %t", association, !want)
		}
	}
}
