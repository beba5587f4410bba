package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/preview"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// deployCorpus finds the corpus beside the checkout, or where TIPHYS_CONFORMANCE says.
func deployCorpus(t *testing.T, folder string) string {
	t.Helper()
	root := os.Getenv("TIPHYS_CONFORMANCE")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "conformance")
	}
	dir := filepath.Join(root, folder)
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		t.Skipf("SKIPPED: no conformance corpus at %s; set TIPHYS_CONFORMANCE", dir)
	}
	return dir
}

type healthCase struct {
	ID, Kind, File, By string
	Expect             struct {
		Status  *string
		Message *string
	}
}

func TestDeployHealth(t *testing.T) {
	dir := deployCorpus(t, "deploy/health")
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []healthCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	passed, total := map[string]int{}, map[string]int{}
	for _, c := range cases {
		total[c.By]++
		problem := judgeHealth(t, filepath.Join(dir, c.File), c)
		if problem == "" {
			passed[c.By]++
			continue
		}
		if c.By == "core" {
			t.Errorf("%s: %s", c.ID, problem)
		}
	}
	t.Logf("deploy/health core: %d/%d", passed["core"], total["core"])
	t.Logf("deploy/health custom: %d/%d (Argo CD's own scripts for custom resources are not built in: an operator gives them in argocd-cm)", passed["custom"], total["custom"])
}

func judgeHealth(t *testing.T, file string, c healthCase) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var o unstructured.Unstructured
	if err := yaml.Unmarshal(raw, &o.Object); err != nil {
		return "cannot be read: " + err.Error()
	}
	got, known := health.Of(&o)
	switch {
	case c.Expect.Status == nil && !known:
		return ""
	case c.Expect.Status == nil:
		return "has health " + got.Status + ", expected none"
	case got.Status != *c.Expect.Status:
		return "got " + got.Status + " (" + got.Message + "), expected " + *c.Expect.Status
	case c.Expect.Message != nil && got.Message != *c.Expect.Message:
		return "got message " + got.Message + ", expected " + *c.Expect.Message
	}
	return ""
}

type setCase struct {
	ID, Kind, Type    string
	GoTemplate        bool
	GoTemplateOptions []string
	Generator         json.RawMessage
	Spec              struct{ Values map[string]string }
	Params            map[string]any
	Replies           struct {
		PullRequests []struct {
			Number                                       int
			Title, Branch, TargetBranch, HeadSHA, Author string
			Labels                                       []string
		}
		Error, ErrorClass string
	}
	Expect struct {
		Params        any
		Error         bool
		ErrorContains any
	}
}

// The generators that are there are judged; the others are counted.
func TestDeployApplicationSets(t *testing.T) {
	dir := deployCorpus(t, "deploy/appset")
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []setCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	passed, judged := 0, 0
	for _, c := range cases {
		if c.Kind != "values" && c.Type != "list" && c.Type != "pullRequest" {
			continue
		}
		judged++
		if problem := judgeSet(c); problem != "" {
			t.Errorf("%s: %s", c.ID, problem)
			continue
		}
		passed++
	}
	t.Logf("deploy/appset: %d/%d of the generators that are supported; %d in the corpus", passed, judged, len(cases))
}

func judgeSet(c setCase) string {
	if c.Kind == "values" {
		got, err := preview.Values(c.Spec.Values, c.Params, c.GoTemplate, c.GoTemplateOptions)
		return differs(got, err, c)
	}
	var g manifest.ApplicationSetGenerator
	if err := json.Unmarshal(c.Generator, &g); err != nil {
		return err.Error()
	}
	var reply preview.Reply
	if c.Replies.Error != "" {
		reply.Err, reply.NotFound = errors.New(c.Replies.Error), c.Replies.ErrorClass == "repository not found"
	}
	for _, r := range c.Replies.PullRequests {
		reply.PullRequests = append(reply.PullRequests, event.PullRequest{Number: r.Number, Title: r.Title, SourceBranch: r.Branch,
			TargetBranch: r.TargetBranch, HeadSHA: r.HeadSHA, Author: r.Author, Labels: r.Labels})
	}
	got, err := preview.Params(g, reply, c.GoTemplate, c.GoTemplateOptions)
	if got == nil {
		got = []map[string]any{}
	}
	return differs(got, err, c)
}

func differs(got any, err error, c setCase) string {
	if c.Expect.Error {
		words, _ := c.Expect.ErrorContains.(string)
		if err == nil || !strings.Contains(err.Error(), words) {
			return fmt.Sprintf("got error %v, expected %q", err, words)
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	have, _ := json.Marshal(got)
	want, _ := json.Marshal(c.Expect.Params)
	if string(have) != string(want) {
		return fmt.Sprintf("got %s, expected %s", have, want)
	}
	return ""
}
