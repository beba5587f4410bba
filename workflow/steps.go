package workflow

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tiphys/tiphys/manifest"
)

// failFastMessage is Argo's.
const failFastMessage = "template has failed or errored children and failFast enabled"

// emptyLoop is Argo's message of a loop over nothing.
const emptyLoop = "Skipped, empty params"

// startGroup begins a step group, or ends the steps behind the last one.
func (t *turn) startGroup(n *node, tm *template, g int, after []string) {
	if g >= len(tm.groups) {
		t.finishSteps(n, tm)
		return
	}
	v := invocation{
		name: n.Name + "[" + strconv.Itoa(g) + "]", display: "[" + strconv.Itoa(g) + "]", parent: n, boundary: n, after: after,
		role: roleGroup, index: g, depth: n.Depth, exit: n.Exit,
	}
	group := t.newNode(v, NodeStepGroup)
	group.TemplateScope = n.TemplateScope
	group.Phase = Running
	group = t.create(group)
	if group != nil {
		t.fillGroup(group, n, tm)
	}
}

// fillGroup makes the nodes of a step group's steps, leaving out those that are there already.
func (t *turn) fillGroup(group, b *node, tm *template) {
	var all []prepared
	for _, st := range tm.groups[group.Index] {
		var list []prepared
		var err error
		if st.hasTags() {
			err = t.s.nameSite(b, tm, st)
		}
		if err == nil {
			list, err = t.prepare(b, tm, st)
		}
		if err != nil {
			if !t.needs(group, err) {
				t.finish(group, Error, err.Error(), nil)
			}
			return
		}
		if len(list) == 0 {
			list = []prepared{{site: st, skip: emptyLoop, index: -1}}
		}
		all = append(all, list...)
	}
	for _, p := range all {
		if t.err != nil || group.need || group.Phase.Done() {
			return
		}
		t.invokePrepared(group, b, nil, p, group.Name+"."+p.site.name+p.suffix)
	}
	t.lookAgain(group)
}

// invokePrepared makes the node of one step, task, or item of a loop, unless it is there already.
func (t *turn) invokePrepared(parent, b *node, after []string, p prepared, name string) {
	if t.s.find(name) != nil {
		return
	}
	v := invocation{
		name: name, display: p.site.name + p.suffix, parent: parent, boundary: b, after: after,
		site: p.site, siteKey: p.site.key, step: p.site.name, callee: p.callee, args: p.args, item: p.item, index: p.index,
		depth: b.Depth + 1, exit: b.Exit, position: t.s.position(p.site.path),
	}
	if p.skip != "" {
		t.createDone(v, NodeSkipped, Skipped, p.skip)
		return
	}
	if t.failsFast(b) && b.failures > 0 {
		return
	}
	t.invoke(v)
}

// lookAgain lets a parent reconsider without a child having told it.
func (t *turn) lookAgain(p *node) {
	if p.Phase.Done() {
		return
	}
	switch p.Type {
	case NodeStepGroup:
		t.advanceStepGroup(p)
	case NodeTaskGroup:
		t.advanceTaskGroup(p)
	case NodeDAG:
		t.endDAG(p)
	case NodeRetry:
		if p.open == 0 {
			t.finish(p, Failed, failFastMessage, nil)
		}
	}
}

// advanceStepGroup ends a step group once all of its steps have ended.
func (t *turn) advanceStepGroup(group *node) {
	if group.open > 0 || group.need || group.Phase.Done() {
		return
	}
	if group.bad > 0 {
		b := t.s.node(group.BoundaryID)
		tm, err := t.s.within(b)
		if err != nil {
			t.err = err
			return
		}
		for _, c := range t.s.childrenOf(group) {
			if !c.Phase.bad() {
				continue
			}
			if st := tm.siteAt(c.Site); st == nil || !st.continues(c.Phase) {
				t.finish(group, Failed, fmt.Sprintf("child '%s' failed", c.ID), nil)
				return
			}
		}
	}
	t.finish(group, Succeeded, "", nil)
}

// advanceSteps goes on to the next group, or ends the steps.
func (t *turn) advanceSteps(n, group *node) {
	tm, err := t.s.within(n)
	if err != nil {
		t.err = err
		return
	}
	if group.Phase.bad() {
		message := group.Message
		if t.failsFast(n) && group.Phase == Failed {
			message = failFastMessage
		}
		t.finish(n, Failed, message, nil)
		return
	}
	t.startGroup(n, tm, group.Index+1, []string{group.ID})
}

// finishSteps computes the outputs of steps whose groups have all succeeded.
func (t *turn) finishSteps(n *node, tm *template) {
	outputs, err := t.compositeOutputs(n, tm)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	t.finish(n, Succeeded, "", outputs)
}

// compositeOutputs reads the outputs of a steps or dag template from its children.
func (t *turn) compositeOutputs(n *node, tm *template) (*manifest.Outputs, error) {
	tree, _ := tm.tree["outputs"].(map[string]any)
	if len(tree) == 0 {
		return nil, nil
	}
	sc := &scope{s: t.s, now: t.now, chance: &t.chance, inputs: n.Inputs, self: n, boundary: n}
	out := &manifest.Outputs{}
	params, _ := tree["parameters"].([]any)
	for _, p := range params {
		param, err := t.compositeParameter(p, sc)
		if err != nil {
			return nil, err
		}
		out.Parameters = append(out.Parameters, param)
	}
	artifacts, _ := tree["artifacts"].([]any)
	for _, a := range artifacts {
		art, ok, err := compositeArtifact(a, sc)
		if err != nil {
			return nil, err
		}
		if ok {
			out.Artifacts = append(out.Artifacts, art)
		}
	}
	if len(out.Parameters)+len(out.Artifacts) == 0 {
		return nil, nil
	}
	return out, nil
}

func (t *turn) compositeParameter(v any, sc *scope) (manifest.Parameter, error) {
	tree, _ := v.(map[string]any)
	vf, _ := tree["valueFrom"].(map[string]any)
	def, hasDefault := vf["default"]
	done, err := substitute(tree, sc)
	if err != nil {
		if !hasDefault {
			return manifest.Parameter{}, err
		}
		d, derr := substitute(def, sc)
		if derr != nil {
			return manifest.Parameter{}, derr
		}
		param := manifest.Parameter{Name: text(tree["name"]), Value: manifest.NewAnyString(text(d))}
		param.GlobalName = text(tree["globalName"])
		return param, nil
	}
	var param manifest.Parameter
	if err := decodeValue(done, &param); err != nil {
		return param, fmt.Errorf("outputs.parameters.%s: %w", text(tree["name"]), err)
	}
	if param.ValueFrom != nil && param.Value == nil {
		if err := t.parameterFrom(&param, sc); err != nil {
			return param, err
		}
	}
	return param, nil
}

func compositeArtifact(v any, sc *scope) (manifest.Artifact, bool, error) {
	art, from, expression, err := artifactAt(v, "outputs.artifacts", sc)
	if err != nil {
		return art, false, err
	}
	source, err := artifactFrom(from, expression, sc)
	if err != nil && !art.Optional {
		return art, false, err
	}
	if source == nil {
		if art.Optional {
			return art, false, nil
		}
		return art, false, fmt.Errorf("unable to resolve outputs.artifacts.%s: %s has no value", art.Name, from+expression)
	}
	source.Name, source.GlobalName, source.Optional = art.Name, art.GlobalName, art.Optional
	return *source, true, nil
}

// needs asks for an object that a node turned out to need, and lets the node wait for it.
func (t *turn) needs(n *node, err error) bool {
	var missing missingTemplateError
	if !errors.As(err, &missing) {
		return false
	}
	if !n.need {
		t.change(kindChanged, n, nodeChange{Need: ptr(true), Waiting: ptr("waits for " + missing.ref.Kind + " " + missing.ref.Name)})
	}
	t.effect(Need{Key: "objects/" + n.ID + "/" + missing.ref.Kind + "/" + missing.ref.Name, Refs: []Ref{missing.ref}})
	return true
}

// position is where a field of the run's manifest stands.
func (s *State) position(path string) *manifest.Position {
	if path == "" {
		return nil
	}
	if p, ok := s.start.Positions[path]; ok {
		return &p
	}
	return nil
}
