package repo_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/repo"
)

// The rules are those of util/versions of argo-cd 3.6 (tags.go and its tests) and of github.com/Masterminds/semver.
func TestNewest(t *testing.T) {
	tags := []string{"0.7.1", "0.5.4", "0.7.2", "v1.0.0", "v1.2.0", "1.10.0", "1.2.3", "v2.0.0-rc.1", "v2.0.0-alpha", "2024.03-LTS-RC19", "latest", "app-1.4.0", "app-2.0.0", "web-3.0.0", "1.9.9+build"}
	for _, c := range []struct{ constraint, prefix, want string }{
		{"1.*", "", "1.10.0"}, {"v1.x", "", "1.10.0"}, {"1.2.x", "", "1.2.3"}, {"~1.2.0", "", "1.2.3"}, {"^0.5", "", "0.5.4"}, {"^1.2", "", "1.10.0"},
		{">=1 <2", "", "1.10.0"}, {">=1, <1.10", "", "1.9.9+build"}, {">= 0.5.0 < 0.7.2 || 9.x", "", "0.7.1"}, {"0.5.0 - 0.7.1", "", "0.7.1"}, {"!=1.10.0", "", "1.9.9+build"},
		{"*", "", "1.10.0"}, {"x", "", "1.10.0"}, {"<1", "", "0.7.2"}, {"=1.2.3", "", "1.2.3"},
		{">=2.0.0-0 <3", "", "v2.0.0-rc.1"}, {"~2.0.0-alpha", "", "v2.0.0-rc.1"}, {">=2 <3", "", ""}, {"3.*", "", ""},
		{"1.*", "app-", "app-1.4.0"}, {"*", "app-", "app-2.0.0"}, {"*", "none-", ""},
		{"v1.0.0", "", ""}, {"1.0", "", ""}, {"1", "", ""}, {"main", "", ""}, {"HEAD", "", ""}, {"", "", ""}, {"feature/1.*", "", ""},
		{strings.Repeat("1.* || ", 100) + "1.*", "", ""},
	} {
		if got, found := repo.Newest(c.constraint, c.prefix, tags); got != c.want || found != (c.want != "") {
			t.Errorf("%q with %q: %q (%t), want %q", c.constraint, c.prefix, got, found, c.want)
		}
	}
}
