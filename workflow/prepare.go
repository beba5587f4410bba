package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// prepared is one step or task, or one item of its loop, with its tags replaced.
type prepared struct {
	site   *site
	suffix string // "(0:item)" of a loop
	item   json.RawMessage
	index  int
	skip   string // why it is skipped
	callee *template
	args   manifest.Arguments
}

// prepare replaces the tags of a step or task and takes its loop apart. None means a loop over nothing.
func (t *turn) prepare(b *node, tm *template, st *site) ([]prepared, error) {
	sc := t.siteScope(b, st)
	if !st.loop {
		p, err := t.prepareOne(tm, st, sc, st.nodeName(b))
		if err != nil {
			return nil, err
		}
		return []prepared{p}, nil
	}
	items, err := expand(st.tree, sc)
	if err != nil {
		return nil, err
	}
	if limit := t.s.fanOut(); len(items) > limit {
		return nil, fmt.Errorf("step %s has %d items, and a run takes at most %d at once: split the list", st.name, len(items), limit)
	}
	out := make([]prepared, 0, len(items))
	for i, it := range items {
		sc.item = it.Value
		suffix := "(" + it.Name + ")"
		p, err := t.prepareOne(tm, st, sc, st.nodeName(b)+suffix)
		if err != nil {
			return nil, err
		}
		p.suffix, p.item, p.index = suffix, it.Value, i
		out = append(out, p)
	}
	return out, nil
}

// fanOut is the most items that one loop may have.
func (s *State) fanOut() int { return 100_000 }

func (t *turn) siteScope(b *node, st *site) *scope {
	return &scope{s: t.s, now: t.now, chance: &t.chance, inputs: b.Inputs, self: b, boundary: b, stepName: st.name, extra: t.retryValues(b)}
}

// prepareOne prepares what becomes the node of a name.
func (t *turn) prepareOne(tm *template, st *site, sc *scope, name string) (prepared, error) {
	p := prepared{site: st}
	sc.called = nil
	if when, _ := st.tree["when"].(string); when != "" {
		ok, text, err := evalWhen(when, sc)
		if err != nil {
			return p, err
		}
		if !ok {
			p.skip = fmt.Sprintf("when '%s' evaluated false", text)
			p.callee, _ = t.calleeOf(tm, st, sc)
			return p, nil
		}
	}
	var err error
	if p.callee, err = t.calleeOf(tm, st, sc); err != nil {
		return p, err
	}
	args, _ := st.tree["arguments"].(map[string]any)
	sc.called = t.s.calls(name, p.callee)
	p.args, err = t.arguments(args, p.callee, sc)
	return p, err
}

func (t *turn) calleeOf(tm *template, st *site, sc *scope) (*template, error) {
	if inline, ok := st.tree["inline"].(map[string]any); ok && inline != nil {
		return t.s.callee(tm, "", nil, st.key)
	}
	name, err := substituteText(text(st.tree["template"]), sc)
	if err != nil {
		return nil, err
	}
	ref, err := templateRef(st.tree["templateRef"], sc)
	if err != nil {
		return nil, err
	}
	return t.s.callee(tm, name, ref, "")
}

func templateRef(v any, sc *scope) (*manifest.TemplateRef, error) {
	tree, _ := v.(map[string]any)
	if tree == nil {
		return nil, nil
	}
	done, err := substitute(tree, sc)
	if err != nil {
		return nil, err
	}
	var ref manifest.TemplateRef
	if err := decodeValue(done, &ref); err != nil {
		return nil, fmt.Errorf("read templateRef: %w", err)
	}
	return &ref, nil
}

// arguments replaces the tags of arguments. A parameter whose value an earlier step did not leave is left out if
// the callee has a default for it (reference 1.12, rule 5).
func (t *turn) arguments(tree map[string]any, callee *template, sc *scope) (manifest.Arguments, error) {
	var out manifest.Arguments
	params, _ := tree["parameters"].([]any)
	for _, p := range params {
		done, err := substitute(p, sc)
		if err != nil {
			m, _ := p.(map[string]any)
			if isAbsent(err) && callee.hasDefault(text(m["name"])) {
				continue
			}
			return out, err
		}
		var param manifest.Parameter
		if err := decodeValue(done, &param); err != nil {
			return out, fmt.Errorf("read argument: %w", err)
		}
		if param.ValueFrom != nil {
			if err := t.parameterFrom(&param, sc); err != nil {
				return out, err
			}
			if param.Value == nil && callee.hasDefault(param.Name) {
				continue
			}
		}
		out.Parameters = append(out.Parameters, param)
	}
	artifacts, _ := tree["artifacts"].([]any)
	for _, a := range artifacts {
		art, ok, err := t.artifactArgument(a, callee, sc)
		if err != nil {
			return out, err
		}
		if ok {
			out.Artifacts = append(out.Artifacts, art)
		}
	}
	return out, nil
}

// hasDefault reports whether an input parameter has a value of its own.
func (tm *template) hasDefault(name string) bool {
	if tm == nil {
		return false
	}
	for _, p := range tm.loose.Inputs.Parameters {
		if p.Name == name {
			return p.Default != nil || p.Value != nil || p.ValueFrom != nil && p.ValueFrom.Default != nil
		}
	}
	return false
}

// optionalInput reports whether an input artifact may be missing.
func (tm *template) optionalInput(name string) bool {
	if tm == nil {
		return false
	}
	for _, a := range tm.loose.Inputs.Artifacts {
		if a.Name == name {
			return a.Optional
		}
	}
	return false
}

func (t *turn) artifactArgument(v any, callee *template, sc *scope) (manifest.Artifact, bool, error) {
	art, from, expression, err := artifactAt(v, "read artifact argument", sc)
	if err != nil {
		return art, false, err
	}
	optional := art.Optional || callee.optionalInput(art.Name)
	if from == "" && expression == "" {
		return art, true, nil
	}
	source, err := artifactFrom(from, expression, sc)
	if err != nil || source == nil {
		if optional {
			return art, false, nil
		}
		if err == nil {
			err = fmt.Errorf("unable to resolve references: artifact %s has no value: %s", art.Name, from+expression)
		}
		return art, false, err
	}
	source.Name, source.Optional, source.GlobalName = art.Name, art.Optional, ""
	if art.SubPath != "" {
		source.SubPath = art.SubPath
	}
	source.Path, source.Mode = art.Path, art.Mode
	return *source, true, nil
}

// artifactAt reads an artifact with its tags replaced, all but those of from and fromExpression: they name another
// artifact and are not text. what begins the message of one that cannot be read.
func artifactAt(v any, what string, sc *scope) (art manifest.Artifact, from, expression string, err error) {
	tree, _ := v.(map[string]any)
	from, _ = tree["from"].(string)
	expression, _ = tree["fromExpression"].(string)
	done, err := substitute(withoutKeys(tree, "from", "fromExpression"), sc)
	if err != nil {
		return art, from, expression, err
	}
	if err := decodeValue(done, &art); err != nil {
		return art, from, expression, fmt.Errorf("%s: %w", what, err)
	}
	return art, from, expression, nil
}

// artifactFrom finds the artifact that from ("{{steps.a.outputs.artifacts.b}}") or fromExpression names. It is nil
// if an earlier node did not leave it.
func artifactFrom(from, expression string, sc *scope) (*manifest.Artifact, error) {
	var value any
	if expression != "" {
		x, err := evalAny(expression, sc)
		if err != nil {
			return nil, err
		}
		value = x
	} else {
		name := strings.TrimSpace(from)
		if strings.HasPrefix(name, "{{=") {
			x, err := evalAny(strings.TrimSuffix(strings.TrimPrefix(name, "{{="), "}}"), sc)
			if err != nil {
				return nil, err
			}
			value = x
		} else {
			name = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(name, "{{"), "}}"))
			if strings.Contains(name, "{{") {
				done, err := substituteText(name, sc)
				if err != nil {
					return nil, err
				}
				name = done
			}
			x, known := sc.Lookup(name)
			if !known {
				return nil, fmt.Errorf("unable to resolve references: failed to resolve {{%s}}", name)
			}
			value = x
		}
	}
	switch a := value.(type) {
	case nil:
		return nil, nil
	case manifest.Artifact:
		return &a, nil
	case *manifest.Artifact:
		c := *a
		return &c, nil
	}
	var a manifest.Artifact
	if err := decodeValue(value, &a); err != nil {
		return nil, fmt.Errorf("unable to resolve references: %s is not an artifact", from+expression)
	}
	return &a, nil
}

// parameterFrom fills in what valueFrom says where it does not need a pod: an expression, another parameter, a
// ConfigMap.
func (t *turn) parameterFrom(p *manifest.Parameter, sc *scope) error {
	vf := p.ValueFrom
	switch {
	case vf.Expression != "":
		x, err := evalAny(vf.Expression, sc)
		if err != nil || x == nil {
			if vf.Default != nil {
				p.Value = vf.Default
				return nil
			}
			if err == nil {
				err = fmt.Errorf("expression %q of parameter %s has no value", vf.Expression, p.Name)
			}
			return err
		}
		p.Value = manifest.NewAnyString(text(x))
	case vf.Parameter != "":
		p.Value = manifest.NewAnyString(vf.Parameter)
	case vf.ConfigMapKeyRef != nil:
		x, err := t.s.configValue(vf.ConfigMapKeyRef.Name, vf.ConfigMapKeyRef.Key)
		if err != nil {
			var missing missingTemplateError
			if vf.Default != nil && !errors.As(err, &missing) {
				p.Value = vf.Default
				break
			}
			return err
		}
		p.Value = manifest.NewAnyString(x)
	default:
		if vf.Default != nil {
			p.Value = vf.Default
		}
		return nil
	}
	p.ValueFrom = nil
	return nil
}

// configValue reads a key of a ConfigMap that the run has pinned.
func (s *State) configValue(name, key string) (string, error) {
	ref := Ref{Kind: "ConfigMap", Namespace: s.run.Namespace, Name: name}
	raw, known := s.objects[ref]
	if !known {
		return "", missingTemplateError{ref}
	}
	if raw == nil {
		return "", fmt.Errorf("configmap '%s' not found: create it, or give the parameter a default", name)
	}
	var cm struct {
		Data map[string]string `json:"data"`
	}
	if err := json.Unmarshal(raw, &cm); err != nil {
		return "", fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	v, ok := cm.Data[key]
	if !ok {
		return "", fmt.Errorf("ConfigMap '%s' does not have the key '%s'", name, key)
	}
	return v, nil
}

// inputs resolves a template's inputs from its arguments.
func (t *turn) inputs(v invocation) (*manifest.Inputs, error) {
	tree, _ := v.callee.tree["inputs"].(map[string]any)
	if len(tree) == 0 {
		return nil, nil
	}
	self := t.newNode(v, kindType(v.callee))
	sc := &scope{s: t.s, now: t.now, chance: &t.chance, self: self, inputs: &manifest.Inputs{}, item: v.item, extra: v.extra}
	if v.role != roleAttempt {
		sc.called = t.s.calls(v.name, v.callee)
	}
	in := &manifest.Inputs{}
	params, _ := tree["parameters"].([]any)
	for _, p := range params {
		m, _ := p.(map[string]any)
		param, err := t.inputParameter(m, v.args, sc)
		if err != nil {
			return nil, err
		}
		in.Parameters = append(in.Parameters, param)
		sc.inputs = in
	}
	artifacts, _ := tree["artifacts"].([]any)
	for _, a := range artifacts {
		art, ok, err := inputArtifact(a, v.args, sc)
		if err != nil {
			return nil, err
		}
		if ok {
			in.Artifacts = append(in.Artifacts, art)
		}
	}
	return in, nil
}

// inputParameter takes the argument's value, else the parameter's own, else what valueFrom gives, else the default.
func (t *turn) inputParameter(m map[string]any, args manifest.Arguments, sc *scope) (manifest.Parameter, error) {
	name := text(m["name"])
	for _, a := range args.Parameters {
		if a.Name != name || a.Value == nil {
			continue
		}
		var p manifest.Parameter
		if err := decodeValue(withoutKeys(m, "value", "valueFrom", "default"), &p); err != nil {
			return p, fmt.Errorf("inputs.parameters.%s: %w", name, err)
		}
		p.Value = a.Value
		return p, nil
	}
	done, err := substitute(m, sc)
	if err != nil {
		return manifest.Parameter{}, err
	}
	var p manifest.Parameter
	if err := decodeValue(done, &p); err != nil {
		return p, fmt.Errorf("inputs.parameters.%s: %w", name, err)
	}
	if p.Value == nil && p.ValueFrom != nil {
		if err := t.parameterFrom(&p, sc); err != nil {
			return p, err
		}
	}
	if p.Value == nil {
		p.Value = p.Default
	}
	if p.Value == nil {
		return p, fmt.Errorf("inputs.parameters.%s was not supplied", name)
	}
	return p, nil
}

func inputArtifact(v any, args manifest.Arguments, sc *scope) (manifest.Artifact, bool, error) {
	tree, _ := v.(map[string]any)
	from, _ := tree["from"].(string)
	expression, _ := tree["fromExpression"].(string)
	done, err := substitute(withoutKeys(tree, "from", "fromExpression"), sc)
	if err != nil {
		return manifest.Artifact{}, false, err
	}
	var art manifest.Artifact
	if err := decodeValue(done, &art); err != nil {
		return art, false, fmt.Errorf("inputs.artifacts: %w", err)
	}
	for _, a := range args.Artifacts {
		if a.Name != art.Name {
			continue
		}
		merged := a
		merged.Path, merged.Mode, merged.RecurseMode = art.Path, art.Mode, art.RecurseMode
		merged.Optional = art.Optional || a.Optional
		if art.Archive != nil {
			merged.Archive = art.Archive
		}
		if art.SubPath != "" && merged.SubPath == "" {
			merged.SubPath = art.SubPath
		}
		return merged, true, nil
	}
	if from != "" || expression != "" {
		source, err := artifactFrom(from, expression, sc)
		if err != nil && !art.Optional {
			return art, false, err
		}
		if source != nil {
			source.Name, source.Path, source.Mode, source.Optional = art.Name, art.Path, art.Mode, art.Optional
			return *source, true, nil
		}
	}
	if !hasLocation(art.ArtifactLocation) {
		if art.Optional {
			return art, false, nil
		}
		return art, false, fmt.Errorf("inputs.artifacts.%s was not supplied", art.Name)
	}
	return art, true, nil
}

func hasLocation(l manifest.ArtifactLocation) bool {
	return l.S3 != nil || l.Git != nil || l.HTTP != nil || l.Raw != nil || l.GCS != nil || l.Azure != nil || l.OSS != nil ||
		l.HDFS != nil || l.Artifactory != nil || l.Plugin != nil
}
