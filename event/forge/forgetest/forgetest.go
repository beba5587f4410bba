// Package forgetest is the suite that every implementation of forge.Forge passes: what previews, sensors and
// steps rely on, whatever the Git host.
package forgetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
)

// Fixture is a repository that the caller has prepared on the forge.
type Fixture struct {
	// Repo is the name of a repository with these branches:
	//   main:    README.md containing "hello\n", bin/data containing bytes that are no text
	//   feature: main and one commit that adds feature.txt
	// a tag v1 at main, and one open merge request of feature into main, labelled "deploy:api".
	Repo          string
	MainSHA       string
	FeatureSHA    string
	Number        int
	Title         string
	BinaryContent []byte
	// Statuses and Comments read back what was written; a forge whose API cannot be read leaves them nil.
	Statuses func(ctx context.Context, sha string) ([]forge.Status, error)
	Comments func(ctx context.Context, number int) ([]string, error)
	// Close closes the merge request, and Merge merges it, as a person would. Merge gives the commit that was made.
	Close func(ctx context.Context) error
	Merge func(ctx context.Context) (string, error)
	// Trouble has the forge be down, limited (for some time), refused (it does not take the credentials) or lost (it does what it is asked, and
	// the answer does not arrive) until it is set to ""; nil for a forge without a network between.
	Trouble func(what string, after time.Duration)
}

// Run runs the suite. open gives a new forge with a fixture for each test.
func Run(t *testing.T, open func(t *testing.T) (forge.Forge, Fixture)) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, context.Context, forge.Forge, Fixture)
	}{
		{"pull requests", testPullRequests},
		{"closed pull request", testClosed},
		{"resolve", testResolve},
		{"file", testFile},
		{"status", testStatus},
		{"comment", testComment},
		{"not found", testNotFound},
		{"repository", testRepository},
		{"merged", testMerged},
		{"troubles have their kinds", testTroubles},
		{"a lost answer is repeated", testLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			f, fixture := open(t)
			c.test(t, ctx, f, fixture)
		})
	}
}

func testPullRequests(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	list, err := f.PullRequests(ctx, x.Repo)
	if err != nil || len(list) != 1 {
		t.Fatalf("PullRequests = %v, %v; want the one that is open", list, err)
	}
	one, err := f.PullRequest(ctx, x.Repo, x.Number)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list[0], one); diff != "" {
		t.Errorf("the list and the single reading differ (-list +one):\n%s", diff)
	}
	got := []any{one.Number, one.Title, one.State, one.SourceBranch, one.TargetBranch, one.HeadSHA, one.Merged, one.Draft, one.Fork}
	want := []any{x.Number, x.Title, "open", "feature", "main", x.FeatureSHA, false, false, false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("merge request (-want +got):\n%s", diff)
	}
	if !slices.Equal(one.Labels, []string{"deploy:api"}) {
		t.Errorf("labels = %v", one.Labels)
	}
	if one.URL == "" || one.Author == "" {
		t.Errorf("URL = %q, Author = %q; want both", one.URL, one.Author)
	}
}

func testClosed(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	if err := x.Close(ctx); err != nil {
		t.Fatal(err)
	}
	list, err := f.PullRequests(ctx, x.Repo)
	if err != nil || len(list) != 0 {
		t.Fatalf("PullRequests = %v, %v; want none", list, err)
	}
	one, err := f.PullRequest(ctx, x.Repo, x.Number)
	if err != nil || one.State != "closed" {
		t.Fatalf("PullRequest = %+v, %v; want it closed", one, err)
	}
}

func testResolve(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	for revision, want := range map[string]string{"HEAD": x.MainSHA, "refs/heads/feature": x.FeatureSHA, "refs/tags/v1": x.MainSHA, "main": x.MainSHA, "feature": x.FeatureSHA, "v1": x.MainSHA, x.FeatureSHA: x.FeatureSHA} {
		if got, err := f.Resolve(ctx, x.Repo, revision); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", revision, got, err, want)
		}
	}
}

func testFile(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	for _, c := range []struct {
		revision, path string
		want           []byte
	}{
		{"main", "README.md", []byte("hello\n")},
		{x.MainSHA, "README.md", []byte("hello\n")},
		{"v1", "bin/data", x.BinaryContent},
	} {
		got, err := f.File(ctx, x.Repo, c.revision, c.path)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("File(%s, %s) = %q, %v; want %q", c.revision, c.path, got, err, c.want)
		}
	}
	if _, err := f.File(ctx, x.Repo, "main", "feature.txt"); !errors.Is(err, forge.ErrNotFound) {
		t.Errorf("a file of another branch: %v, want ErrNotFound", err)
	}
	for _, path := range []string{"", "/etc/passwd", "../README.md", "bin/../../x", "bin"} {
		if got, err := f.File(ctx, x.Repo, "main", path); err == nil {
			t.Errorf("File(%q) = %q, want an error", path, got)
		}
	}
}

func testStatus(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	last := map[string]forge.Status{}
	for _, s := range []forge.Status{
		{State: "pending", Context: "build"},
		{State: "running", Context: "build", Description: "2 of 5", URL: "http://ci.example/1"},
		{State: "success", Context: "lint"},
		{State: "failed", Context: "build", Description: "tests"},
		{State: "failed", Context: "build", Description: "tests"},
	} {
		if err := f.SetStatus(ctx, x.Repo, x.FeatureSHA, s); err != nil {
			t.Fatalf("SetStatus(%+v): %v", s, err)
		}
		last[s.Context] = s
	}
	if x.Statuses == nil {
		return
	}
	list, err := x.Statuses(ctx, x.FeatureSHA)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]forge.Status{}
	for _, s := range list {
		got[s.Context] = s
	}
	if diff := cmp.Diff(last, got); diff != "" || len(list) != len(last) {
		t.Errorf("%d statuses (-want +got):\n%s", len(list), diff)
	}
}

func testComment(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	for _, c := range [][2]string{{"a", "first"}, {"b", "other"}, {"a", "second"}} {
		if err := f.Comment(ctx, x.Repo, x.Number, c[0], c[1]); err != nil {
			t.Fatal(err)
		}
	}
	if x.Comments == nil {
		return
	}
	list, err := x.Comments(ctx, x.Number)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(list, "|")
	if len(list) != 2 || !strings.Contains(all, "second") || !strings.Contains(all, "other") || strings.Contains(all, "first") {
		t.Errorf("comments = %q; want one per marker, the latest text in place", list)
	}
}

func testNotFound(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	none := strings.Repeat("12", 20)
	_, err1 := f.PullRequests(ctx, "no-such-repository")
	_, err2 := f.PullRequest(ctx, x.Repo, 4711)
	_, err3 := f.Resolve(ctx, x.Repo, "no-such-branch")
	_, err4 := f.Resolve(ctx, x.Repo, none)
	_, err5 := f.File(ctx, x.Repo, "main", "no/such/file")
	_, err6 := f.File(ctx, x.Repo, "no-such-branch", "README.md")
	err7 := f.SetStatus(ctx, x.Repo, none, forge.Status{State: "success", Context: "build"})
	err8 := f.Comment(ctx, x.Repo, 4711, "m", "text")
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8} {
		if !errors.Is(err, forge.ErrNotFound) {
			t.Errorf("case %d: %v, want ErrNotFound", i+1, err)
		}
	}
}

func testRepository(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	repo, err := f.Describe(ctx, x.Repo)
	if err != nil || repo.FullName != x.Repo || repo.DefaultBranch != "main" || repo.CloneHTTP == "" {
		t.Errorf("Describe = %+v, %v; want the default branch main and where it is cloned from", repo, err)
	}
	if _, err := f.Describe(ctx, "no-such-repository"); !errors.Is(err, forge.ErrNotFound) {
		t.Errorf("a repository that is not there: %v, want ErrNotFound", err)
	}
}

func testMerged(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	if n, err := f.MergedAs(ctx, x.Repo, x.MainSHA); n != 0 || err != nil {
		t.Errorf("MergedAs of a plain commit = %d, %v", n, err)
	}
	sha, err := x.Merge(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.MergedAs(ctx, x.Repo, sha); n != x.Number || err != nil {
		t.Errorf("MergedAs of the merge = %d, %v; want %d", n, err, x.Number)
	}
	one, err := f.PullRequest(ctx, x.Repo, x.Number)
	if err != nil || one.State != "merged" || !one.Merged {
		t.Errorf("PullRequest = %+v, %v; want it merged", one, err)
	}
}

// testTroubles: who repeats what failed must know whether and when.
func testTroubles(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	if x.Trouble == nil {
		t.Skip("there is no network between")
	}
	for what, want := range map[string]failure.Kind{"down": failure.Unclassified, "limited": failure.RetryAfter, "refused": failure.Refused} {
		x.Trouble(what, 90*time.Second)
		_, err1 := f.PullRequests(ctx, x.Repo)
		_, err2 := f.File(ctx, x.Repo, "main", "README.md")
		err3 := f.SetStatus(ctx, x.Repo, x.FeatureSHA, forge.Status{State: "success", Context: "build"})
		err4 := f.Comment(ctx, x.Repo, x.Number, "m", "text")
		for i, err := range []error{err1, err2, err3, err4} {
			if err == nil || failure.KindOf(err) != want {
				t.Errorf("%s, case %d: %v is %v, want %v", what, i+1, err, failure.KindOf(err), want)
			}
			if d, ok := failure.After(err); what == "limited" && (!ok || d != 90*time.Second) {
				t.Errorf("%s, case %d: come again after %s, want 90s", what, i+1, d)
			}
		}
	}
	x.Trouble("", 0)
	if _, err := f.PullRequests(ctx, x.Repo); err != nil {
		t.Errorf("when the trouble is over: %v", err)
	}
}

// testLost: what was done though nobody heard of it is there once after it was repeated.
func testLost(t *testing.T, ctx context.Context, f forge.Forge, x Fixture) {
	say := func() error {
		return errors.Join(f.SetStatus(ctx, x.Repo, x.FeatureSHA, forge.Status{State: "success", Context: "build"}),
			f.Comment(ctx, x.Repo, x.Number, "m", "text"))
	}
	if x.Trouble != nil {
		x.Trouble("lost", 0)
		if err := say(); err == nil {
			t.Error("a lost answer is no error")
		}
		x.Trouble("", 0)
	}
	for range 2 {
		if err := say(); err != nil {
			t.Fatal(err)
		}
	}
	if x.Statuses == nil || x.Comments == nil {
		return
	}
	statuses, err1 := x.Statuses(ctx, x.FeatureSHA)
	comments, err2 := x.Comments(ctx, x.Number)
	if len(statuses) != 1 || len(comments) != 1 || err1 != nil || err2 != nil {
		t.Errorf("%d statuses and %d comments, want one of each: %v, %v", len(statuses), len(comments), err1, err2)
	}
}
