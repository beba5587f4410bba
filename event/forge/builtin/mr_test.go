package builtin

import (
	"github.com/tiphys/tiphys/repo"
	"github.com/tiphys/tiphys/repo/git"

	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/forgetest"
	"github.com/tiphys/tiphys/ledger"
)

var bob = forge.Actor{Name: "user:bob", Verified: true}

// open pushes main and a branch feature with a merge request.
func (w *world) open(repo string, options ...string) string {
	w.t.Helper()
	dir := w.work("ada:x", repo)
	w.git(dir, "push", "-q", "origin", "main")
	w.git(dir, "checkout", "-q", "-b", "feature")
	w.commit(dir, "feature.txt", "new\n")
	args := []string{"push", "-q", "-o", "merge_request.create"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	w.git(dir, append(args, "origin", "feature")...)
	return dir
}

func TestMergeRequestByPushOptions(t *testing.T) {
	w := newWorld(t)
	dir := w.work("ada:x", "harbour")
	w.git(dir, "push", "-q", "origin", "main")
	main := w.git(dir, "rev-parse", "HEAD")
	w.git(dir, "checkout", "-q", "-b", "feature")
	head := w.commit(dir, "api/x", "1")
	out := w.git(dir, "push", "-o", "merge_request.create", "-o", "merge_request.target=main", "-o", "merge_request.label=deploy:api",
		"-o", "merge_request.label=more", "-o", `merge_request.description=one\ntwo`, "-o", "merge_request.title=Draft: New api",
		"-o", "merge_request.assign=bob", "-o", "ci.skip", "-o", "merge_request.label", "origin", "feature")
	for _, want := range []string{
		"remote: View merge request !1 for feature:", w.url + "/mrs/harbour/1", `remote: warning: push option "merge_request.assign" is not supported`,
		`"ci.skip" is not supported`, `"merge_request.label" needs a value`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the push does not say %q:\n%s", want, out)
		}
	}
	m := w.mr("harbour", 1)
	m.Created, m.Updated = time.Time{}, time.Time{}
	want := forge.MergeRequest{
		Repo: "harbour", Number: 1, Title: "Draft: New api", Body: "one\ntwo", URL: w.url + "/mrs/harbour/1", State: "open", Draft: true,
		Source: "feature", Target: "main", HeadSHA: head, BaseSHA: main, Labels: []string{"deploy:api", "more"}, Author: "user:ada", Verified: true,
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("merge request (-want +got):\n%s", diff)
	}

	second := w.commit(dir, "web/x", "1")
	w.git(dir, "push", "-q", "-o", "merge_request.unlabel=more", "-o", "merge_request.label=deploy:web", "-o", "merge_request.ready", "origin", "feature")
	events := w.events()
	if diff := cmp.Diff([]string{"push create refs/heads/main", "push create refs/heads/feature", "pull_request open feature>main",
		"push update refs/heads/feature", "pull_request sync+ready+label+unlabel feature>main"}, lines(events)); diff != "" {
		t.Fatalf("events (-want +got):\n%s", diff)
	}
	last := events[4].Git
	if last.Action != "sync" || last.Before != head || last.SHA != second || last.PR.Draft || last.PR.AuthorTrust != "member" {
		t.Errorf("sync event = %+v %+v", last, last.PR)
	}
	if diff := cmp.Diff([][]string{{"deploy:web"}, {"more"}, {"deploy:api", "deploy:web"}, {"api/x", "web/x"}},
		[][]string{last.PR.LabelsAdded, last.PR.LabelsRemoved, last.PR.Labels, last.ChangedFiles}); diff != "" {
		t.Errorf("labels and files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"mr.synced", "event.received", "ref.changed", "push.intended"}, w.causes(events[4].entry)); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
	if got := w.git(dir, "ls-remote", "origin", "refs/merge-requests/1/head"); !strings.HasPrefix(got, second) {
		t.Errorf("head ref = %q", got)
	}
}

func TestMergeMakesThePush(t *testing.T) {
	w := newWorld(t)
	dir := w.open("harbour", "merge_request.remove_source_branch")
	before := len(w.events())
	head := w.mr("harbour", 1).HeadSHA
	m, err := w.remote.MergeMR(t.Context(), bob, "harbour", 1, forge.MergeOptions{SHA: head})
	if err != nil {
		t.Fatal(err)
	}
	if m.State != stateMerged || m.MergedBy != "user:bob" || m.MergeSHA == "" || m.Closed.IsZero() {
		t.Errorf("merged = %+v", m)
	}
	events := w.events()[before:]
	if diff := cmp.Diff([]string{"pull_request merge feature>main", "push update refs/heads/main", "push delete refs/heads/feature"}, lines(events)); diff != "" {
		t.Fatalf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ref.changed", "mr.merged", "push.intended"}, w.causes(events[1].entry)); diff != "" {
		t.Errorf("causes of the push (-want +got):\n%s", diff)
	}
	if events[1].Actor != "user:bob" || events[0].Git.PR.MergeSHA != m.MergeSHA || !events[0].Git.PR.Merged {
		t.Errorf("merge event = %+v", events[0].Git.PR)
	}
	w.git(dir, "fetch", "-q", "--prune", "origin")
	if got := w.git(dir, "log", "-1", "--format=%H %an %P %T", "origin/main"); got != m.MergeSHA+" bob "+m.BaseSHA+" "+head+" "+w.git(dir, "rev-parse", "feature^{tree}") {
		t.Errorf("merge commit = %q", got)
	}
	if _, err := w.remote.MergeMR(t.Context(), bob, "harbour", 1, forge.MergeOptions{}); !errors.Is(err, ErrRefused) {
		t.Errorf("merged again: %v", err)
	}
}

func TestMergeMethodsAndRefusals(t *testing.T) {
	w := newWorld(t)
	dir := w.open("harbour")
	yes, no := true, false
	merge := func(opt forge.MergeOptions) error {
		_, err := w.remote.MergeMR(t.Context(), bob, "harbour", 1, opt)
		return err
	}
	if err := merge(forge.MergeOptions{Method: "octopus"}); !errors.Is(err, ErrRefused) {
		t.Errorf("unknown method: %v", err)
	}
	if err := merge(forge.MergeOptions{SHA: git.Zero}); !errors.Is(err, ErrRefused) {
		t.Errorf("moved head: %v", err)
	}
	if _, err := w.remote.EditMR(t.Context(), bob, "harbour", 1, forge.MREdit{Draft: &yes}); err != nil {
		t.Fatal(err)
	}
	if err := merge(forge.MergeOptions{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "draft") {
		t.Errorf("draft: %v", err)
	}
	if _, err := w.remote.EditMR(t.Context(), bob, "harbour", 1, forge.MREdit{Draft: &no}); err != nil {
		t.Fatal(err)
	}
	w.git(dir, "checkout", "-q", "main")
	w.commit(dir, "feature.txt", "other\n")
	w.git(dir, "push", "-q", "origin", "main")
	if err := merge(forge.MergeOptions{}); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "feature.txt") {
		t.Errorf("conflict: %v", err)
	}
	d, err := w.remote.GetMR(t.Context(), "harbour", 1)
	if err != nil || d.Mergeable || len(d.Conflicts) != 1 || d.Conflicts[0] != "feature.txt" {
		t.Errorf("detail = %+v, %v", d, err)
	}
	if err := merge(forge.MergeOptions{Method: forge.MethodFastForward}); !errors.Is(err, ErrRefused) {
		t.Errorf("fast-forward of a diverged branch: %v", err)
	}
	w.git(dir, "checkout", "-q", "feature")
	w.git(dir, "reset", "-q", "--hard", "main")
	w.commit(dir, "a", "1")
	w.commit(dir, "b", "1")
	w.git(dir, "push", "-q", "--force", "origin", "feature")
	d, err = w.remote.GetMR(t.Context(), "harbour", 1)
	if err != nil || !d.Mergeable || len(d.Commits) != 2 {
		t.Errorf("detail = %+v, %v", d, err)
	}
	if diff := cmp.Diff([]forge.FileStat{{Path: "a", Added: 1}, {Path: "b", Added: 1}}, d.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := merge(forge.MergeOptions{Method: forge.MethodSquash}); err != nil {
		t.Fatal(err)
	}
	w.git(dir, "fetch", "-q", "origin")
	if n := w.git(dir, "rev-list", "--count", "main..origin/main"); n != "1" {
		t.Errorf("a squash made %s commits", n)
	}
}

func TestMergedByHandAndFastForward(t *testing.T) {
	w := newWorld(t)
	dir := w.open("harbour")
	w.git(dir, "push", "-q", "origin", "feature:main", ":feature")
	if m := w.mr("harbour", 1); m.State != stateMerged || m.MergeSHA != m.HeadSHA {
		t.Errorf("merged by hand = %+v", m)
	}
	w.git(dir, "checkout", "-q", "-b", "two")
	sha := w.commit(dir, "z", "1")
	w.git(dir, "push", "-q", "origin", "two")
	m, err := w.remote.OpenMR(t.Context(), bob, forge.NewMR{Repo: "harbour", Source: "two"})
	if err != nil || m.Number != 2 || m.Title != "change z" || m.Target != "main" {
		t.Fatalf("opened = %+v, %v", m, err)
	}
	if _, err := w.remote.OpenMR(t.Context(), bob, forge.NewMR{Repo: "harbour", Source: "two"}); !errors.Is(err, ErrRefused) {
		t.Errorf("opened twice: %v", err)
	}
	if m, err = w.remote.MergeMR(t.Context(), bob, "harbour", 2, forge.MergeOptions{Method: forge.MethodFastForward}); err != nil || m.MergeSHA != sha {
		t.Errorf("fast-forward = %+v, %v", m, err)
	}
}

// Without authentication the actor is the committer's claim, shown as unverified.
func TestOpenedByNobodyIsTheCommitters(t *testing.T) {
	w := newWorld(t)
	dir := w.open("harbour")
	w.git(dir, "checkout", "-q", "-b", "two")
	w.commit(dir, "z", "1")
	w.git(dir, "push", "-q", "origin", "two")
	m, err := w.remote.OpenMR(t.Context(), forge.Actor{}, forge.NewMR{Repo: "harbour", Source: "two"})
	if err != nil || m.Author != "user:Ada" || m.Verified {
		t.Fatalf("opened by %q (verified %t), %v", m.Author, m.Verified, err)
	}
	list := w.events()
	e := list[len(list)-1]
	if e.Actor != "user:Ada (unverified)" || e.Verified != "none" || e.Git.Sender.Email != "ada@example.com" || e.Git.PR.Author != "Ada" {
		t.Errorf("its event is of %q (%s), sender %+v, author %q", e.Actor, e.Verified, e.Git.Sender, e.Git.PR.Author)
	}
}

func TestCloseReopenAndDeletedBranch(t *testing.T) {
	w := newWorld(t)
	dir := w.open("harbour")
	ctx := t.Context()
	if m, err := w.remote.CloseMR(ctx, bob, "harbour", 1); err != nil || m.State != stateClosed {
		t.Fatalf("closed = %+v, %v", m, err)
	}
	n := len(w.events())
	if _, err := w.remote.CloseMR(ctx, bob, "harbour", 1); err != nil || len(w.events()) != n {
		t.Errorf("closing a closed one: %v, %d events", err, len(w.events())-n)
	}
	head := w.commit(dir, "more", "1")
	w.git(dir, "push", "-q", "origin", "feature")
	if m, err := w.remote.ReopenMR(ctx, bob, "harbour", 1); err != nil || m.HeadSHA != head || !m.Closed.IsZero() {
		t.Errorf("reopened = %+v, %v", m, err)
	}
	w.git(dir, "push", "-q", "origin", ":feature")
	if m := w.mr("harbour", 1); m.State != stateClosed {
		t.Errorf("after its branch was deleted it is %s", m.State)
	}
	if _, err := w.remote.ReopenMR(ctx, bob, "harbour", 1); !errors.Is(err, ErrRefused) {
		t.Errorf("reopened without a branch: %v", err)
	}
	events := lines(w.events())
	if diff := cmp.Diff([]string{"push delete refs/heads/feature", "pull_request close feature>main"}, events[len(events)-2:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestAutoMerge(t *testing.T) {
	w := newWorld(t)
	w.open("harbour", "merge_request.merge_when_pipeline_succeeds")
	sha := w.mr("harbour", 1).HeadSHA
	for _, s := range []forge.Status{{State: "running", Context: "a"}, {State: "success", Context: "b"}} {
		if err := w.remote.SetStatus(t.Context(), "harbour", sha, s); err != nil {
			t.Fatal(err)
		}
	}
	if m := w.mr("harbour", 1); m.State != stateOpen {
		t.Fatalf("merged while a status was running")
	}
	if err := w.remote.SetStatus(t.Context(), "harbour", sha, forge.Status{State: "success", Context: "a"}); err != nil {
		t.Fatal(err)
	}
	if m := w.mr("harbour", 1); m.State != stateMerged || m.MergedBy != "user:ada" {
		t.Errorf("not merged: %+v", m)
	}
}

func TestCommentEventsAndCauses(t *testing.T) {
	w := newWorld(t)
	w.open("harbour")
	n := len(w.events())
	head, err := w.ledger.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.remote.Comment(forge.WithBy(t.Context(), forge.By{Actor: "sensor:x", Verified: true, Cause: head.Seq}), "harbour", 1, "preview", "http://mr-1"); err != nil {
		t.Fatal(err)
	}
	if len(w.events()) != n {
		t.Error("a comment of Tiphys itself made an event")
	}
	entry, err := w.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{kindMRCommented}})
	if err != nil || len(entry) != 1 || entry[0].Actor != "sensor:x" || entry[0].Cause != head.Seq {
		t.Errorf("entry = %+v, %v", entry, err)
	}
	if _, err := w.remote.AddComment(t.Context(), bob, "harbour", 1, "/deploy"); err != nil {
		t.Fatal(err)
	}
	last := w.events()[n]
	if last.Git.Kind != "comment" || last.Git.Comment.Body != "/deploy" || last.Git.PR.Number != 1 || last.Git.Sender.Login != "bob" {
		t.Errorf("comment event = %+v", last.Git)
	}
}

// TestRebuild derives every row again from the entries and compares: nothing is kept in rows alone.
func TestRebuild(t *testing.T) {
	w := newWorld(t)
	dir := w.open("harbour", "merge_request.label=x")
	w.git(dir, "push", "-q", "origin", "feature:other", "main:refs/tags/v1")
	sha := w.mr("harbour", 1).HeadSHA
	err := errors.Join(w.remote.SetStatus(t.Context(), "harbour", sha, forge.Status{State: "success", Context: "a"}),
		w.remote.Comment(t.Context(), "harbour", 1, "m", "text"))
	if _, err2 := w.remote.MergeMR(t.Context(), bob, "harbour", 1, forge.MergeOptions{}); errors.Join(err, err2) != nil {
		t.Fatal(err, err2)
	}
	rows := func() map[string]string {
		all := map[string]string{}
		for _, table := range []string{tableRepository, tableRef, tablePush, tableMR, tableComment, tableStatus} {
			list, err := w.ledger.List(t.Context(), ledger.Query{Table: table})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				all[table+" "+r.Key] = r.State + " " + r.Owner + " " + r.Time.String() + " " + string(r.Body)
			}
		}
		return all
	}
	before := rows()
	if err := w.ledger.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, rows()); diff != "" || len(before) < 10 {
		t.Errorf("%d rows (-before +after):\n%s", len(before), diff)
	}
	n := len(w.events())
	if err := w.remote.Reconcile(t.Context()); err != nil || len(w.events()) != n {
		t.Errorf("reconciling after a rebuild: %v, %d new events", err, len(w.events())-n)
	}
}

func TestForgeConformance(t *testing.T) {
	forgetest.Run(t, func(t *testing.T) (forge.Forge, forgetest.Fixture) {
		w := newWorld(t)
		dir := w.work("ada:x", "team/harbour")
		binary := []byte{0, 1, 2, 255, '\r', '\n', 0}
		main := w.commit(dir, "bin/data", string(binary))
		w.git(dir, "tag", "-a", "-m", "one", "v1")
		w.git(dir, "push", "-q", "origin", "main", "v1")
		w.git(dir, "checkout", "-q", "-b", "feature")
		feature := w.commit(dir, "feature.txt", "new\n")
		w.git(dir, "push", "-q", "-o", "merge_request.create", "-o", "merge_request.label=deploy:api", "-o", "merge_request.title=Add", "origin", "feature")
		return w.remote, forgetest.Fixture{
			Repo: "team/harbour", MainSHA: main, FeatureSHA: feature, Number: 1, Title: "Add", BinaryContent: binary,
			Statuses: func(ctx context.Context, sha string) ([]forge.Status, error) {
				list, err := w.remote.Statuses(ctx, "team/harbour", sha)
				var all []forge.Status
				for _, s := range list {
					all = append(all, s.Status)
				}
				return all, err
			},
			Comments: func(ctx context.Context, number int) ([]string, error) {
				list, err := w.remote.Comments(ctx, "team/harbour", number)
				var all []string
				for _, c := range list {
					all = append(all, c.Body)
				}
				return all, err
			},
			Close: func(ctx context.Context) error {
				_, err := w.remote.CloseMR(ctx, bob, "team/harbour", 1)
				return err
			},
			Merge: func(ctx context.Context) (string, error) {
				m, err := w.remote.MergeMR(ctx, bob, "team/harbour", 1, forge.MergeOptions{})
				return m.MergeSHA, err
			},
		}
	})
}

func TestCheckout(t *testing.T) {
	w := newWorld(t)
	dir := w.work("ada:x", "harbour")
	w.commit(dir, ".gitattributes", "README.md export-ignore\n*.txt text eol=crlf\n")
	w.commit(dir, "a/b/c.txt", "x\n")
	link := func(name, target string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		w.git(dir, "add", "-A")
		w.git(dir, "commit", "-q", "-m", "link")
	}
	link("a/l", "b/c.txt")
	w.git(dir, "push", "-q", "origin", "main")
	dest := filepath.Join(t.TempDir(), "out")
	sha, err := w.remote.Checkout(t.Context(), "harbour", "main", dest)
	if err != nil || sha != w.git(dir, "rev-parse", "main") {
		t.Fatalf("checkout = %s, %v", sha, err)
	}
	for name, want := range map[string]string{"README.md": "hello\n", "a/b/c.txt": "x\n", "a/l": "x\n"} {
		if got, err := os.ReadFile(filepath.Join(dest, name)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
	}
	link("evil", "../../../../etc/passwd")
	w.git(dir, "push", "-q", "origin", "main")
	dest = filepath.Join(t.TempDir(), "out")
	if _, err := w.remote.Checkout(t.Context(), "harbour", "main", dest); !errors.Is(err, repo.ErrUnsafe) || !strings.Contains(err.Error(), "evil") {
		t.Errorf("a link that leads outside: %v", err)
	}
	if left, _ := os.ReadDir(dest); len(left) != 0 {
		t.Errorf("the refused checkout left %v", left)
	}
}
