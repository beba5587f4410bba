package promote_test

import (
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
		"unknown":            {annotations: map[string]string{"tiphys.dev/release": "other"}, waiting: true},
		"preview, not built": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "9"}, waiting: true},
		"preview": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "7", "tiphys.dev/services": "label:deploy:", "tiphys.dev/services-selected": "api"},
			key: "harbour#5 on harbour#2", commit: "c5", images: map[string]string{"api": "harbour/api@sha256:c5", "web": "harbour/web@sha256:c2"}},
		"preview, pinned base": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "7", "tiphys.dev/services": "label:deploy:", "tiphys.dev/services-selected": "api", "tiphys.dev/base-release": "harbour#1"},
			key: "harbour#5 on harbour#1", commit: "c5", images: map[string]string{"api": "harbour/api@sha256:c5", "web": "harbour/web@sha256:c1"}},
		"preview without a label": {annotations: map[string]string{"tiphys.dev/release": "harbour", "tiphys.dev/mr": "7", "tiphys.dev/services": "label:deploy:"},
			key: "harbour#5 on harbour#2", commit: "c5", images: map[string]string{"api": "harbour/api@sha256:c2", "web": "harbour/web@sha256:c2"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, annotated := promote.Choose(c.annotations, "default", "main", releases)
			if !annotated || got.Key != c.key || (got.Waiting != "") != c.waiting || got.Release.Commit != c.commit {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff(c.images, got.Release.Images); c.images != nil && diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, annotated := promote.Choose(nil, "default", "main", releases); annotated {
		t.Error("not annotated")
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

func TestNext(t *testing.T) {
	if n := promote.Next(releases, "default", "harbour"); n != 6 {
		t.Error(n)
	}
	if n := promote.Next(releases, "default", "other"); n != 1 {
		t.Error(n)
	}
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
