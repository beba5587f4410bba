package builtin

import (
	"github.com/tiphys/tiphys/repo"

	"github.com/tiphys/tiphys/repo/git"

	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/event/forge"
)

func TestNames(t *testing.T) {
	for _, name := range []string{"harbour", "team/harbour", "a.b-c_d", "_x", "A1"} {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q): %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/..", "../a", "/a", "a/", "a//b", "a/b/c", "-a", ".a", "a.", "a..b", "a.git", "x.GIT/a", "a.lock",
		"a b", "a\x00b", "a\nb", "ä", `a\b`, "a:b", "a#b", strings.Repeat("a", 101)} {
		if err := CheckName(name); !errors.Is(err, ErrName) {
			t.Errorf("CheckName(%q) = %v, want ErrName", name, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "a.git", "refs/heads/x", "x@{1}"} {
		f.Add(s)
	}
	r := &Remote{opt: Options{Dir: "/data/git", BaseURL: "http://localhost:1"}}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckName(s) == nil {
			dir := r.dir(s)
			rel, err := filepath.Rel("/data/git", dir)
			if err != nil || !filepath.IsLocal(rel) || strings.HasPrefix(rel, ".") || strings.Count(rel, "/") > 1 || strings.Count(rel, ".git") < 1 {
				t.Errorf("%q leads to %q", s, dir)
			}
			if got, ok := r.RepositoryOf(r.URL(s)); !ok || got != s {
				t.Errorf("the URL of %q names %q, %v", s, got, ok)
			}
		}
		if checkBranch(s) == nil && (strings.HasPrefix(s, "-") || strings.ContainsAny(s, "\n\x00 ~^:") || strings.Contains(s, "..")) {
			t.Errorf("branch %q is allowed", s)
		}
		if repo.CheckPath(s) == nil && !filepath.IsLocal(s) {
			t.Errorf("file %q is allowed", s)
		}
	})
}

func FuzzPushOptions(f *testing.F) {
	f.Add("merge_request.create", "merge_request.label=a")
	f.Add("merge_request.target=../x", "merge_request.title=Draft: x")
	f.Fuzz(func(t *testing.T, a, b string) {
		o := parseOptions([]string{a, b})
		if o.target != "" && checkBranch(o.target) != nil {
			t.Errorf("target %q", o.target)
		}
		m := forge.MergeRequest{Labels: []string{"x"}}
		o.apply(&m)
		if len(m.Title) > maxTitle || len(m.Body) > maxBody || len(m.Labels) > maxLabels {
			t.Errorf("limits are not kept: %+v", m)
		}
		before := m
		if again := o.apply(&m); len(again) > 0 || cmp.Diff(before, m) != "" {
			if !o.draft && !o.ready && len(o.unlabels) == 0 {
				t.Errorf("applying options twice does %v", again)
			}
		}
	})
}

func TestRepositoryOf(t *testing.T) {
	r := &Remote{opt: Options{Dir: "/d", BaseURL: "http://localhost:8080", Names: []string{"ci.example.org"}}}
	for url, want := range map[string]string{
		"http://localhost:8080/git/team/harbour.git": "team/harbour", "http://127.0.0.1:8080/git/harbour": "harbour",
		"http://ada@localhost:8080/git/harbour.git/": "harbour", "http://tiphys.localhost:8080/git/x.git": "x",
		"https://tiphys.localhost/git/x.git": "x", "https://CI.example.org/git/x.git": "x", "http://ci.example.org:8080/git/x.git": "x", "https://ci.example.org:8443/git/x.git": "",
		"ssh://tiphys.localhost/git/x.git": "", "http://localhost:8081/git/x.git": "", "https://localhost:8080/git/x.git": "x", "http://example.com:8080/git/x.git": "",
		"http://localhost:8080/x.git": "", "http://localhost:8080/git/../x.git": "", "git@localhost:x.git": "", "": "",
	} {
		if got, ok := r.RepositoryOf(url); got != want || ok != (want != "") {
			t.Errorf("RepositoryOf(%q) = %q, %v; want %q", url, got, ok, want)
		}
	}
}

// TestPlanSteps plays random histories of a ref: pushes that are intended and happen or not, changes on disk,
// confirmations that come late or never. However much of it the ledger has missed, the steps must lead from
// what it knows to what is on disk, and each push that certainly happened must be among them once.
func TestPlanSteps(t *testing.T) {
	sha := func(i int) string { return fmt.Sprintf("%040d", i) }
	rapid.Check(t, func(t *rapid.T) {
		const ref = "refs/heads/x"
		disk, knownAt := git.Zero, 0
		var pushes []Push
		var sure []refStep
		history := []string{disk}
		for i := range rapid.IntRange(0, 12).Draw(t, "length") {
			value := sha(rapid.IntRange(0, 4).Draw(t, "value")) // 0 is a deletion; values come again
			if value == disk {
				continue
			}
			switch rapid.SampledFrom([]string{"push", "failed", "disk"}).Draw(t, "what") {
			case "push":
				pushes = append(pushes, Push{ID: fmt.Sprint(i), Changes: []Change{{Ref: ref, Old: disk, New: value}}})
				disk = value
			case "failed":
				pushes = append(pushes, Push{ID: fmt.Sprint(i), Changes: []Change{{Ref: ref, Old: disk, New: value}}})
			case "disk":
				disk = value
			}
			history = append(history, disk)
		}
		known := history[rapid.IntRange(knownAt, len(history)-1).Draw(t, "known")]
		if len(pushes) > 0 && rapid.Bool().Draw(t, "confirmed") {
			p := &pushes[rapid.IntRange(0, len(pushes)-1).Draw(t, "which")]
			sure = append(sure, refStep{push: p, Change: p.Changes[0]})
		}
		steps := planSteps(map[string]string{ref: known}, map[string]string{ref: disk}, pushes, sure)
		at, used := known, map[string]int{}
		for _, s := range steps {
			if s.Old != at || s.Old == s.New {
				t.Fatalf("steps do not join: at %s, then %+v", at, s)
			}
			at = s.New
			if s.push != nil {
				used[s.push.ID]++
			}
		}
		if at != disk {
			t.Fatalf("steps end at %s, the disk is at %s", at, disk)
		}
		for id, n := range used {
			if n > 1 {
				t.Fatalf("push %s is counted %d times", id, n)
			}
		}
		for _, s := range sure {
			if used[s.push.ID] != 1 {
				t.Fatalf("push %s certainly happened and is not recorded", s.push.ID)
			}
		}
	})
}
