package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// loopItem is one item of a loop; Name is "0:text", as it stands in the node's name.
type loopItem struct {
	Value json.RawMessage
	Name  string
}

// absentError says that a tag names an output that its node did not leave and has no default for; why says how that came.
type absentError struct{ tag, why string }

func (e absentError) Error() string {
	return "failed to resolve " + e.tag + ": absent optional value (" + e.why + "; give the output valueFrom.default, the input a default, or use {{=… ?? …}})"
}

// absence says why there is no value behind a known name.
func (v *scope) absence(name string) string {
	root, rest, _ := strings.Cut(name, ".")
	if root != "steps" && root != "tasks" {
		return "nothing was given"
	}
	step, _, _ := strings.Cut(rest, ".")
	n := v.madeBy(step)
	switch {
	case n == nil:
		return "there is none"
	case n.Phase == Skipped && n.Message == emptyLoop:
		return "the loop " + step + " had no items"
	case n.Phase == Skipped:
		return "the step that makes it was skipped"
	case n.Phase == Omitted:
		return "the task that makes it was omitted"
	case n.Phase.bad():
		return "the step that makes it ended as " + string(n.Phase)
	}
	return "the step that makes it did not leave it"
}

// madeBy is the node of a step or task of the boundary.
func (v *scope) madeBy(step string) *node {
	if v.boundary == nil {
		return nil
	}
	t, err := v.s.within(v.boundary)
	if err != nil || t.byName[step] == nil {
		return nil
	}
	return v.s.find(t.byName[step].nodeName(v.boundary))
}

// nodeName is the name of the node that a step or task makes below a boundary; items of a loop have more behind it.
func (st *site) nodeName(boundary *node) string {
	if boundary.Type == NodeSteps {
		return boundary.Name + "[" + itoa(st.group) + "]." + st.name
	}
	return boundary.Name + "." + st.name
}

func isAbsent(err error) bool {
	var a absentError
	return errors.As(err, &a)
}

func (v *scope) options() expression.Options {
	o := expression.Options{Now: v.now, Seed: v.s.start.Time.UnixNano(), Code: evaluated, Keep: v.called.keeps}
	if v.chance != nil {
		*v.chance++
		o.Seed = *v.chance
	}
	return o
}

// evaluated says which texts of templates, arguments and parameters are evaluated after their tags are replaced.
func evaluated(path string) expression.Language {
	switch path {
	case "http.successCondition", "data.transformation.expression", "outputs.parameters.valueFrom.expression", "valueFrom.expression":
		return expression.Expr
	case "outputs.parameters.valueFrom.jqFilter":
		return expression.JQ
	}
	return expression.Plain
}

// substitute replaces the tags of a tree; a tag that nothing resolves is an error.
func substitute(tree any, sc *scope) (any, error) {
	done, unresolved, err := sc.s.cache.evaluator.Substitute(tree, sc, sc.options())
	if err != nil {
		return nil, err
	}
	return done, sc.complain(unresolved)
}

// substituteText is substitute for one text.
func substituteText(text string, sc *scope) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	done, unresolved, err := sc.s.cache.evaluator.SubstituteText(text, sc, sc.options())
	if err != nil {
		return "", err
	}
	return done, sc.complain(unresolved)
}

// substituteCode is substituteText for an expression, in which values are literals.
func substituteCode(code string, lang expression.Language, sc *scope) (string, error) {
	if !strings.Contains(code, "{{") {
		return code, nil
	}
	done, unresolved, err := sc.s.cache.evaluator.SubstituteCode(code, lang, sc, sc.options())
	if err != nil {
		return "", err
	}
	return done, sc.complain(unresolved)
}

func (v *scope) complain(unresolved []expression.Unresolved) error {
	if len(unresolved) == 0 {
		return nil
	}
	u := unresolved[0]
	if x, known := v.Lookup(u.Name); known && x == nil {
		return absentError{u.Tag, v.absence(u.Name)}
	}
	return errors.New(u.Error())
}

// Names implements expression.Lister for the groups that expressions take as a whole.
func (v *scope) Names(prefix string) []string {
	var out []string
	add := func(name string) {
		if strings.HasPrefix(name, prefix+".") {
			out = append(out, name)
		}
	}
	for name := range v.extra {
		add(name)
	}
	if v.inputs != nil {
		for _, p := range v.inputs.Parameters {
			add("inputs.parameters." + p.Name)
		}
		for _, a := range v.inputs.Artifacts {
			add("inputs.artifacts." + a.Name)
		}
	}
	if strings.HasPrefix(prefix, "workflow") {
		for name := range v.s.globals() {
			add("workflow." + name)
		}
		for _, p := range v.s.outputs.Parameters {
			add("workflow.outputs.parameters." + p.Name)
		}
		add("workflow.status")
	}
	root, rest, _ := strings.Cut(prefix, ".")
	if v.boundary == nil || root != "steps" && root != "tasks" {
		return out
	}
	step, _, _ := strings.Cut(rest, ".")
	for _, name := range v.stepNames(step) {
		for _, field := range [...]string{"status", "id", "ip", "exitCode", "startedAt", "finishedAt", "outputs.result"} {
			add(root + "." + name + "." + field)
		}
		if t, err := v.s.templateAt(v.calleeKey(name)); err == nil {
			for _, p := range t.loose.Outputs.Parameters {
				add(root + "." + name + ".outputs.parameters." + p.Name)
			}
		}
	}
	return out
}

// stepNames are the steps of the boundary that an expression may mean: the one it names, or all.
func (v *scope) stepNames(one string) []string {
	t, err := v.s.within(v.boundary)
	if err != nil {
		return nil
	}
	if t.byName[one] != nil {
		return []string{one}
	}
	return sortedKeys(t.byName)
}

// calleeKey is the template that a step of the boundary has run.
func (v *scope) calleeKey(step string) string {
	if n := v.madeBy(step); n != nil {
		return n.Template
	}
	return ""
}

func evalBool(code string, sc *scope) (bool, error) {
	code, err := substituteCode(code, expression.Expr, sc)
	if err != nil {
		return false, err
	}
	return sc.s.cache.evaluator.EvalBool(code, sc, sc.options())
}

func evalAny(code string, sc *scope) (any, error) {
	return sc.s.cache.evaluator.Eval(code, sc, sc.options())
}

// evalWhen decides a step's when. If it is false, shown is what Argo would have evaluated, for people.
func evalWhen(when string, sc *scope) (result bool, shown string, err error) {
	code, err := substituteCode(when, expression.When, sc)
	if err != nil {
		return false, "", fmt.Errorf("invalid 'when' expression '%s': %w", when, err)
	}
	if result, err = expression.EvalWhen(code); err != nil || result {
		return result, "", err
	}
	shown, err = substituteText(when, sc)
	return false, shown, err
}

func parseDuration(text string) (time.Duration, error) { return expression.Duration(text) }

// expand gives the items of a loop.
func expand(tree map[string]any, sc *scope) ([]loopItem, error) {
	values, err := loopValues(tree, sc)
	if err != nil {
		return nil, err
	}
	items := make([]loopItem, 0, len(values))
	for i, v := range values {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("item %d of a loop: %w", i, err)
		}
		name := expression.ItemName("", i, v)
		items = append(items, loopItem{raw, strings.TrimSuffix(strings.TrimPrefix(name, "("), ")")})
	}
	return items, nil
}

func loopValues(tree map[string]any, sc *scope) ([]any, error) {
	if with := tree["withItems"]; with != nil {
		done, err := substitute(with, sc)
		if err != nil {
			return nil, err
		}
		if list, ok := done.([]any); ok {
			return list, nil
		}
		return expression.ParamItems(text(done))
	}
	if with := tree["withParam"]; with != nil {
		done, err := substitute(with, sc)
		if err != nil {
			return nil, err
		}
		if list, ok := done.([]any); ok {
			return list, nil
		}
		return expression.ParamItems(text(done))
	}
	done, err := substitute(tree["withSequence"], sc)
	if err != nil {
		return nil, err
	}
	var seq manifest.Sequence
	if err := decodeValue(done, &seq); err != nil {
		return nil, fmt.Errorf("read withSequence: %w", err)
	}
	return expression.Sequence(seq)
}

// dependsLogic is when a task runs, by the results of those it depends on.
type dependsLogic struct {
	d     *expression.Depends
	tasks []string
}

// dependencyResult is how a task ended.
type dependencyResult struct {
	Succeeded, Failed, Errored, Skipped, Omitted, Daemoned, AnySucceeded, AllFailed bool
}

func (r dependencyResult) is(result string) bool {
	switch result {
	case "Succeeded":
		return r.Succeeded
	case "Failed":
		return r.Failed
	case "Errored":
		return r.Errored
	case "Skipped":
		return r.Skipped
	case "Omitted":
		return r.Omitted
	case "Daemoned":
		return r.Daemoned
	case "AnySucceeded":
		return r.AnySucceeded
	case "AllFailed":
		return r.AllFailed
	}
	return false
}

// parseDepends reads a task's depends, or its dependencies with the continueOn of those they name.
func parseDepends(st *site, tm *template) (*dependsLogic, error) {
	if strings.TrimSpace(st.depends) != "" {
		d, err := expression.ParseDepends(st.depends)
		if err != nil {
			return nil, fmt.Errorf("depends of task '%s': %w", st.name, err)
		}
		return &dependsLogic{d, d.Tasks()}, nil
	}
	if len(st.dependencies) == 0 {
		return &dependsLogic{}, nil
	}
	d := expression.DependsOn(st.dependencies, func(task string) (failed, errored bool) {
		if other := tm.byName[task]; other != nil && other.loose.ContinueOn != nil {
			return other.loose.ContinueOn.Failed, other.loose.ContinueOn.Error
		}
		return false, false
	})
	return &dependsLogic{d, d.Tasks()}, nil
}

func (l *dependsLogic) eval(of func(task string) dependencyResult) bool {
	if l.d == nil {
		return true
	}
	return l.d.Eval(func(task, result string) bool { return of(task).is(result) })
}
