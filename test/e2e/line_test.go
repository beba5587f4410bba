package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/test/story"
)

// line is the main job in small: a push, a run, an image, a release, production; a merge request, its preview, the
// merge; and the end of it all. It takes some seconds, so that it can be played often.
type line struct {
	t       *testing.T
	w       *story.World
	name    string // of the repository
	witness string // where steps leave what they did
	// The commits of main, of the merge request and of the merge.
	first, feature, merged string
}

// lineOptions say with what the line is played.
type lineOptions struct {
	story.Options
	// service is the program that is deployed, a static binary.
	service string
	name    string
}

// openLine prepares a line; the caller starts the server, and ends it with close.
func openLine(t *testing.T, o lineOptions) *line {
	t.Helper()
	l := &line{t: t, name: o.name, witness: t.TempDir()}
	o.Sample = filepath.Join("testdata", "line")
	// All three are the one service there is.
	o.Names = story.Names{Repo: o.name, API: o.name + "-api", Web: o.name + "-api", Worker: o.name + "-api"}
	o.Rough = true
	service, err := filepath.Abs(o.service)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.witness, 0o777); err != nil { //nolint:gosec // steps of any user write it
		t.Fatal(err)
	}
	if err := os.Link(service, filepath.Join(l.witness, "service")); err != nil {
		t.Fatal(err)
	}
	o.Edit = func(dir string) error {
		for _, file := range []string{"pipeline.yaml", "mr.yaml"} {
			path := filepath.Join(dir, "ci", file)
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text := strings.NewReplacer("WITNESS", l.witness, "SERVICE", "/witness/service").Replace(string(data))
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	if l.w, err = story.Open(o.Options); err != nil {
		t.Fatal(err)
	}
	return l
}

// close ends what is left; the folder of a line that failed stays.
func (l *line) close() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), time.Minute)
	defer cancel()
	if err := l.w.Close(ctx, !l.t.Failed()); err != nil {
		l.t.Error(err)
	}
}

// limit is the longest that one claim is waited for, before the world triples it.
const limit = 25 * time.Second

func (l *line) within(ctx context.Context, claim string, look func(context.Context) error) error {
	return l.w.Within(ctx, limit, claim, look)
}

// play plays all but the end. Everything that a person does is done again when the server was away.
func (l *line) play(ctx context.Context) error {
	for _, act := range []func(context.Context) error{l.push, l.mergeRequest, l.merge} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *line) git(ctx context.Context, commands ...[]string) error {
	for _, args := range commands {
		if _, err := l.w.Git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func (l *line) gitPush(ctx context.Context, args ...string) error {
	return l.within(ctx, "git push", func(ctx context.Context) error {
		return l.git(ctx, append([]string{"push", "-q"}, args...))
	})
}

func (l *line) push(ctx context.Context) (err error) {
	err = l.git(ctx, []string{"init", "-q", "-b", "main"}, []string{"add", "."}, []string{"commit", "-q", "-m", "Open the line"},
		[]string{"remote", "add", "origin", strings.Replace(l.w.URL, "http://", "http://ada@", 1) + "/git/" + l.name + ".git"})
	if err != nil {
		return err
	}
	if l.first, err = l.w.Git(ctx, "rev-parse", "HEAD"); err != nil {
		return err
	}
	if err := l.gitPush(ctx, "origin", "main"); err != nil {
		return err
	}
	if err := l.ran(ctx, l.first); err != nil {
		return err
	}
	if err := l.runs(ctx, "prod", l.first, "1"); err != nil {
		return err
	}
	if left := l.w.Leftovers(); len(left.Processes) == 0 || len(left.Interfaces) == 0 {
		return fmt.Errorf("who looks for leftovers sees production's pod and the bridge: they see %s", left)
	}
	return nil
}

func (l *line) mergeRequest(ctx context.Context) (err error) {
	if err := l.git(ctx, []string{"switch", "-q", "-c", "feature"}); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.w.Clone, "version"), []byte("2\n"), 0o600); err != nil {
		return err
	}
	if err := l.git(ctx, []string{"commit", "-q", "-a", "-m", "Raise the version"}); err != nil {
		return err
	}
	if l.feature, err = l.w.Git(ctx, "rev-parse", "HEAD"); err != nil {
		return err
	}
	err = l.gitPush(ctx, "-o", "merge_request.create", "-o", "merge_request.target=main", "-o", "merge_request.label=deploy:"+l.name+"-api", "origin", "feature")
	if err != nil {
		return err
	}
	if err := l.ran(ctx, l.feature); err != nil {
		return err
	}
	return l.runs(ctx, "mr-1", l.feature, "2")
}

func (l *line) merge(ctx context.Context) (err error) {
	err = l.within(ctx, "tiphys mr merge 1", func(ctx context.Context) error {
		_, err := l.w.Tiphys(ctx, "mr", "merge", "1", "--repo", l.name)
		if err != nil && strings.Contains(err.Error(), "is merged") {
			return nil // The answer was lost, not the merge.
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := l.within(ctx, "git fetch", func(ctx context.Context) error { return l.git(ctx, []string{"fetch", "-q", "origin", "main"}) }); err != nil {
		return err
	}
	if l.merged, err = l.w.Git(ctx, "rev-parse", "FETCH_HEAD"); err != nil {
		return err
	}
	if err := l.ran(ctx, l.merged); err != nil {
		return err
	}
	if err := l.runs(ctx, "prod", l.merged, "2"); err != nil {
		return err
	}
	return l.gone(ctx, "mr-1")
}

// gone waits until an environment is removed: the record says later whether all that it made went with it.
func (l *line) gone(ctx context.Context, site string) error {
	return l.within(ctx, site+" is removed", func(ctx context.Context) error {
		for _, ask := range []struct {
			host, path string
			want       int
		}{
			{site + "." + l.name + ".localhost", "/", http.StatusMisdirectedRequest},
			{"", "/api/v1/apps/default/" + l.name + "-" + site, http.StatusNotFound},
		} {
			code, data, err := l.w.Request(ctx, http.MethodGet, ask.host, ask.path, nil, nil)
			if err != nil {
				return err
			}
			if code != ask.want {
				return fmt.Errorf("%s%s answers %d: %.300s", ask.host, ask.path, code, data)
			}
		}
		return nil
	})
}

// The parts of the API's answers that are looked at.
type (
	runPart struct {
		Namespace, Name, Phase, Message string
	}
	nodePart struct {
		DisplayName, Type, Phase, Message string
	}
	appPart struct {
		App struct {
			Sync, Message, Commit string
			Health                struct{ Status, Message string }
			Images                map[string]string
		}
		History  []struct{ Commit string }
		Problems []struct{ Message string }
	}
	releasePart struct {
		Number int
		Commit string
		Images map[string]string
	}
)

// runsOf are the runs of a commit.
func (l *line) runsOf(ctx context.Context, commit string) ([]runPart, error) {
	var found struct{ Items []runPart }
	err := l.w.Get(ctx, "", "/api/v1/runs?label="+url.QueryEscape("tiphys.dev/commit="+commit), &found)
	return found.Items, err
}

// ran waits until the one run of a commit has succeeded.
func (l *line) ran(ctx context.Context, commit string) error {
	return l.within(ctx, "the run of "+commit[:12]+" succeeds", func(ctx context.Context) error {
		runs, err := l.runsOf(ctx, commit)
		if err != nil {
			return err
		}
		if len(runs) > 1 {
			return story.Final(fmt.Errorf("there are %d", len(runs)))
		}
		if len(runs) == 0 {
			return errors.New("there is none")
		}
		var d struct {
			Run   runPart
			Nodes []nodePart
		}
		if err := l.w.Get(ctx, "", "/api/v1/runs/"+runs[0].Namespace+"/"+runs[0].Name, &d); err != nil {
			return err
		}
		if d.Run.Phase == "Succeeded" {
			return nil
		}
		err = fmt.Errorf("%s is %s %s: %+v", d.Run.Name, d.Run.Phase, d.Run.Message, d.Nodes)
		if d.Run.Phase == "Failed" || d.Run.Phase == "Error" {
			return story.Final(err)
		}
		return err
	})
}

func (l *line) app(ctx context.Context, site string) (appPart, error) {
	var d appPart
	err := l.w.Get(ctx, "", "/api/v1/apps/default/"+l.name+"-"+site, &d)
	return d, err
}

// runs waits until an environment is whole at a commit's release, and answers with its version.
func (l *line) runs(ctx context.Context, site, commit, version string) error {
	return l.within(ctx, site+" runs "+commit[:12], func(ctx context.Context) error {
		d, err := l.app(ctx, site)
		if err != nil {
			return err
		}
		if d.App.Sync != "Synced" || d.App.Health.Status != "Healthy" || d.App.Commit != commit {
			return fmt.Errorf("it is %s and %s at %s: %s %s %v", d.App.Sync, d.App.Health.Status, d.App.Commit, d.App.Message, d.App.Health.Message, d.Problems)
		}
		r, err := l.release(ctx, commit)
		if err != nil {
			return err
		}
		service := l.name + "-api"
		if want := r.Images[service]; want == "" || !strings.HasSuffix(d.App.Images[service], want) {
			return fmt.Errorf("it runs image %q, and %q is released", d.App.Images[service], want)
		}
		var body string
		if err := l.w.Get(ctx, site+"."+l.name+".localhost", "/", &body); err != nil {
			return err
		}
		if body != version {
			return fmt.Errorf("it answers version %q instead of %s", body, version)
		}
		return nil
	})
}

func (l *line) release(ctx context.Context, commit string) (releasePart, error) {
	var found struct{ Items []releasePart }
	if err := l.w.Get(ctx, "", "/api/v1/releases?limit=100&name="+url.QueryEscape(l.name), &found); err != nil {
		return releasePart{}, err
	}
	found.Items = slices.DeleteFunc(found.Items, func(r releasePart) bool { return r.Commit != commit })
	if len(found.Items) != 1 {
		return releasePart{}, fmt.Errorf("there are %d releases of %s", len(found.Items), commit)
	}
	return found.Items[0], nil
}

// once checks that all that was to be done was done, and nothing twice.
func (l *line) once(ctx context.Context) error {
	errs := []error{l.witnessed()}
	add := func(what string, got, want int) {
		if got != want {
			errs = append(errs, fmt.Errorf("there are %d %s: there are %d", want, what, got))
		}
	}
	errs = append(errs, l.within(ctx, "ask what was done", func(ctx context.Context) error {
		var events, runs, releases struct{ Items []json.RawMessage }
		var mr struct {
			MR                 struct{ State, HeadSHA, MergeSHA string }
			Statuses, Comments []json.RawMessage
		}
		for path, into := range map[string]any{
			"/api/v1/events?limit=1000": &events, "/api/v1/runs?limit=1000": &runs, "/api/v1/releases?limit=100&name=" + l.name: &releases,
			"/api/v1/mrs/" + l.name + "/1": &mr,
		} {
			if err := l.w.Get(ctx, "", path, into); err != nil {
				return err
			}
		}
		prod, err := l.app(ctx, "prod")
		if err != nil {
			return err
		}
		// Pushes of main, of the branch, of the merge; the merge request opened and merged.
		add("events", len(events.Items), 5)
		add("runs", len(runs.Items), 3)
		add("releases", len(releases.Items), 3)
		add("deployments of production", len(prod.History), 2)
		add("comments on the merge request", len(mr.Comments), 1)
		add("statuses of its head", len(mr.Statuses), 1)
		if mr.MR.State != "merged" || mr.MR.HeadSHA != l.feature || mr.MR.MergeSHA != l.merged {
			errs = append(errs, fmt.Errorf("the merge request is merged: %+v", mr.MR))
		}
		return nil
	}))
	return errors.Join(errs...)
}

// witnessed compares what the steps left with what they should have done. They make each folder exclusively, so that a
// step that was repeated has failed its run.
func (l *line) witnessed() error {
	want := []string{"service"}
	for _, commit := range []string{l.first, l.merged} {
		for _, step := range []string{"build", "check-port", "check-starboard", "release", "stumble-0", "stumble-1"} {
			want = append(want, step+"-"+commit)
		}
	}
	for _, step := range []string{"build", "release", "comment"} {
		want = append(want, step+"-"+l.feature)
	}
	entries, err := os.ReadDir(l.witness)
	if err != nil {
		return err
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the steps did %q instead of %q", got, want)
	}
	return nil
}

// tearDown takes the definitions away and waits until what they made is gone.
func (l *line) tearDown(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(l.w.Config, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return l.gone(ctx, "prod")
}

// entries are how many of a kind a line leaves, however often the server died. What is missing here may be repeated: a
// push that is tried again, the course of an application's health.
func entries() map[string]int {
	return map[string]int{
		"definition.set": 4, "definition.deleted": 4, "repo.created": 1, "ref.changed": 3,
		// Pushes of main, of the branch, of the merge; the merge request opened and merged.
		"event.received": 5, "sensor.decided": 5, "mr.opened": 1, "mr.merged": 1,
		"trigger.fired": 3, "trigger.done": 3, "trigger.failed": 0,
		"run.submitted": 3, "run.started": 3, "run.finished": 3,
		// Of main twice: the pipeline, nine steps of which one is tried twice, two in a group; its exit handler in a group of its own.
		// Of the merge request: the pipeline, three steps in groups, the exit handler. No attempt of a step is lost.
		"node.created": 36, "node.finished": 36, "node.attempt": 0,
		"image.pushed": 3, "release.recorded": 3, "mr.status": 5, "mr.commented": 1,
		"application.set": 2, "application.deleted": 2, "sync.started": 3, "sync.finished": 3,
		// The pods of production, of the preview, of production again, each with a ReplicaSet.
		"object.created": 6,
	}
}

// whole opens the ledger of a server that has ended, and checks it; the caller closes it.
func whole(ctx context.Context, w *story.World) (*sqlite.Ledger, error) {
	led, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(w.Data, "ledger.db")})
	if err != nil {
		return nil, err
	}
	report, err := led.Verify(ctx, ledger.Check{})
	if err == nil && len(report.Faults) > 0 {
		err = fmt.Errorf("the ledger is whole: %+v", report.Faults)
	}
	if err != nil {
		return nil, errors.Join(err, led.Close())
	}
	return led, nil
}

// longestPause is the most time in which nothing happens: a server that is back goes on at once.
const longestPause = 10 * time.Second

// record reads the ledger of a server that has ended: it is whole, says everything once, and all that was made is gone.
func (l *line) record(ctx context.Context) error {
	led, err := whole(ctx, l.w)
	if err != nil {
		return err
	}
	defer led.Close()
	seen, last := map[string][]string{}, map[string]string{}
	var after int64
	var before ledger.Entry
	var errs []error
	for {
		found, err := led.Entries(ctx, ledger.EntryQuery{After: after, Limit: 1000})
		if err != nil {
			return err
		}
		for _, e := range found {
			if pause := e.Time.Sub(before.Time); before.Seq > 0 && pause > longestPause {
				errs = append(errs, fmt.Errorf("nothing happened for %s between entry %d (%s of %s) and %d (%s of %s)",
					pause.Round(time.Millisecond), before.Seq, before.Kind, before.Subject, e.Seq, e.Kind, e.Subject))
			}
			before = e
			seen[e.Kind] = append(seen[e.Kind], fmt.Sprintf("%d of %s: %.200s", e.Seq, e.Subject, e.Body))
			last[e.Subject], after = e.Kind, e.Seq
		}
		if len(found) < 1000 {
			break
		}
	}
	for subject, kind := range last {
		// A namespace of CreateNamespace is nobody's and stays, but for a preview's (Argo CD's docs/user-guide/sync-options.md, Create Namespace).
		stays := strings.HasPrefix(subject, "object//Namespace:/") && strings.HasSuffix(subject, "-prod")
		if strings.HasPrefix(subject, "object/") && !stays && kind != "object.deleted" {
			errs = append(errs, fmt.Errorf("%s was made and is gone: the last of it is %s", subject, kind))
		}
	}
	for kind, want := range entries() {
		if got := seen[kind]; len(got) != want {
			errs = append(errs, fmt.Errorf("there are %d entries %s: there are %d:\n\t%s", want, kind, len(got), strings.Join(got, "\n\t")))
		}
	}
	return errors.Join(errs...)
}
