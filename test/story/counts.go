package story

import (
	"context"
	"fmt"
	"net/url"
)

// Once checks that everything the story did was done once, however often the server was killed meanwhile: events,
// releases, runs, deployments, firings.
func (w *World) Once(ctx context.Context) error {
	var events items[eventPart]
	var releases items[releasePart]
	var runs items[runPart]
	var prod struct {
		History []struct {
			Commit string `json:"commit"`
		} `json:"history"`
	}
	repo := url.QueryEscape(w.o.Names.Repo)
	for _, ask := range []struct {
		path string
		into any
	}{
		{"/api/v1/events?limit=1000", &events}, {"/api/v1/releases?name=" + repo + "&limit=100", &releases},
		{"/api/v1/runs?limit=1000", &runs}, {"/api/v1/apps/default/" + repo + "-prod", &prod},
	} {
		if err := w.tried(ctx, "ask for "+ask.path, func(ctx context.Context) error { return w.Get(ctx, "", ask.path, ask.into) }); err != nil {
			return err
		}
	}
	// Pushes: main, the branch, the branch again, the merge. Of the merge request: opened, pushed to, merged.
	// GitLab's: push, new branch, merge request, tag, two comments.
	git, gitlab := 0, 0
	for _, e := range events.Items {
		switch e.Type {
		case "git":
			git++
		case "gitlab":
			gitlab++
		}
	}
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"events of Git", git, 7}, {"events of GitLab", gitlab, 6}, {"releases", len(releases.Items), 4},
		{"runs", len(runs.Items), 5}, {"deployments of production", len(prod.History), 2},
	} {
		if c.got != c.want {
			return fmt.Errorf("there are %d %s: there are %d", c.want, c.what, c.got)
		}
	}
	return nil
}
