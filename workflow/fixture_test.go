package workflow_test

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// script is the file "script" of a fixture: what pods do, by display name of their node, and what persons do.
type script struct {
	Pods map[string]workflowtest.Outcome `json:"pods"`
	// Keys are the artifacts of the store.
	Keys []string `json:"keys"`
	// Submit is what is said at the submission.
	Submit struct {
		Parameters map[string]string `json:"parameters"`
		Labels     map[string]string `json:"labels"`
		Entrypoint string            `json:"entrypoint"`
	} `json:"submit"`
	Do []struct {
		// When the node with this display name is in this phase, or after Commands commands…
		Node  string         `json:"node"`
		Phase workflow.Phase `json:"phase"`
		Ended bool           `json:"ended"`
		// Refused is the error that this is answered with; empty if it is carried out.
		Refused string `json:"refused"`
		// …the run is told this.
		workflow.Control `json:",inline"`
	} `json:"do"`
	// Again repeats the run when it has ended, as the run NAME-again. Its outline follows that of the first, after a line "again".
	Again *struct {
		Memoized   bool              `json:"memoized"`
		Parameters map[string]string `json:"parameters"`
		// Pods are what pods do then.
		Pods map[string]workflowtest.Outcome `json:"pods"`
	} `json:"again"`
}

// TestFixtures runs testdata/*.txtar: "wf.yaml" is the manifest, "script" what the world does, "want" what must come
// out of it: the run's phase and message, and then nodes as "display name | type | phase | message", in order of
// creation. The comment names the source of the expectation.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures: ", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) { runFixture(t, f) })
	}
}

func runFixture(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{}
	for _, f := range a.Files {
		parts[f.Name] = f.Data
	}
	if !strings.Contains(string(a.Comment), "Source:") {
		t.Fatal("the fixture does not name the source of what it expects")
	}
	var s script
	raw, err := yaml.YAMLToJSON(parts["script"])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	w := &workflowtest.World{Stuck: 10000, Keys: s.Keys}
	w.Outcome = func(n workflow.Node, _ executor.Pod) workflowtest.Outcome {
		o := s.Pods[n.DisplayName]
		o.Takes = time.Duration(o.Takes.Nanoseconds()) * time.Second // the script says seconds
		return o
	}
	wf, _, err := w.Load("wf.yaml", parts["wf.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, func(c *workflow.Submit) {
		c.Parameters, c.Labels, c.Entrypoint = s.Submit.Parameters, s.Submit.Labels, s.Submit.Entrypoint
	})
	if err != nil {
		if want := strings.TrimSpace(string(parts["want"])); want != "refused: "+err.Error() {
			t.Fatalf("submit: %v\nwant %s", err, want)
		}
		return
	}
	for _, d := range s.Do {
		err := r.Until(fmt.Sprintf("%s is %s", d.Node, d.Phase), func(st *workflow.State) bool {
			if d.Ended {
				return st.Done()
			}
			n, ok := r.Node(d.Node)
			return ok && n.Phase == d.Phase
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Control(d.Control); err == nil && d.Refused != "" || err != nil && err.Error() != d.Refused {
			t.Fatalf("%s was answered with %v, want %q", d.Verb, err, d.Refused)
		}
	}
	if err := r.Finish(); err != nil {
		t.Fatalf("%v\n%s", err, dump(r))
	}
	checkShape(t, r, wf)
	got := outline(r)
	if a := s.Again; a != nil {
		s.Pods = a.Pods
		again, err := r.Repeat(r.State.Run().Name+"-again", a.Memoized, a.Parameters)
		if err == nil {
			err = again.Finish()
		}
		if err != nil {
			t.Fatal(err)
		}
		got += "again\n" + outline(again)
	}
	if got, want := trimLines(got), trimLines(string(parts["want"])); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// trimLines leaves out what an editor may take away.
func trimLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func outline(r *workflowtest.Run) string {
	run := r.State.Run()
	s := fmt.Sprintf("%s | %s | %s\n", run.Phase, run.Message, run.Progress)
	if o := run.Outputs; o != nil {
		for _, p := range o.Parameters {
			s += "output " + p.Name + "=" + p.Value.Text() + "\n"
		}
	}
	for n := range r.State.Nodes() {
		s += fmt.Sprintf("%s | %s | %s | %s", n.DisplayName, n.Type, n.Phase, n.Message)
		if n.Inputs != nil {
			for _, p := range n.Inputs.Parameters {
				s += " | " + p.Name + "=" + p.Value.Text()
			}
			for _, a := range n.Inputs.Artifacts {
				if a.S3 != nil {
					s += " | " + a.Name + "=" + path.Join(a.S3.Key, a.SubPath)
				}
			}
		}
		s += "\n"
	}
	return s
}
