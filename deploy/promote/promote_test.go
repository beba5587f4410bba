package promote_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/promote"
)

func release(number int64, branch string, mr int, commit string, images ...string) deploy.Release {
	r := deploy.Release{Namespace: "default", Name: "harbour", Number: number, Branch: branch, MR: mr, Commit: commit, Images: map[string]string{}}
	for _, service := range images {
		r.Images[service] = "harbour/" + service + "@sha256:" + commit
	}
	return r
}

var releases = []deploy.Release{release(1, "main", 0, "c1", "api", "web"), release(2, "main", 0, "c2", "api", "web"),
	release(3, "topic", 0, "c3", "api", "web"), release(4, "topic", 7, "c4", "api", "web"), release(5, "topic", 7, "c5", "api")}

// The rules are those of the documentation of the package and of docs/architecture.md.
func TestChoose(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		key         string
		commit      string
		waiting     bool
		images      map[string]string
	}{
		"default branch":     {annotations: map[string]string{"tiphys.dev/release": "harbour"}, key: "harbour#2", commit: "c2"},
		"allowed branch":     {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/release-branches": "main, top*"}, key: "harbour#3", commit: "c3"},
		"one of them":        {annotations: map[string]string{"tiphys.dev/release": "harbour#1"}, key: "harbour#1", commit: "c1"},
		"foreign branch":     {annotations: map[string]string{"tiphys.dev/release": "harbour#3"}, waiting: true},
		"a merge request":    {annotations: map[string]string{"tiphys.dev/release": "harbour#4", "tiphys.dev/release-branches": "*"}, waiting: true},
		"preview, not built": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "9"}, waiting: true},
		"preview": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "7", "tiphys.dev/services": "label:deploy:", "tiphys.dev/services-selected": "api"},
			key: "harbour#5 on harbour#2", commit: "c5", images: map[string]string{"api": "harbour/api@sha256:c5", "web": "harbour/web@sha256:c2"}},
		"preview, pinned base": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "7", "tiphys.dev/services": "label:deploy:", "tiphys.dev/services-selected": "api", "tiphys.dev/base-release": "harbour#1"},
			key: "harbour#5 on harbour#1", commit: "c5", images: map[string]string{"api": "harbour/api@sha256:c5", "web": "harbour/web@sha256:c1"}},
		"preview without a label": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "7", "tiphys.dev/services": "label:deploy:"},
			key: "harbour#5 on harbour#2", commit: "c5", images: map[string]string{"api": "harbour/api@sha256:c2", "web": "harbour/web@sha256:c2"}},
	} {
		t.Run(name, func(t *testing.T) {
			wishes, _, err := promote.Wishes(c.annotations[promote.AnnotationRelease])
			if err != nil || len(wishes) != 1 {
				t.Fatal(wishes, err)
			}
			got, err := promote.Choose(c.annotations, []promote.Source{{Wish: wishes[0], DefaultBranch: "main", Releases: releases}})
			if err != nil || got.Key != c.key || (got.Waiting != "") != c.waiting || got.Release.Commit != c.commit {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff(c.images, got.Release.Images); c.images != nil && diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The rules are those of the comments of AnnotationRelease and AnnotationRepositories.
func TestWishes(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"harbour":                      "harbour",
		" harbour#12 ":                 "harbour#12",
		"api@fleet/api.git, web#3":     "api@fleet/api web#3",
		"a@https://h.example/fleet/a/": "a@https://h.example/fleet/a",
		"harbour#8 on harbour#7":       "harbour#8",
		"a#1@x, b#2@y at " + "c1":      "a#1@x b#2@y at c1",
		"harbour#x":                    "error",
		"harbour#0":                    "error",
		"harbour#-1":                   "error",
		"harbour, harbour#2":           "error",
		"a@x, a@y":                     "a@x a@y",
		"a,,b":                         "error",
		"a@":                           "error",
		"#1":                           "error",
		strings.Repeat("a,", 50) + "b": "error",
	} {
		wishes, commit, err := promote.Wishes(text)
		var got []string
		for _, w := range wishes {
			got = append(got, w.String())
		}
		if commit != "" {
			got = append(got, "at", commit)
		}
		if err != nil {
			got = []string{"error"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v %v, want %s", text, got, err, want)
		}
	}
}

func TestPermits(t *testing.T) {
	for _, c := range []struct {
		annotation, repository string
		want                   bool
	}{
		{"", "harbour", false}, {"harbour", "harbour", true}, {"harbour", "harbour2", false}, {"fleet/*", "fleet/api", true}, {"fleet/*", "fleet", false},
		{"fleet/*", "fleets/api", false}, {"*", "fleet/api", true}, {"*", "https://git.example.org/fleet/api", false}, {"a, b", "b", true}, {",", "", false},
		{"https://git.example.org/fleet/*", "https://git.example.org/fleet/api.git", true}, {"https://git.example.org/fleet/*", "https://git.example.com/fleet/api", false},
		{"https://git.example.org/fleet/*", "https://git.example.org/fleet/../crown/api", false}, {"https://git.example.org/fleet/*", "https://git.example.org/fleet/%2e%2e/crown", false},
		{"Fleet/API", "fleet/api", true}, {"fleet/api", "http://tiphys.localhost/git/fleet/api.git", false}, {"/*", "harbour", false},
	} {
		if got := promote.Permits(c.annotation, c.repository); got != c.want {
			t.Errorf("%q permits %q: %v", c.annotation, c.repository, got)
		}
	}
}

// Releases of several repositories together: each gives its own services, and production names each.
func TestChooseOfSeveralRepositories(t *testing.T) {
	of := func(repo string, r deploy.Release) deploy.Release {
		r.Name, r.Repo, r.Seq = repo, "fleet/"+repo, 10*r.Number
		return r
	}
	api := of("api", release(3, "main", 0, "a3", "api"))
	web := of("web", release(7, "main", 0, "w7", "web", "proxy"))
	web.Sources = map[string]string{"proxy": "w1"}
	config := of("config", release(2, "main", 0, "c2", "seed"))
	source := func(text string, r deploy.Release) promote.Source {
		wishes, _, err := promote.Wishes(text)
		if err != nil {
			t.Fatal(err)
		}
		return promote.Source{Wish: wishes[0], DefaultBranch: "main", Releases: []deploy.Release{r, of(r.Name, release(9, "topic", 0, "x", "evil"))}}
	}
	got, err := promote.Choose(nil, []promote.Source{source("api@fleet/api", api), source("web#7@fleet/web", web)})
	want := promote.Choice{Key: "api#3@fleet/api, web#7@fleet/web", Newest: 70, Of: []deploy.ReleaseRef{api.Ref(), web.Ref()}}
	want.Release.Images = map[string]string{"api": api.Images["api"], "web": web.Images["web"], "proxy": web.Images["proxy"]}
	want.Release.Sources = map[string]string{"api": "a3", "web": "w7", "proxy": "w1"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, order := range [][]promote.Source{{source("config", config), source("api@fleet/api", api)}, {source("api@fleet/api", api), source("config", config)}} {
		got, err = promote.Choose(nil, order)
		if diff := cmp.Diff(map[string]string{"api": "a3"}, got.Release.Sources); err != nil || diff != "" || got.Release.Commit != "c2" || len(got.Release.Images) != 2 {
			t.Errorf("%v %s: %+v", err, diff, got)
		}
	}
	if _, err = promote.Choose(nil, []promote.Source{source("api@fleet/api", api), source("web@fleet/web", of("web", release(7, "main", 0, "w7", "api")))}); err == nil || !strings.Contains(err.Error(), `"api" is in two releases`) {
		t.Errorf("one service of two: %v", err)
	}
	if got, err = promote.Choose(nil, []promote.Source{source("api@fleet/api", api), source("web#8@fleet/web", web)}); err != nil || got.Waiting != "there is no release web#8@fleet/web" {
		t.Errorf("one of them is not there: %+v %v", got, err)
	}
	// A preview takes its own repository's build of the merge request, and of others what production takes.
	build := of("config", release(4, "topic", 7, "c4", "seed"))
	got, err = promote.Choose(map[string]string{"tiphys.dev/mr": "7"}, []promote.Source{{Wish: promote.Wish{Name: "config"}, DefaultBranch: "main", Releases: []deploy.Release{config, build}}, source("api@fleet/api", api)})
	if err != nil || got.Key != "config#4 on config#2, api#3@fleet/api" || got.Release.Commit != "c4" || got.Release.MR != 7 {
		t.Errorf("%v %+v", err, got)
	}
}

func TestMergeHasEveryService(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		services := rapid.SliceOfDistinct(rapid.StringMatching(`[a-e]`), func(s string) string { return s })
		base := release(1, "main", 0, "base", services.Draw(t, "base")...)
		build := release(2, "topic", 1, "build", services.Draw(t, "build")...)
		selected := services.Draw(t, "selected")
		merged := promote.Merge(build, base, selected)
		for service := range base.Images {
			if merged.Images[service] == "" {
				t.Fatalf("%s is missing", service)
			}
		}
		for service, image := range merged.Images {
			commit := merged.Commit
			if merged.Sources[service] != "" {
				commit = merged.Sources[service]
			}
			if image != "harbour/"+service+"@sha256:"+commit {
				t.Fatalf("%s says it is from %s", image, commit)
			}
		}
	})
}

func TestAt(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	all := []deploy.Deployment{
		{Application: "a", Commit: "1", Since: hour(0), Until: hour(2), Seq: 1},
		{Application: "a", Commit: "2", Since: hour(2), Seq: 3},
		{Application: "gone", Commit: "x", Since: hour(1), Until: hour(3), Deleted: true, Seq: 2},
	}
	for when, want := range map[time.Time][]string{hour(-1): nil, hour(1): {"a1", "gonex"}, hour(2): {"a2", "gonex"}, hour(3): {"a2"}, {}: {"a2"}} {
		var got []string
		for _, d := range promote.At(all, when) {
			got = append(got, d.Application+d.Commit)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
}
