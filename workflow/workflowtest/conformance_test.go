package workflowtest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// corpus is the conformance corpus beside the repository. Steps are not executed here: the world guesses what the
// corpus's usual commands do. The true run is test/conformance.
const corpus = "../../../shared/conformance/workflows"

type corpusCase struct {
	ID        string            `json:"id"`
	File      string            `json:"file"`
	With      []string          `json:"with"`
	Arguments map[string]string `json:"arguments"`
	Submit    struct {
		Name, Entrypoint string
	} `json:"submit"`
	Steps  []json.RawMessage `json:"steps"`
	Class  string            `json:"class"`
	Expect struct {
		Phase           *string  `json:"phase"`
		PhaseIn         []string `json:"phaseIn"`
		Message         *string  `json:"message"`
		MessageContains string   `json:"messageContains"`
		Progress        string   `json:"progress"`
		NodeCount       int      `json:"nodeCount"`
		Nodes           []struct {
			DisplayName, Phase, Message, MessageContains string
			ChildCount                                   *int
		} `json:"nodes"`
	} `json:"expect"`
}

var exitIn = regexp.MustCompile(`exit ([0-9]+)`)

// guess is what the corpus's commands do, as far as their text tells.
func guess(_ workflow.Node, p executor.Pod) workflowtest.Outcome {
	o := workflowtest.Outcome{Parameters: map[string]string{}}
	for _, c := range p.Pod.Spec.Containers {
		if c.Name != p.Main && p.Main != "" {
			continue
		}
		words := append(append([]string(nil), c.Command...), c.Args...)
		if len(words) > 0 && words[0] == "/argosay" {
			words = words[1:]
		}
		line := strings.Join(words, " ")
		if p.Script != nil {
			line += " " + p.Script.Source
		}
		if m := exitIn.FindStringSubmatch(line); m != nil {
			o.Exit, _ = strconv.Atoi(m[1])
		}
		if len(words) > 1 && words[0] == "echo" {
			o.Result = words[1]
			for _, q := range p.Outputs.Parameters {
				o.Parameters[q.Name] = words[1]
			}
		}
		if len(words) > 1 && words[0] == "sleep" {
			if d, err := time.ParseDuration(strings.TrimSuffix(words[1], "s") + "s"); err == nil {
				o.Takes = d
			}
		}
		if strings.Contains(line, "heads") && strings.Contains(line, "random") {
			o.Result = "heads"
		}
		if strings.Contains(line, "json.dump") || strings.Contains(line, "[") && strings.Contains(line, "dump") {
			o.Result = "[1,2,3]"
		}
	}
	return o
}

func TestCorpus(t *testing.T) {
	for _, kind := range []string{"e2e", "examples"} {
		raw, err := os.ReadFile(filepath.Join(corpus, kind, "index.json"))
		if err != nil {
			t.Skip("SKIPPED: the conformance corpus is not beside the repository: ", err)
		}
		var cases []corpusCase
		if err := json.Unmarshal(raw, &cases); err != nil {
			t.Fatal(err)
		}
		good, all := 0, 0
		for _, c := range cases {
			if c.Class != "local" || len(c.Steps) > 0 {
				continue
			}
			all++
			if fault := runCase(kind, c); fault != "" {
				t.Logf("%s %s: %s", kind, c.ID, fault)
			} else {
				good++
			}
		}
		t.Logf("%s: %d of %d as expected with guessed outcomes", kind, good, all)
		if good*4 < all*3 {
			t.Errorf("%s: only %d of %d", kind, good, all)
		}
	}
}

func runCase(kind string, c corpusCase) string {
	w := &workflowtest.World{Outcome: guess, Stuck: 20000}
	var wf json.RawMessage
	for _, f := range append(c.With, c.File) {
		data, err := os.ReadFile(filepath.Join(corpus, kind, f))
		if err != nil {
			return err.Error()
		}
		got, _, err := w.Load(f, data)
		if err != nil {
			return err.Error()
		}
		if f == c.File {
			wf = got
		}
	}
	if wf == nil {
		return ""
	}
	r, err := w.Submit(wf, func(s *workflow.Submit) {
		if c.Submit.Name != "" {
			s.Name = c.Submit.Name
		}
		s.Entrypoint = c.Submit.Entrypoint
		s.Parameters = c.Arguments
	})
	if err != nil {
		return "submit: " + err.Error()
	}
	if err := r.Finish(); err != nil {
		return err.Error()
	}
	st := workflow.Status(r.State)
	x := c.Expect
	switch {
	case x.Phase != nil && *x.Phase != string(st.Phase):
		return "phase " + string(st.Phase) + ", want " + *x.Phase + ": " + st.Message + why(r)
	case x.Message != nil && *x.Message != st.Message:
		return "message " + st.Message + ", want " + *x.Message
	case x.Progress != "" && x.Progress != st.Progress:
		return "progress " + st.Progress + ", want " + x.Progress
	case x.NodeCount != 0 && x.NodeCount != len(st.Nodes):
		return "nodes " + strconv.Itoa(len(st.Nodes)) + ", want " + strconv.Itoa(x.NodeCount)
	case !strings.Contains(st.Message, x.MessageContains):
		return "message " + st.Message + ", want it to contain " + x.MessageContains
	}
	for _, want := range x.Nodes {
		n, ok := r.Node(want.DisplayName)
		if !ok {
			return "no node " + want.DisplayName
		}
		if want.Phase != "" && string(n.Phase) != want.Phase || !strings.Contains(n.Message, want.MessageContains) || want.Message != "" && n.Message != want.Message {
			return "node " + want.DisplayName + ": " + string(n.Phase) + " " + n.Message + ", want " + want.Phase + " " + want.MessageContains
		}
		if want.ChildCount != nil && len(st.Nodes[n.ID].Children) != *want.ChildCount {
			return "children of " + want.DisplayName
		}
	}
	return ""
}

func why(r *workflowtest.Run) string {
	s := ""
	for n := range r.State.Nodes() {
		if n.Phase == workflow.Failed || n.Phase == workflow.Error {
			s += "\n\t" + n.Name + " " + string(n.Phase) + " " + n.Message
		}
	}
	return s
}
