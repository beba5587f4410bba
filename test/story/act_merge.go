package story

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func (w *World) mergeRequest(ctx context.Context) error {
	api := w.o.Names.API
	began := time.Now()
	if _, err := w.Git(ctx, "switch", "-q", "-c", "new-quay"); err != nil {
		return err
	}
	if err := w.edit(api+"/berths.json", "\n]", ",\n  {\"berth\": \"East pier 1\", \"ship\": \"Kittiwake\", \"from\": \"Leith\"}\n]"); err != nil {
		return err
	}
	var err error
	if w.feature, err = w.commit(ctx, "Open the east pier"); err != nil {
		return err
	}
	err = w.gitPush(ctx, "-o", "merge_request.create", "-o", "merge_request.target=main", "-o", "merge_request.title=Open the east pier",
		"-o", "merge_request.label=deploy:"+api, "origin", "new-quay")
	if err != nil {
		return err
	}
	w.tell(began, w.screen("/mrs/"+w.o.Names.Repo+"/1"), "Ada pushes new-quay with push options: merge request 1, labelled deploy:%s", api)
	if err := w.preview(ctx, "Kittiwake"); err != nil {
		return err
	}
	began = time.Now()
	if err := w.edit(api+"/berths.json", "Kittiwake", "Fulmar"); err != nil {
		return err
	}
	if w.feature, err = w.commit(ctx, "Let the Fulmar in"); err != nil {
		return err
	}
	if err := w.gitPush(ctx, "origin", "new-quay"); err != nil {
		return err
	}
	w.tell(began, "", "Ada pushes to the branch again")
	return w.preview(ctx, "Fulmar")
}

// preview checks that the merge request's head is built, runs, and is reported.
func (w *World) preview(ctx context.Context, ship string) error {
	n := w.o.Names
	began := time.Now()
	run, nodes, err := w.run(ctx, w.feature, true)
	if err != nil {
		return err
	}
	if found := builds(nodes); len(found) != 1 || !strings.Contains(found[0].DisplayName, n.API) {
		return fmt.Errorf("only %s is built: there are %d build steps", n.API, len(found))
	}
	w.tell(began, w.screen("/runs/"+run.Namespace+"/"+run.Name), "run %s builds %s only", run.Name, n.API)
	if err := w.released(ctx, w.feature, 1, 1); err != nil {
		return err
	}
	name := n.Repo + "-mr-1"
	if _, err := w.app(ctx, name, time.Minute, func(a appPart) error {
		if a.Commit != w.feature {
			return fmt.Errorf("it runs commit %s", a.Commit)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := w.page(ctx, "mr-1", 15*time.Second, ship); err != nil {
		return err
	}
	if err := w.shows(ctx, "mr-1", 10*time.Second, map[string]string{n.API: w.feature, n.Web: w.first, n.Worker: w.first}); err != nil {
		return err
	}
	if err := w.shows(ctx, "prod", time.Second, w.all(w.first)); err != nil {
		return err
	}
	w.tell(began, w.site("mr-1"), "the preview shows %s in the whole stack: %s of the branch, the rest of main", ship, n.API)
	return w.reported(ctx)
}

// reported checks what the merge request carries: the commit status, and one comment with the preview's address.
func (w *World) reported(ctx context.Context) error {
	began := time.Now()
	err := w.Within(ctx, 10*time.Second, "merge request 1 carries status and comment", func(ctx context.Context) error {
		var d mrPart
		if err := w.Get(ctx, "", "/api/v1/mrs/"+w.o.Names.Repo+"/1", &d); err != nil {
			return err
		}
		switch {
		case d.MR.State != "open" || d.MR.Head != w.feature:
			return fmt.Errorf("it is %s at %s", d.MR.State, d.MR.Head)
		case len(d.Statuses) != 1 || d.Statuses[0].State != "success":
			return fmt.Errorf("its statuses are %+v", d.Statuses)
		case len(d.Comments) != 1:
			return fmt.Errorf("it has %d comments", len(d.Comments))
		case !strings.Contains(d.Comments[0].Body, strings.TrimSuffix(w.site("mr-1"), "/")) || !strings.Contains(d.Comments[0].Body, short(w.feature)):
			return fmt.Errorf("its comment is %q", d.Comments[0].Body)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = w.tried(ctx, "tiphys mr show", func(ctx context.Context) error {
		list, err := w.Tiphys(ctx, "mr", "list")
		if err != nil {
			return err
		}
		show, err := w.Tiphys(ctx, "mr", "show", "1", "--repo", w.o.Names.Repo)
		if err != nil {
			return err
		}
		for _, want := range []string{"Open the east pier"} {
			if !strings.Contains(list, want) || !strings.Contains(show, want) {
				return fmt.Errorf("tiphys mr list and show have %q:\n%s\n%s", want, list, show)
			}
		}
		if !strings.Contains(show, "mr-1."+w.o.Names.Repo) {
			return fmt.Errorf("tiphys mr show has the preview's address:\n%s", show)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.tell(began, w.screen("/mrs/"+w.o.Names.Repo+"/1"), "the merge request carries the commit status, and one comment with the address")
	return nil
}

func (w *World) merge(ctx context.Context) error {
	w.beforeMerge = time.Now()
	load := w.startLoad(ctx, w.host("prod"))
	err := w.rollOut(ctx)
	sent, failed, first := load.stop()
	if err != nil {
		return err
	}
	if failed > 0 && !w.o.Rough {
		return fmt.Errorf("production rolls without one failed request: %d of %d failed, the first %w", failed, sent, first)
	}
	w.tell(w.beforeMerge, w.site("prod"), "production rolled to the merged %s: %d requests meanwhile, %d failed", w.o.Names.API, sent, failed)
	if err := w.previewGone(ctx); err != nil {
		return err
	}
	return w.appsShown(ctx)
}

func (w *World) rollOut(ctx context.Context) error {
	began := time.Now()
	if err := w.tried(ctx, "tiphys mr merge 1", func(ctx context.Context) error {
		_, err := w.Tiphys(ctx, "mr", "merge", "1", "--repo", w.o.Names.Repo)
		if strings.Contains(said(err), "merged") {
			return nil // The answer was lost, not the merge.
		}
		return err
	}); err != nil {
		return err
	}
	if err := w.tried(ctx, "git fetch", func(ctx context.Context) error {
		_, err := w.Git(ctx, "fetch", "-q", "origin", "main")
		return err
	}); err != nil {
		return err
	}
	var err error
	if w.merged, err = w.Git(ctx, "rev-parse", "FETCH_HEAD"); err != nil {
		return err
	}
	if w.merged == w.first {
		return errors.New("main is at the merge: it has not moved")
	}
	w.tell(began, w.screen("/mrs/"+w.o.Names.Repo+"/1"), "tiphys mr merge 1: main is at %s", short(w.merged))
	began = time.Now()
	run, _, err := w.run(ctx, w.merged, false)
	if err != nil {
		return err
	}
	w.tell(began, w.screen("/runs/"+run.Namespace+"/"+run.Name), "run %s builds main", run.Name)
	if err := w.released(ctx, w.merged, 0, 3); err != nil {
		return err
	}
	if _, err := w.app(ctx, w.o.Names.Repo+"-prod", time.Minute, func(a appPart) error {
		if a.Commit != w.merged {
			return fmt.Errorf("it runs commit %s", a.Commit)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := w.shows(ctx, "prod", 30*time.Second, w.all(w.merged)); err != nil {
		return err
	}
	return w.page(ctx, "prod", 10*time.Second, "Fulmar")
}

// previewGone checks that nothing of the preview is left.
func (w *World) previewGone(ctx context.Context) error {
	began := time.Now()
	name := w.o.Names.Repo + "-mr-1"
	err := w.Within(ctx, time.Minute, "the preview is removed", func(ctx context.Context) error {
		code, _, err := w.Request(ctx, http.MethodGet, w.host("mr-1"), "/", nil, nil)
		if err != nil {
			return err
		}
		if code != http.StatusMisdirectedRequest {
			return fmt.Errorf("its address answers %d", code)
		}
		var d appDetail
		switch code, data, err := w.Request(ctx, http.MethodGet, "", "/api/v1/apps/default/"+name, nil, nil); {
		case err != nil:
			return err
		case code == http.StatusNotFound:
		default:
			if err := unmarshal(data, &d); err != nil {
				return err
			}
			if !d.App.Deleted || len(d.Resources) > 0 {
				return fmt.Errorf("the application is still there with %d resources", len(d.Resources))
			}
		}
		for pid, line := range w.Leftovers().Processes {
			if w.inNamespace(pid, name) {
				return fmt.Errorf("process %d still runs: %s", pid, line)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.tell(began, "", "the preview is gone with all that it made; its address answers 421")
	return nil
}

// appsShown checks `tiphys apps`, now and before the merge.
func (w *World) appsShown(ctx context.Context) error {
	began := time.Now()
	prod := w.o.Names.Repo + "-prod"
	var now, then items[appPart]
	if err := w.tried(ctx, "ask for the applications", func(ctx context.Context) error {
		at := w.beforeMerge.UTC().Format(time.RFC3339Nano)
		return errors.Join(w.Get(ctx, "", "/api/v1/apps", &now), w.Get(ctx, "", "/api/v1/apps?at="+at, &then))
	}); err != nil {
		return err
	}
	find := func(list items[appPart], name string) (appPart, bool) {
		for _, a := range list.Items {
			if a.Name == name && !a.Deleted {
				return a, true
			}
		}
		return appPart{}, false
	}
	a, _ := find(now, prod)
	if a.Commit != w.merged || a.MR != 1 || !strings.Contains(a.Images[w.o.Names.API], "@sha256:") {
		return fmt.Errorf("production is shown with the merge commit %s, merge request 1 and digests: %+v", short(w.merged), a)
	}
	if _, there := find(now, w.o.Names.Repo+"-mr-1"); there {
		return errors.New("the preview is not shown any more: it is")
	}
	old, _ := find(then, prod)
	gone := false
	for _, x := range then.Items {
		gone = gone || x.Name == w.o.Names.Repo+"-mr-1" && x.Commit == w.feature
	}
	if old.Commit != w.first || !gone {
		return fmt.Errorf("before the merge production ran %s beside the preview: %+v", short(w.first), then.Items)
	}
	w.tell(began, w.screen("/apps"), "tiphys apps shows it, and --at %s what ran before the merge, the preview too", w.beforeMerge.Format(time.TimeOnly))
	return w.appsPrinted(ctx)
}

func (w *World) appsPrinted(ctx context.Context) error {
	return w.tried(ctx, "tiphys apps", func(ctx context.Context) error {
		now, err := w.Tiphys(ctx, "apps")
		if err != nil {
			return err
		}
		then, err := w.Tiphys(ctx, "apps", "--at", w.beforeMerge.UTC().Format(time.RFC3339))
		if err != nil {
			return err
		}
		if !strings.Contains(now, w.merged[:7]) || !strings.Contains(then, w.first[:7]) || !strings.Contains(then, w.o.Names.Repo+"-mr-1") {
			return fmt.Errorf("tiphys apps shows the merge commit, and with --at what ran before:\n%s\n%s", now, then)
		}
		return nil
	})
}
