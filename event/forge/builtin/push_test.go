package builtin

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

func TestPushBecomesEvent(t *testing.T) {
	w := newWorld(t)
	dir := w.work("ada:secret", "team/harbour")
	first := w.git(dir, "rev-parse", "HEAD")
	w.git(dir, "push", "-q", "origin", "main")
	second := w.commit(dir, "api/main.go", "package main\n")
	w.git(dir, "tag", "-a", "v1", "-m", "one")
	w.git(dir, "push", "-q", "origin", "main", "v1")

	events := w.events()
	if diff := cmp.Diff([]string{"push create refs/heads/main", "push update refs/heads/main", "tag create refs/tags/v1"}, lines(events)); diff != "" {
		t.Fatalf("events (-want +got):\n%s", diff)
	}
	created, updated, tag := events[0].Git, events[1].Git, events[2].Git
	if !created.Created || created.Before != "" || created.SHA != first || !created.Protected || created.Sender.Login != "ada" {
		t.Errorf("creation = %+v", created)
	}
	if diff := cmp.Diff([]string{"README.md"}, created.ChangedFiles); diff != "" || !created.ChangedFilesComplete {
		t.Errorf("files of the creation: %s", diff)
	}
	if updated.Before != first || updated.SHA != second || updated.Created || updated.Forced || updated.Branch != "main" {
		t.Errorf("update = %+v", updated)
	}
	if len(updated.Commits) != 1 || updated.Commits[0].SHA != second || updated.Commits[0].Author.Email != "ada@example.com" {
		t.Errorf("commits = %+v", updated.Commits)
	}
	if diff := cmp.Diff([]string{"api/main.go"}, updated.ChangedFiles); diff != "" {
		t.Errorf("changed files (-want +got):\n%s", diff)
	}
	if tag.SHA != second || tag.Tag != "v1" || tag.RefType != "tag" {
		t.Errorf("an annotated tag's event names the commit; got %+v", tag)
	}
	if events[1].Actor != "user:ada" || events[1].Verified != "local" || events[1].Type != "git" {
		t.Errorf("event = %+v", events[1].Event)
	}
	if diff := cmp.Diff([]string{"ref.changed", "push.intended"}, w.causes(events[1].entry)); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
	if repo := updated.Repo; repo.FullName != "team/harbour" || repo.CloneHTTP != w.url+"/git/team/harbour.git" || repo.DefaultBranch != "main" {
		t.Errorf("repository = %+v", repo)
	}
	w.git(t.TempDir(), "clone", "-q", w.url+"/git/team/harbour", "clone")
}

func TestUnverifiedActor(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Callers = nil })
	dir := w.work("eve:x", "harbour")
	w.git(dir, "push", "-q", "origin", "main")
	e := w.events()[0]
	if e.Actor != "user:Ada (unverified)" || e.Verified != "none" || e.Git.Sender.Email != "ada@example.com" {
		t.Errorf("actor %q, verified %q, sender %+v", e.Actor, e.Verified, e.Git.Sender)
	}
	intended, err := w.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{kindPushIntended}})
	if err != nil || len(intended) != 1 || intended[0].Actor != "user:Ada (unverified)" {
		t.Errorf("intended = %+v, %v", intended, err)
	}
}

func TestForceAndRepeat(t *testing.T) {
	w := newWorld(t)
	dir := w.work("ada:x", "harbour")
	a := w.git(dir, "rev-parse", "HEAD")
	w.git(dir, "push", "-q", "origin", "main")
	w.git(dir, "push", "-q", "origin", "main") // nothing changes
	b := w.commit(dir, "x", "1")
	w.git(dir, "push", "-q", "origin", "main")
	if out, err := w.tryGit(dir, "push", "--force", "origin", a+":refs/heads/main"); err == nil || !strings.Contains(out, "protected") {
		t.Errorf("the default branch takes a force push: %s", out)
	}
	if _, err := w.remote.EditRepository(t.Context(), forge.Actor{Name: "user:ada", Verified: true}, "harbour", forge.RepositoryEdit{Protect: &[]forge.Protection{}}); err != nil {
		t.Fatal(err)
	}
	w.git(dir, "push", "-q", "--force", "origin", a+":refs/heads/main")
	w.git(dir, "push", "-q", "origin", b+":refs/heads/main") // the same change once more is another event
	var got []string
	for _, e := range w.events() {
		got = append(got, fmt.Sprintf("%s %v", e.Git.SHA, e.Git.Forced))
	}
	if diff := cmp.Diff([]string{a + " false", b + " false", a + " true", b + " false"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestHundredRefsAndConcurrentPushes(t *testing.T) {
	w := newWorld(t)
	dir := w.work("ada:x", "harbour")
	w.git(dir, "push", "-q", "origin", "main")
	specs := []string{"push", "-q", "origin"}
	for i := range 100 {
		specs = append(specs, fmt.Sprintf("main:refs/heads/b%03d", i))
	}
	w.git(dir, specs...)
	if n := len(w.events()); n != 101 {
		t.Fatalf("%d events, want 101", n)
	}
	// Everybody pushes another branch, and all of them the branch "race": one wins.
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 6 {
		other := w.t.TempDir()
		w.git(other, "clone", "-q", w.as("bob:x", "harbour"), ".")
		w.commit(other, fmt.Sprintf("f%d", i), "x")
		wg.Go(func() {
			if out, err := w.tryGit(other, "push", "-q", "origin", fmt.Sprintf("HEAD:refs/heads/own%d", i)); err != nil {
				t.Errorf("push: %v\n%s", err, out)
			}
			if _, err := w.tryGit(other, "push", "-q", "origin", "HEAD:refs/heads/race"); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	own, race := 0, 0
	for _, e := range w.events()[101:] {
		if strings.HasPrefix(e.Git.Branch, "own") {
			own++
		} else if e.Git.Branch == "race" {
			race++
		}
	}
	if own != 6 || won != 1 || race != 1 {
		t.Errorf("own %d, won %d, race %d; want 6, 1, 1", own, won, race)
	}
	intended, err := w.ledger.List(t.Context(), ledger.Query{Table: tablePush, States: []string{stateIntended}})
	if err != nil || len(intended) != 0 {
		t.Errorf("open pushes = %v, %v; want none", intended, err)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.CreateOnPush = false; o.MaxPush = 1 << 20 })
	dir := w.work("ada:x", "harbour")
	if out, err := w.tryGit(dir, "push", "origin", "main"); err == nil {
		t.Errorf("a user created a repository by pushing: %s", out)
	}
	if _, err := w.remote.CreateRepository(t.Context(), forge.Actor{Name: "user:root", Verified: true}, forge.Repository{Name: "harbour", Owner: "user:ada"}); err != nil {
		t.Fatal(err)
	}
	w.git(dir, "push", "-q", "origin", "main")
	w.git(dir, "push", "-q", w.as("root:x", "by-admin"), "main")
	for _, spec := range []string{"main:refs/tiphys/x", "main:refs/merge-requests/1/head", "main:refs/changes/1", ":main"} {
		if out, err := w.tryGit(dir, "push", "origin", spec); err == nil {
			t.Errorf("push of %s succeeded: %s", spec, out)
		}
	}
	if out, err := w.tryGit(dir, "push", w.as("intruder:x", "harbour"), "main:x"); err == nil {
		t.Errorf("an intruder pushed: %s", out)
	}
	big := make([]byte, 3<<20)
	for i, seed := 0, uint32(1); i < len(big); i++ {
		seed = seed*1664525 + 1013904223
		big[i] = byte(seed >> 24)
	}
	w.commit(dir, "big", string(big))
	if out, err := w.tryGit(dir, "push", "origin", "main"); err == nil {
		t.Errorf("a push over the limit succeeded: %s", out)
	}
	if got := lines(w.events()); len(got) != 2 {
		t.Errorf("events = %q; want those of the two pushes that were allowed", got)
	}
}

func TestHTTPSurface(t *testing.T) {
	w := newWorld(t)
	dir := w.work("ada:x", "harbour")
	w.git(dir, "push", "-q", "origin", "main")
	for _, c := range []struct {
		method, path, contentType string
		want                      int
	}{
		{"GET", "/git/harbour.git/info/refs?service=git-upload-pack", "", 200},
		{"GET", "/git/harbour.git/info/refs", "", 403},
		{"GET", "/git/harbour.git/info/refs?service=git-upload-archive", "", 403},
		{"GET", "/git/harbour.git/HEAD", "", 403},
		{"GET", "/git/harbour.git/objects/info/packs", "", 403},
		{"GET", "/git/none.git/info/refs?service=git-upload-pack", "", 404},
		{"GET", "/git/.empty.git/info/refs?service=git-upload-pack", "", 404},
		{"GET", "/git/..%2f..%2fetc/info/refs?service=git-upload-pack", "", 404},
		{"GET", "/git/a/b/c.git/info/refs?service=git-upload-pack", "", 404},
		{"GET", "/git/harbour.git/git-upload-pack", "", 405},
		{"POST", "/git/harbour.git/git-upload-pack", "text/plain", 415},
		{"POST", "/git/harbour.git/git-receive-pack", "application/x-www-form-urlencoded", 415},
		{"POST", "/git/harbour.git/git-receive-pack", "application/x-git-receive-pack-request", 401},
		{"GET", "/git/harbour.git/info/refs?service=git-receive-pack", "", 401},
		{"POST", "/git/harbour.git/info/refs?service=git-upload-pack", "", 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, w.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c.contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s = %d, want %d", c.method, c.path, resp.StatusCode, c.want)
		}
	}
}

func TestDirectChangesOnDisk(t *testing.T) {
	w := newWorld(t)
	dir := w.work("ada:x", "harbour")
	w.git(dir, "push", "-q", "origin", "main")
	sha := w.commit(dir, "x", "1")
	path, ok, _ := w.remote.Folder(t.Context(), w.url+"/git/harbour.git")
	if !ok {
		t.Fatal("the remote does not know its own URL")
	}
	w.git(dir, "push", "-q", path, "main", "main:refs/heads/side")
	other := filepath.Join(w.remote.opt.Dir, "moved.git")
	w.git(dir, "clone", "-q", "--bare", dir, other)
	for range 3 {
		if err := w.remote.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"push create refs/heads/main", "push update refs/heads/main", "push create refs/heads/side", "push create refs/heads/main"}
	events := w.events()
	gotRepos := map[string]int{}
	for _, e := range events {
		gotRepos[e.Git.Repo.FullName]++
	}
	if diff := cmp.Diff(map[string]int{"harbour": 3, "moved": 1}, gotRepos); diff != "" || len(lines(events)) != len(want) {
		t.Fatalf("events = %q: %s", lines(events), diff)
	}
	if e := events[1]; e.Actor != "user:Ada (unverified)" || e.Git.SHA != sha {
		t.Errorf("direct change = %+v", e.Event)
	}
}

func TestRepositories(t *testing.T) {
	w := newWorld(t)
	ada := forge.Actor{Name: "user:ada", Verified: true}
	dir := w.work("ada:x", "harbour")
	w.git(dir, "branch", "-m", "trunk")
	w.git(dir, "push", "-q", "origin", "trunk")
	repo, err := w.remote.Repository(t.Context(), "harbour")
	if err != nil || repo.DefaultBranch != "trunk" {
		t.Fatalf("repository = %+v, %v; the first branch becomes the default", repo, err)
	}
	text := "boats"
	if _, err := w.remote.EditRepository(t.Context(), ada, "harbour", forge.RepositoryEdit{Description: &text}); err != nil {
		t.Fatal(err)
	}
	w.git(dir, "push", "-q", "-o", "merge_request.create", "origin", "trunk:side")
	if err := w.remote.DeleteRepository(t.Context(), ada, "harbour"); err != nil {
		t.Fatal(err)
	}
	if all, err := w.remote.Repositories(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("repositories = %v, %v", all, err)
	}
	if m := w.mr("harbour", 1); m.State != stateClosed {
		t.Errorf("the merge request is %s after its repository was deleted", m.State)
	}
	if err := w.remote.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.git(dir, "push", "-q", "origin", "trunk") // made anew
	w.git(dir, "push", "-q", "-o", "merge_request.create", "origin", "trunk:side")
	if m := w.mr("harbour", 2); m.State != stateOpen {
		t.Errorf("the new repository goes on counting: %+v", m)
	}
	trash, err := os.ReadDir(filepath.Join(w.remote.opt.Dir, trashFolder))
	if err != nil || len(trash) != 1 {
		t.Errorf("deleted repositories = %v, %v; want one kept", trash, err)
	}
}
