package story

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

func (w *World) opening(ctx context.Context) error {
	began := time.Now()
	if err := w.Start(ctx); err != nil {
		return err
	}
	w.tell(began, w.screen("/"), "the server is ready, on a ledger of its own")
	if w.o.Began != nil {
		w.o.Began(w)
	}
	began = time.Now()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "Open the harbour"},
		{"remote", "add", "origin", "http://ada@127.0.0.1:" + w.port + "/git/" + w.o.Names.Repo + ".git"}} {
		if _, err := w.Git(ctx, args...); err != nil {
			return err
		}
	}
	var err error
	if w.first, err = w.Git(ctx, "rev-parse", "HEAD"); err != nil {
		return err
	}
	w.tell(began, "", "%s is a repository: three services in Go, their tests, a pipeline, their deployment", w.o.Names.Repo)
	return w.tryOut(ctx)
}

func (w *World) push(ctx context.Context) error {
	began := time.Now()
	if err := w.gitPush(ctx, "origin", "main"); err != nil {
		return err
	}
	w.tell(began, w.URL+"/git/"+w.o.Names.Repo+".git", "Ada pushes main at %s", short(w.first))
	if err := w.pushEvent(ctx); err != nil {
		return err
	}
	ran := time.Now()
	run, nodes, err := w.run(ctx, w.first, false)
	if err != nil {
		return err
	}
	if err := w.ranInParallel(nodes); err != nil {
		return err
	}
	w.tell(ran, w.screen("/runs/"+run.Namespace+"/"+run.Name), "run %s tests, and builds %s side by side", run.Name, w.services())
	if err := w.released(ctx, w.first, 0, 3); err != nil {
		return err
	}
	d, err := w.app(ctx, w.o.Names.Repo+"-prod", time.Minute, func(a appPart) error {
		if a.Commit != w.first {
			return fmt.Errorf("it runs commit %s", a.Commit)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := hasKinds(d.Resources, map[string]int{"Deployment": 3, "Service": 3, "Ingress": 1}); err != nil {
		return err
	}
	if err := w.page(ctx, "prod", 10*time.Second, "North quay 1", "Alcyone"); err != nil {
		return err
	}
	if err := w.shows(ctx, "prod", 10*time.Second, w.all(w.first)); err != nil {
		return err
	}
	w.tell(began, w.site("prod"), "production answers: three Deployments, Services and an Ingress")
	return nil
}

func (w *World) services() string {
	return w.o.Names.API + ", " + w.o.Names.Web + " and " + w.o.Names.Worker
}

// all is every service at one commit.
func (w *World) all(commit string) map[string]string {
	return map[string]string{w.o.Names.API: commit, w.o.Names.Web: commit, w.o.Names.Worker: commit}
}

// pushEvent checks that the push is an event by ada, and that a sensor fired on it and says so.
func (w *World) pushEvent(ctx context.Context) error {
	began := time.Now()
	var e eventPart
	err := w.Within(ctx, 5*time.Second, "the push is an event", func(ctx context.Context) error {
		var found items[eventPart]
		if err := w.Get(ctx, "", "/api/v1/events?repo="+url.QueryEscape(w.o.Names.Repo), &found); err != nil {
			return err
		}
		at := slices.IndexFunc(found.Items, func(e eventPart) bool { return e.Git != nil && e.Git.SHA == w.first && e.Git.Kind == "push" })
		if at < 0 {
			return fmt.Errorf("it is not among %d events", len(found.Items))
		}
		e = found.Items[at]
		return nil
	})
	if err != nil {
		return err
	}
	// The admin token is nobody's own: who pushes with it says who they are, and that is shown as a claim.
	if !strings.HasPrefix(strings.ToLower(e.Actor), "user:ada") {
		return fmt.Errorf("the push is Ada's: the event says %q", e.Actor)
	}
	_, err = w.decided(ctx, e.ID, w.o.Names.Repo+"-main", "fired")
	if err != nil {
		return err
	}
	w.tell(began, w.screen("/events/"+e.ID), "the push is entry %d of the ledger, and sensor %s-main fired", e.Seq, w.o.Names.Repo)
	return nil
}

// decided waits for a sensor's decision on an event.
func (w *World) decided(ctx context.Context, id, sensor, outcome string) (decisionPart, error) {
	var got decisionPart
	err := w.Within(ctx, 10*time.Second, fmt.Sprintf("sensor %s decides %q on event %s", sensor, outcome, id), func(ctx context.Context) error {
		var d struct {
			Decisions []decisionPart `json:"decisions"`
		}
		if err := w.Get(ctx, "", "/api/v1/events/"+url.PathEscape(id), &d); err != nil {
			return err
		}
		var said []string
		for _, x := range d.Decisions {
			if x.Sensor != "default/"+sensor {
				continue
			}
			if x.Outcome == outcome {
				got = x
				return nil
			}
			said = append(said, x.Outcome+": "+x.Reason)
		}
		return fmt.Errorf("it said %q", said)
	})
	if err == nil && got.Reason == "" {
		err = fmt.Errorf("the decision of sensor %s on event %s has no reason", sensor, id)
	}
	return got, err
}

// builds are a run's build steps.
func builds(nodes []nodePart) []nodePart {
	var found []nodePart
	for _, n := range nodes {
		if n.Type == "Pod" && n.Template == "build" {
			found = append(found, n)
		}
	}
	return found
}

// ranInParallel checks that the three builds overlapped.
func (w *World) ranInParallel(nodes []nodePart) error {
	found := builds(nodes)
	if len(found) != 3 {
		return fmt.Errorf("three services are built: there are %d build steps", len(found))
	}
	var start, end time.Time
	for _, n := range found {
		if n.StartedAt.After(start) {
			start = n.StartedAt
		}
		if end.IsZero() || n.FinishedAt.Before(end) {
			end = n.FinishedAt
		}
	}
	if start.After(end) && !w.o.Rough {
		return fmt.Errorf("the builds run side by side: one began at %s after another ended at %s", start, end)
	}
	return nil
}

// released checks the release of a commit: its images are in the registry by their digests, each one layer on nothing.
func (w *World) released(ctx context.Context, commit string, mr, images int) error {
	began := time.Now()
	var rel releasePart
	err := w.Within(ctx, 10*time.Second, "there is a release of "+short(commit), func(ctx context.Context) error {
		var found items[releasePart]
		if err := w.Get(ctx, "", "/api/v1/releases?name="+url.QueryEscape(w.o.Names.Repo), &found); err != nil {
			return err
		}
		n := 0
		for _, r := range found.Items {
			if r.Commit == commit {
				rel, n = r, n+1
			}
		}
		switch {
		case n == 0:
			return errors.New("there is none")
		case n > 1:
			return final(fmt.Errorf("there are %d", n))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if rel.MR != mr || len(rel.Images) != images {
		return fmt.Errorf("release %d has %d images of merge request %d: it has %d of %d", rel.Number, images, mr, len(rel.Images), rel.MR)
	}
	for service, ref := range rel.Images {
		if err := w.scratchImage(ctx, ref); err != nil {
			return fmt.Errorf("image of %s: %w", service, err)
		}
	}
	w.tell(began, w.screen("/apps"), "release %s#%d: %d of its images in the built-in registry, by digest", rel.Name, rel.Number, len(rel.Images))
	return nil
}

func (w *World) scratchImage(ctx context.Context, ref string) error {
	name, digest, ok := strings.Cut(ref, "@")
	if !ok || !strings.HasPrefix(digest, "sha256:") {
		return fmt.Errorf("%q is not named by digest", ref)
	}
	return w.tried(ctx, "ask the registry for "+ref, func(ctx context.Context) error {
		code, data, err := w.Request(ctx, http.MethodGet, "", "/v2/"+name+"/manifests/"+digest,
			map[string]string{"Accept": "application/vnd.oci.image.manifest.v1+json"}, nil)
		if err != nil {
			return err
		}
		if code != http.StatusOK || strings.Count(string(data), "image.layer") != 1 {
			return fmt.Errorf("the registry answered %d for %s, and an image of one layer is expected: %s", code, ref, firstLine(data))
		}
		return nil
	})
}

func hasKinds(resources []resourcePart, want map[string]int) error {
	got := map[string]int{}
	for _, r := range resources {
		got[r.Kind]++
	}
	for kind, n := range want {
		if got[kind] != n {
			return fmt.Errorf("%d of kind %s are deployed: there are %d", n, kind, got[kind])
		}
	}
	return nil
}
