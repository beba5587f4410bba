package forge

import (
	"strings"
	"testing"
)

// TestProtection: the default branch is protected unless the repository says otherwise, and the first rule that matches counts.
func TestProtection(t *testing.T) {
	rules := func(list ...Protection) *[]Protection { return &list }
	for _, c := range []struct {
		what    string
		protect *[]Protection
		ref     string
		want    string // the rule; empty for none
	}{
		{"the default branch", nil, "refs/heads/main", "refs/heads/main"},
		{"another", nil, "refs/heads/try", ""},
		{"a tag of its name", nil, "refs/tags/main", ""},
		{"none", rules(), "refs/heads/main", ""},
		{"a pattern", rules(Protection{Ref: "refs/tags/v*"}), "refs/tags/v1", "refs/tags/v*"},
		{"not the pattern", rules(Protection{Ref: "refs/tags/v*"}), "refs/heads/v1", ""},
		{"the first", rules(Protection{Ref: "refs/heads/main"}, Protection{Ref: "refs/heads/*"}), "refs/heads/main", "refs/heads/main"},
	} {
		got, ok := Repository{DefaultBranch: "main", Protect: c.protect}.Protection(c.ref)
		if got.Ref != c.want || ok != (c.want != "") {
			t.Errorf("%s: %+v %t, want %q", c.what, got, ok, c.want)
		}
	}
	for _, ref := range []string{"main", "refs/heads/*/x", "refs/notes/x", ""} {
		if CheckProtections([]Protection{{Ref: ref}}) == nil {
			t.Errorf("%q is taken", ref)
		}
	}
}

// TestMayPush: the owner, who is named, and an administrator push; a name that nobody proved does not stand on the list.
func TestMayPush(t *testing.T) {
	repo := Repository{Owner: "user:ada", DefaultBranch: "main"}
	for _, c := range []struct {
		who   Actor
		admin bool
		push  []string
		may   bool
	}{
		{Actor{"user:ada", true}, false, nil, true},
		{Actor{"user:bob", true}, false, nil, false},
		{Actor{"user:bob", true}, true, nil, true},
		{Actor{"user:bob", true}, false, []string{"user:bob"}, true},
		{Actor{"user:bob", false}, false, []string{"user:bob"}, false},
		{Actor{"user:eve", false}, false, []string{"*"}, true},
	} {
		if err := repo.MayPush(Protection{Ref: "refs/heads/main", Push: c.push}, c.who, c.admin); (err == nil) != c.may {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestBlocked: a check that is red or running refuses by its name, approvals of an older head or by the author count for nothing.
func TestBlocked(t *testing.T) {
	m := MergeRequest{Author: "user:ada", HeadSHA: "c2", Approvals: []Approval{{"user:bob", "c1"}, {"user:ada", "c2"}, {"user:eve", "c2"}, {"user:eve", "c2"}}}
	status := func(state string) []CommitStatus {
		return []CommitStatus{{Status: Status{Context: "ci/berths", State: state}}}
	}
	for _, c := range []struct {
		p        Protection
		statuses []CommitStatus
		want     string
	}{
		{Protection{}, nil, ""},
		{Protection{}, status("success"), ""},
		{Protection{}, status("failed"), "the check ci/berths is red"},
		{Protection{}, status("running"), "the check ci/berths is running"},
		{Protection{}, status("canceled"), "the check ci/berths is red"},
		{Protection{IgnoreChecks: true}, status("failed"), ""},
		{Protection{Approvals: 1}, nil, ""},
		{Protection{Approvals: 2}, nil, "1 of 2 approvals"},
	} {
		if got := c.p.Blocked(m, c.statuses); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%+v %v: %q, want %q", c.p, c.statuses, got, c.want)
		}
	}
}
