package expression

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// ErrTooLarge says that replacing tags would give more text than is allowed.
var ErrTooLarge = failure.New(failure.TooLarge, "text with its tags replaced is too large")

// Options are what an evaluation may depend on beside its scope.
type Options struct {
	// Now is the time that now() and sprig's date functions see.
	Now time.Time
	// Seed feeds sprig's random functions.
	Seed int64
	// Keep names tags that may stay because a later pass resolves them ("item", "retries", "pod.name"). A kept
	// tag is not reported.
	Keep func(name string) bool
	// Roots are first segments of tags beside the usual ones: "status" and "duration" of metrics.
	Roots []string
	// Code says in which language the text of a tree is evaluated next, by its path without positions in lists
	// ("data.transformation.expression"); nil says that none is. See [Evaluator.SubstituteCode].
	Code func(path string) Language
	// Budget is what expressions may use together; nil for the usual budget for each pass.
	Budget *budget.Budget
	// Bare says that sprig's functions have their own names too, as in Argo Events: trunc(4, x) for sprig.trunc(4, x). A name of
	// the scope is before them.
	Bare bool
	// MaxBytes of all replaced text together; 0 means 16 MiB.
	MaxBytes int
}

// Unresolved is a tag that no scope knows, or an expression that has no value. The text keeps the tag.
type Unresolved struct { //nolint:errname // it is a finding first; that it is an error too is for reporting it
	// Path is where it stands in the tree, as manifest.Tree.Lookup reads it; "" for a single text.
	Path string
	// Tag is the tag as written.
	Tag string
	// Name is what could not be resolved.
	Name string
	// Reason says more where there is more to say.
	Reason string
}

// Error implements error in Argo's words.
func (u Unresolved) Error() string {
	s := "failed to resolve " + u.Tag
	if strings.HasPrefix(u.Tag, "{{=") {
		s = "failed to evaluate expression " + u.Tag
	}
	if u.Reason != "" {
		s += ": " + u.Reason
	}
	return s
}

// substitution is one pass.
type substitution struct {
	*Evaluator
	scope      Scope
	options    Options
	left       int
	unresolved []Unresolved
}

func (e *Evaluator) pass(scope Scope, o Options) *substitution {
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 20
	}
	if o.Budget == nil {
		o.Budget = budget.New()
	}
	return &substitution{Evaluator: e, scope: scope, options: o, left: o.MaxBytes}
}

// Substitute replaces the tags in every text of a tree (map[string]any, []any, string, [json.Number], bool, nil),
// keys included. The tree is not changed; parts without tags are shared with the result. What a tag is
// replaced by is not looked at again (CVE-2021-37914), and it cannot change the tree's structure: a text stays a
// text, which manifest.DecodeValue types afterwards. The error is [ErrTooLarge] or about keys that became the same.
func (e *Evaluator) Substitute(tree any, scope Scope, o Options) (any, []Unresolved, error) {
	s := e.pass(scope, o)
	result, err := s.tree(tree, "")
	return result, s.unresolved, err
}

// SubstituteText is [Evaluator.Substitute] for a single text.
func (e *Evaluator) SubstituteText(text string, scope Scope, o Options) (string, []Unresolved, error) {
	s := e.pass(scope, o)
	result, err := s.text(text, "")
	return result, s.unresolved, err
}

func (s *substitution) tree(node any, path string) (any, error) {
	switch v := node.(type) {
	case string:
		if !strings.Contains(v, "{{") {
			return v, nil
		}
		if lang := s.language(path); lang != Plain {
			return s.code(Data{[]part{{v, false}}}, path, lang)
		}
		return s.text(v, path)
	case Data:
		if lang := s.language(path); lang != Plain {
			return s.code(v, path, lang)
		}
		return s.data(v, path)
	case []any:
		return s.list(v, path)
	case map[string]any:
		return s.mapping(v, path)
	}
	return node, nil
}

// language is the one in which the text at a path is evaluated next.
func (s *substitution) language(path string) Language {
	if s.options.Code == nil {
		return Plain
	}
	if strings.Contains(path, "[") {
		path = positions.ReplaceAllString(path, "")
	}
	return s.options.Code(path)
}

func (s *substitution) list(list []any, path string) (any, error) {
	if !holdsTag(list) {
		return list, nil
	}
	fresh := make([]any, len(list))
	for i, item := range list {
		value, err := s.tree(item, manifest.IndexPath(path, i))
		if err != nil {
			return nil, err
		}
		fresh[i] = value
	}
	return fresh, nil
}

func (s *substitution) mapping(m map[string]any, path string) (any, error) {
	if !holdsTag(m) {
		return m, nil
	}
	fresh := make(map[string]any, len(m))
	for _, key := range sortedKeys(m) {
		at := manifest.JoinPath(path, key)
		newKey, err := s.text(key, at)
		if err != nil {
			return nil, err
		}
		if _, dup := fresh[newKey]; dup {
			return nil, fmt.Errorf("%s: two keys became %q when their tags were replaced", path, newKey)
		}
		if fresh[newKey], err = s.tree(m[key], at); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// positions are those in lists in a path.
var positions = regexp.MustCompile(`\[[0-9]+\]`)

// holdsTag spares copying the parts of a tree that stay as they are.
func holdsTag(node any) bool {
	switch v := node.(type) {
	case string:
		return strings.Contains(v, "{{")
	case Data:
		return true // to become a text
	case []any:
		for _, item := range v {
			if holdsTag(item) {
				return true
			}
		}
	case map[string]any:
		for key, item := range v {
			if holdsTag(key) || holdsTag(item) {
				return true
			}
		}
	}
	return false
}

func (s *substitution) text(text, path string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	var b strings.Builder
	last := 0
	for _, tag := range scan(text, s.options.Roots) {
		value, ok := s.tag(tag, path)
		if !ok {
			continue
		}
		if s.left -= len(value); s.left < 0 {
			return "", fmt.Errorf("replace %s in %s: %w (more than %d bytes)", tag.Text, path, ErrTooLarge, s.options.MaxBytes)
		}
		b.WriteString(text[last:tag.Start])
		b.WriteString(value)
		last = tag.End
	}
	if last == 0 {
		return text, nil
	}
	b.WriteString(text[last:])
	return b.String(), nil
}

// tag gives a tag's value, or false where the tag stays as it is.
func (s *substitution) tag(tag Tag, path string) (string, bool) {
	switch {
	case tag.Literal:
		return "", false
	case tag.Expression != "":
		return s.expression(tag, path)
	}
	name, ok := s.name(tag, path)
	if !ok {
		return "", false
	}
	value, ok := resolve(s.scope, name)
	if root, _, _ := strings.Cut(name, "."); ok && (value != nil || root == "item") {
		return ItemText(value), true // of an item null is a value too
	}
	if !s.keeps(name) && !bareRoot(name) {
		s.unresolved = append(s.unresolved, Unresolved{Path: path, Tag: tag.Text, Name: name})
	}
	return "", false
}

// name puts the values of inner tags into a tag's name. Such a value can only be a part of a name.
func (s *substitution) name(tag Tag, path string) (string, bool) {
	if len(tag.Inner) == 0 {
		return tag.Name, true
	}
	var b strings.Builder
	last := 0
	for _, inner := range tag.Inner {
		value, ok := s.tag(inner, path)
		if !ok {
			return "", false
		}
		b.WriteString(tag.Name[last:inner.Start])
		b.WriteString(value)
		last = inner.End
	}
	b.WriteString(tag.Name[last:])
	if strings.ContainsAny(b.String(), "{} \t\r\n") {
		s.unresolved = append(s.unresolved, Unresolved{Path: path, Tag: tag.Text, Name: tag.Name, Reason: "an inner tag's value is not a name"})
		return "", false
	}
	return b.String(), true
}

func (s *substitution) keeps(name string) bool {
	return s.options.Keep != nil && s.options.Keep(name)
}

func (s *substitution) expression(tag Tag, path string) (string, bool) {
	value, missing, err := s.evaluate(tag.Expression, s.scope, s.options)
	for _, name := range missing {
		if s.keeps(name) {
			return "", false
		}
	}
	if err == nil && value != nil {
		return Text(value), true
	}
	u := Unresolved{Path: path, Tag: tag.Text, Name: strings.TrimSpace(tag.Expression)}
	switch {
	case err != nil:
		u.Reason = err.Error()
	case len(missing) > 0:
		u.Reason = strings.Join(missing, ", ") + " is not known here"
	default:
		u.Reason = "it has no value"
	}
	s.unresolved = append(s.unresolved, u)
	return "", false
}

// Text is how a value appears in a text: a string as it is, lists and maps as JSON (Argo prints lists and maps
// that an expression gives in Go's form), anything else as Go prints it, as in Argo.
func Text(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case time.Time:
		return v.Format(time.RFC3339)
	case *time.Time:
		if v == nil {
			return ""
		}
		return v.Format(time.RFC3339)
	case manifest.AnyString:
		return string(v)
	}
	if isCollection(value) {
		return toJSON(value)
	}
	return fmt.Sprintf("%v", value)
}
