package events

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/pipeline"
)

type (
	reading    func(url, revision, path string) ([]byte, error)
	evaluating func(url, revision, path string, in map[string]any) ([]byte, error)
)

func (r reading) File(_ context.Context, url, revision, path string) ([]byte, error) {
	return r(url, revision, path)
}

func (e evaluating) Evaluate(_ context.Context, url, revision, path string, in map[string]any) ([]byte, error) {
	return e(url, revision, path, in)
}

// TestFromGit reads manifests, asks for programs with what they may know, and gives up at once on their mistakes only.
func TestFromGit(t *testing.T) {
	r := newRoom(t, nil)
	first := event.Event{
		ID: "e1", Type: "git", Source: "git", Subject: "harbour", Time: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC),
		Data: json.RawMessage(`{"headers":{"X-Token":"secret"},"body":{}}`), Git: &event.Git{Kind: "push", Branch: "main", SHA: "abc", Repo: event.Repo{FullName: "harbour"}},
	}
	seq, _, err := r.Record(t.Context(), first, 0)
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	var input map[string]any
	made, wrong := []byte("made"), error(nil)
	r.o.Repositories = reading(func(url, revision, path string) ([]byte, error) {
		asked = append(asked, "file", url, revision, path)
		return []byte("read"), nil
	})
	r.o.Programs = evaluating(func(url, revision, path string, in map[string]any) ([]byte, error) {
		asked, input = append(asked, "program", url, revision, path), in
		return made, wrong
	})
	f := sensor.Firing{Key: "k", Events: map[string]int64{"push": seq}}
	for _, file := range []string{"ci/pipeline.yaml", "ci/pipeline.ts"} {
		if _, err := r.fromGit(t.Context(), f, &manifest.TriggerGit{URL: "u", Ref: "abc", FilePath: file}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"file", "u", "abc", "ci/pipeline.yaml", "program", "u", "abc", "ci/pipeline.ts"}, asked); diff != "" {
		t.Error(diff)
	}
	raw, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"event":{"id":"e1","name":"harbour","source":"git"},"git":{"forge":"","kind":"push","repo":{"fullName":"harbour"},"branch":"main","sha":"abc","sender":{}},"time":"2026-01-02T03:04:05.0000006Z"}`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Error(diff)
	}
	for err, final := range map[error]bool{&pipeline.Error{File: "a.ts", Message: "no"}: true, errors.New("no such revision"): false} {
		wrong = err
		if _, got := r.fromGit(t.Context(), f, &manifest.TriggerGit{FilePath: "a.py"}); !errors.Is(got, err) || errors.Is(got, errFinal) != final {
			t.Errorf("got %v of %v", got, err)
		}
	}
}
