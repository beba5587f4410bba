package health

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/script"
)

// ConfigMap is the name of the ConfigMap that Argo CD reads its customizations from.
const ConfigMap = "argocd-cm"

// Rules are the health of kinds as the operator says it in Lua: the script has the object as obj and returns a table with
// status and message, or nil where the kind has no health by it. The zero value has none but the built-in ones.
type Rules struct {
	exact map[string]string // by group/Kind, and Kind alone in the core group
	globs []glob
	// verdicts are what the scripts said, and why says why one of them is missing.
	verdicts map[[sha256.Size]byte]Verdict
	why      string
}

type glob struct {
	pattern, script string
	names           *budget.Glob
}

const (
	prefixHealth = "resource.customizations.health."
	allAtOnce    = "resource.customizations"
)

// NewRules reads the data of the ConfigMap argocd-cm (Argo CD's documents, "Resource Health"): a key
// resource.customizations.health.GROUP_KIND for each kind, or all in the key resource.customizations, where names may have wildcards. The
// strings say what was passed over, and why.
func NewRules(data map[string]string) (Rules, []string) {
	r := Rules{exact: map[string]string{}}
	var problems []string
	var all map[string]map[string]any
	if err := yaml.Unmarshal([]byte(data[allAtOnce]), &all); err != nil {
		problems = append(problems, fmt.Sprintf("%s: %v", allAtOnce, err))
	}
	for name, is := range all {
		if text, ok := is["health.lua"].(string); ok && text != "" {
			r.add(name, text, &problems)
		}
	}
	for key, text := range data { // these count more than what is said all at once
		if kind, ok := strings.CutPrefix(key, prefixHealth); ok && text != "" {
			r.add(strings.Replace(kind, "_", "/", 1), text, &problems)
		}
	}
	slices.SortFunc(r.globs, func(a, b glob) int { return strings.Compare(a.pattern, b.pattern) })
	slices.Sort(problems)
	return r, problems
}

func (r *Rules) add(name, text string, problems *[]string) {
	if !strings.ContainsAny(name, `*?[{\`) {
		r.exact[name] = text
		return
	}
	names, err := budget.ParseGlob(name)
	if err != nil {
		*problems = append(*problems, fmt.Sprintf("health of %s: %v", name, err))
		return
	}
	r.globs = append(r.globs, glob{name, text, names})
}

// find gives the script for an object. An exact name counts more than a pattern.
func (r Rules) find(o *unstructured.Unstructured) (string, bool) {
	name := o.GetKind()
	if g := o.GroupVersionKind().Group; g != "" {
		name = g + "/" + name
	}
	if text, ok := r.exact[name]; ok {
		return text, true
	}
	for _, g := range r.globs {
		if ok, err := g.names.Match(budget.New(), name); err == nil && ok {
			return g.script, true
		}
	}
	return "", false
}

// Scripts runs the operator's programs. A server has them run in processes of their own (script/confined), as it has those of sensors.
//
// An error is the program's own, and the object's. Only an error of the kind failure.RetryAfter, or one after ctx has ended, says
// nothing about them, and the object must be judged again later.
type Scripts interface {
	// Health runs a Lua program with an object, which is JSON, as the global variable "obj", and gives what it returns as JSON. The same
	// program and object give the same result.
	Health(ctx context.Context, program string, object []byte) ([]byte, error)
}

var _ Scripts = script.Interpreter{}

// Question is what a program of the operator is to be asked.
type Question struct {
	// Digest is that of program and object: the same question has the same verdict.
	Digest  [sha256.Size]byte
	Program string
	// Object is the object as JSON.
	Object []byte
	kind   string
}

// Verdict is what a program says of an object.
type Verdict struct {
	Health deploy.Health
	// Known is false where the kind has no health by the program. Without an Opinion it has that of the built-in rules.
	Known   bool
	Opinion bool
	// Deletion is the message of an object that is being deleted; empty means that its status is not the program's then.
	Deletion string
	// Failed says that the program ended with an error, which Health tells.
	Failed bool
}

// Ask gives the question that must be answered before [Rules.Of] can judge an object; ok is false if there is none.
func (r Rules) Ask(o *unstructured.Unstructured) (q Question, ok bool, err error) {
	text, ok := r.find(o)
	if !ok {
		return Question{}, false, nil
	}
	object, err := json.Marshal(o.Object)
	if err != nil {
		return Question{}, false, fmt.Errorf("ask the health script of %s: %w", o.GetKind(), err)
	}
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, int64(len(text))) // a hash takes everything
	h.Write([]byte(text))
	h.Write(object)
	return Question{Digest: [sha256.Size]byte(h.Sum(nil)), Program: text, Object: object, kind: o.GetKind()}, true, nil
}

// Answer reads what a program returned.
func (q Question) Answer(result []byte, err error) Verdict {
	unknown := func(format string, args ...any) Verdict {
		return Verdict{Health: deploy.Health{Status: Unknown, Message: shortened(fmt.Sprintf(format, args...))}, Known: true, Opinion: true, Failed: true}
	}
	if err != nil {
		return unknown("the health script of %s: %v", q.kind, err)
	}
	var value any
	if err := json.Unmarshal(result, &value); err != nil {
		return unknown("the health script of %s: read its result: %v", q.kind, err)
	}
	table, ok := value.(map[string]any)
	if value == nil {
		return Verdict{}
	}
	if list, empty := value.([]any); empty && len(list) == 0 || ok && len(table) == 0 {
		return Verdict{Opinion: true}
	}
	status, _ := table["status"].(string)
	message, _ := table["message"].(string)
	deletion, _ := table["deletionMessage"].(string)
	if !slices.Contains([]string{Healthy, Suspended, Progressing, Missing, Degraded, Unknown}, status) {
		return unknown("Lua returned an invalid health status")
	}
	return Verdict{Health: deploy.Health{Status: status, Message: shortened(message)}, Known: true, Opinion: true, Deletion: shortened(deletion)}
}

// maxMessage is how much of a program's message is kept, in bytes.
const maxMessage = 2000

func shortened(text string) string {
	return failure.Clip(text, maxMessage)
}

// With gives rules that know the verdicts on questions, by their digests. why says why one that is not among them is missing.
func (r Rules) With(verdicts map[[sha256.Size]byte]Verdict, why string) Rules {
	r.verdicts, r.why = verdicts, why
	return r
}

// Of is [Of] with the operator's rules before the built-in ones. An object whose question has no verdict is Unknown.
func (r Rules) Of(o *unstructured.Unstructured) (deploy.Health, bool) {
	if deploy.Inert(o) {
		return deploy.Health{}, false
	}
	q, ok, err := r.Ask(o)
	if err != nil {
		return deploy.Health{Status: Unknown, Message: err.Error()}, true
	}
	if !ok {
		return Of(o)
	}
	v, answered := r.verdicts[q.Digest]
	if !answered {
		return deploy.Health{Status: Unknown, Message: fmt.Sprintf("the health script of %s was not run: %s", o.GetKind(), cmp.Or(r.why, "nobody asked"))}, true
	}
	switch {
	case !v.Opinion:
		return Of(o)
	case v.Failed:
		return v.Health, true
	}
	return pending(o, v.Deletion, v.Health, v.Known)
}
