package runs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// check compares a finished workflow with what the corpus states (its README lists the keys).
func (e expectation) check(f finished) error {
	var errs []error
	s := f.Status
	if e.Phase != nil && s.Phase != *e.Phase {
		errs = append(errs, fmt.Errorf("phase %s (%s), want %s", s.Phase, s.Message, *e.Phase))
	}
	if len(e.PhaseIn) > 0 && !slices.Contains(e.PhaseIn, s.Phase) {
		errs = append(errs, fmt.Errorf("phase %s, want one of %v", s.Phase, e.PhaseIn))
	}
	if err := checkMessage(s.Message, e.Message, e.MessageHas, e.MessageMatches); err != nil {
		errs = append(errs, err)
	}
	if e.Progress != "" && s.Progress != e.Progress {
		errs = append(errs, fmt.Errorf("progress %s, want %s", s.Progress, e.Progress))
	}
	if e.NodeCount != nil && len(s.Nodes) != *e.NodeCount {
		errs = append(errs, fmt.Errorf("%d nodes, want %d", len(s.Nodes), *e.NodeCount))
	}
	for _, want := range append(slices.Clone(e.Nodes), e.OtherNodes...) {
		if err := f.checkNode(want); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func checkMessage(got string, whole *string, has, matches string) error {
	if whole != nil && got != *whole {
		return fmt.Errorf("message %q, want %q", got, *whole)
	}
	if !strings.Contains(got, has) {
		return fmt.Errorf("message %q, want one with %q", got, has)
	}
	if matches != "" {
		if ok, err := regexp.MatchString(matches, got); err != nil || !ok {
			return fmt.Errorf("message %q does not match %q", got, matches)
		}
	}
	return nil
}

// checkNode looks for a node that has all that is wanted.
func (f finished) checkNode(want map[string]any) error {
	var chosen []map[string]any
	for _, n := range f.Status.Nodes {
		if f.chooses(want, n) {
			chosen = append(chosen, n)
		}
	}
	if want["absent"] == true {
		if len(chosen) > 0 {
			return fmt.Errorf("there is a node %v", want)
		}
		return nil
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no node %v", want)
	}
	var last error
	for _, n := range chosen {
		if last = nodeHas(n, want); last == nil {
			return nil
		}
	}
	return last
}

func (f finished) chooses(want, n map[string]any) bool {
	name, _ := n["name"].(string)
	text := func(key string) (string, bool) {
		s, ok := want[key].(string)
		return strings.ReplaceAll(s, "{workflow}", f.Metadata.Name), ok
	}
	if s, ok := text("displayName"); ok && n["displayName"] != s {
		return false
	}
	if s, ok := text("name"); ok && name != s {
		return false
	}
	if s, ok := text("nameContains"); ok && !strings.Contains(name, s) {
		return false
	}
	if s, ok := text("nameEndsWith"); ok && !strings.HasSuffix(name, s) {
		return false
	}
	if s, ok := text("templateName"); ok && n["templateName"] != s {
		return false
	}
	if s, ok := text("type"); ok && n["type"] != s {
		return false
	}
	return want["root"] != true || name == f.Metadata.Name
}

func nodeHas(n, want map[string]any) error {
	name := n["displayName"]
	if p, ok := want["phase"]; ok && n["phase"] != p {
		return fmt.Errorf("node %v is %v (%v), want %v", name, n["phase"], n["message"], p)
	}
	if list, ok := want["phaseIn"].([]any); ok && !slices.Contains(list, n["phase"]) {
		return fmt.Errorf("node %v is %v, want one of %v", name, n["phase"], list)
	}
	message, _ := n["message"].(string)
	has, _ := want["messageContains"].(string)
	matches, _ := want["messageMatches"].(string)
	var whole *string
	if s, ok := want["message"].(string); ok {
		whole = &s
	}
	if err := checkMessage(message, whole, has, matches); err != nil {
		return fmt.Errorf("node %v: %w", name, err)
	}
	if p, ok := want["progress"]; ok && n["progress"] != p {
		return fmt.Errorf("node %v has progress %v, want %v", name, n["progress"], p)
	}
	outputs, _ := n["outputs"].(map[string]any)
	inputs, _ := n["inputs"].(map[string]any)
	for key, got := range map[string]any{"result": outputs["result"], "exitCode": outputs["exitCode"]} {
		if w, ok := want[key]; ok && fmt.Sprint(got) != fmt.Sprint(w) {
			return fmt.Errorf("node %v has %s %v, want %v", name, key, got, w)
		}
	}
	flags, _ := n["nodeFlag"].(map[string]any)
	for _, key := range []string{"hooked", "retried"} {
		if w, ok := want[key]; ok && (flags[key] == true) != (w == true) {
			return fmt.Errorf("node %v: %s is %v, want %v", name, key, flags[key], w)
		}
	}
	children, _ := n["children"].([]any)
	if w, ok := want["childCount"].(float64); ok && len(children) != int(w) {
		return fmt.Errorf("node %v has %d children, want %v", name, len(children), w)
	}
	if err := parametersAre("input", inputs, want); err != nil {
		return fmt.Errorf("node %v: %w", name, err)
	}
	if err := parametersAre("output", outputs, want); err != nil {
		return fmt.Errorf("node %v: %w", name, err)
	}
	return nil
}

func parametersAre(side string, io, want map[string]any) error {
	params, _ := io["parameters"].([]any)
	if w, ok := want[side+"ParameterCount"].(float64); ok && len(params) != int(w) {
		return fmt.Errorf("%d %s parameters, want %v", len(params), side, w)
	}
	list, _ := want[side+"Parameters"].([]any)
	for _, item := range list {
		w, _ := item.(map[string]any)
		i, _ := w["index"].(float64)
		if int(i) >= len(params) {
			return fmt.Errorf("%s parameter %v is missing", side, i)
		}
		got, _ := params[int(i)].(map[string]any)
		for _, key := range []string{"name", "value"} {
			if v, ok := w[key]; ok && fmt.Sprint(got[key]) != fmt.Sprint(v) {
				return fmt.Errorf("%s parameter %v has %s %v, want %v", side, i, key, got[key], v)
			}
		}
	}
	return nil
}
