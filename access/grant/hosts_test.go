package grant

import "testing"

// What an operator may write, and what it covers.
func TestHostReposCover(t *testing.T) {
	for _, c := range []struct {
		patterns, repo string
		want           bool
	}{
		{"", "harbour", false},
		{"harbour", "harbour", true},
		{"harbour", "Harbour", true},
		{"harbour", "harbour2", false},
		{"harbour", "gitlab.example.org/harbour", false}, // of another forge, though of the same name
		{"gitlab.example.org/harbour", "gitlab.example.org/harbour", true},
		{"team/*", "team/harbour", true},
		{"team/*", "team/sub/harbour", true},
		{"team/*", "team", false},
		{"team/*", "teams/harbour", false},
		{"gitlab.example.org/*", "gitlab.example.org/a/b", true},
		{"*", "anything/at/all", true},
		{"*", "team/../other", true},
		{"team/*", "team/../other", false}, // these a server may read as another repository's
		{"team/*", "team/%2e%2e/other", false},
		{"team/*", "team//other", false},
		{"team/*", "team/x?of=other", false},
		{"a, b", "b", true},
	} {
		h, err := ParseHostRepos([]string{c.patterns})
		if err != nil {
			t.Fatalf("%q: %v", c.patterns, err)
		}
		if got := h.allows(c.repo); got != c.want {
			t.Errorf("--host-repos %q covers %q: %t, want %t", c.patterns, c.repo, got, c.want)
		}
	}
	for _, bad := range []string{"https://gitlab.example.org/a", "te*m", "*/x", "team/*/x", "**"} {
		if h, err := ParseHostRepos([]string{bad}); err == nil {
			t.Errorf("%q is taken, as %q", bad, h)
		}
	}
}
