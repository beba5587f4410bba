package workflow

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/manifest"
)

// LabelRepeated is Argo's label of a run that repeats another one.
const LabelRepeated = "workflows.argoproj.io/resubmitted-from-workflow"

// Repeat is what a run was made of, for another run that is made of the same (FormulateResubmitWorkflow in workflow/util/util.go of Argo).
type Repeat struct {
	// Workflow is the manifest without its name: what the run's template gave is left out, and comes from the template as it is now.
	Workflow  json.RawMessage
	Positions map[string]manifest.Position
	Given     []manifest.Given
	// GenerateName begins the name of the new run.
	GenerateName string
	// Labels and Annotations are those of the run, and the label that names it.
	Labels, Annotations map[string]string
	// Parameters are arguments that a retry changed: the manifest does not have them.
	Parameters map[string]string
	// Event is that which led to the run; Claims is whom and what it acts for.
	Event  int64
	Claims claims.Record
	// Earlier names the run.
	Earlier Earlier
	// Failed says that the run ended badly.
	Failed bool
}

// Earlier is a run whose results a run that repeats it takes, where a step succeeded.
type Earlier struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
	// Before are the uids of runs whose results the earlier run took in its turn, the nearest first.
	Before []string `json:"before,omitempty"`
}

// Has reports whether results may be those of the run with a uid.
func (e *Earlier) Has(uid string) bool {
	return e != nil && (e.UID == uid || slices.Contains(e.Before, uid))
}

// mostBefore bounds how many repetitions deep results are taken from.
const mostBefore = 100

// EarlierNode is the node of an [Earlier] run that stands for a node of a later one.
type EarlierNode struct {
	Run  string `json:"run"`
	UID  string `json:"uid"`
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Repeat gives what the run was made of.
func (s *State) Repeat() (Repeat, error) {
	tree, err := decodeTree(s.start.Workflow)
	if err != nil {
		return Repeat{}, fmt.Errorf("read manifest of run %s: %w", s.run.Name, err)
	}
	spec := asMap(tree["spec"])
	given := slices.Clone(s.start.Given)
	if spec["workflowTemplateRef"] != nil {
		delete(spec, "templates")
		given = slices.DeleteFunc(given, func(g manifest.Given) bool { return len(g.Path) > 1 && g.Path[0] == "spec" && g.Path[1] == "templates" })
	}
	delete(spec, "shutdown")
	meta := asMap(tree["metadata"])
	r := Repeat{
		Positions: s.start.Positions, Given: given, GenerateName: text(meta["generateName"]), Labels: maps.Clone(s.run.Labels),
		Annotations: maps.Clone(s.run.Annotations), Event: s.start.Event, Claims: s.start.claimed(),
		Earlier: Earlier{Name: s.run.Name, UID: s.run.UID}, Failed: s.run.Phase.bad(),
	}
	if before := s.start.Earlier; before != nil {
		all := append([]string{before.UID}, before.Before...)
		r.Earlier.Before = all[:min(len(all), mostBefore)]
	}
	if r.GenerateName == "" {
		r.GenerateName = s.run.Name + "-"
	}
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	r.Labels[LabelRepeated] = s.run.Name
	tree["metadata"] = map[string]any{"generateName": r.GenerateName, "namespace": s.run.Namespace}
	tree = withoutKeys(tree, "status")
	if r.Parameters, err = s.changedArguments(); err != nil {
		return Repeat{}, err
	}
	r.Workflow, err = json.Marshal(tree)
	return r, err
}

// changedArguments are the arguments whose values are not what the manifest gives: a retry was given others.
func (s *State) changedArguments() (map[string]string, error) {
	sc := &scope{s: s, now: s.run.CreatedAt}
	t := &turn{s: s, now: s.run.CreatedAt}
	was := map[string]string{}
	list, _ := asMap(asMap(s.cache.manifest["spec"])["arguments"])["parameters"].([]any)
	for _, x := range list {
		done, err := substitute(x, sc)
		if err != nil {
			continue // what cannot be found out again was not found in the manifest alone
		}
		var p manifest.Parameter
		if err := decodeValue(done, &p); err != nil {
			return nil, fmt.Errorf("read argument: %w", err)
		}
		if p.Value == nil && p.ValueFrom != nil && t.parameterFrom(&p, sc) != nil {
			continue
		}
		if p.Value == nil {
			p.Value = p.Default
		}
		was[p.Name] = p.Value.Text()
	}
	changed := map[string]string{}
	for _, p := range s.start.Parameters {
		if before, there := was[p.Name]; !there || before != p.Value.Text() {
			changed[p.Name] = p.Value.Text()
		}
	}
	return changed, nil
}

// earlierOf names the node of the earlier run that may have done the work of a node: a step that is a pod, or all attempts at one. What an exit
// handler did belongs to the end of that run, and a daemon is not what it leaves.
func (s *State) earlierOf(n *node) *EarlierNode {
	e := s.start.Earlier
	if e == nil || n.Exit || n.Type != NodePod && n.Type != NodeRetry {
		return nil
	}
	tm, err := s.templateAt(n.Template)
	if err != nil || s.isDaemon(n) || kindType(tm) != NodePod {
		return nil
	}
	name := e.Name + n.Name[len(s.run.Name):]
	return &EarlierNode{Run: e.Name, UID: e.UID, ID: nodeID(e.Name, name), Name: name}
}
