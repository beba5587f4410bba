package workflow

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tiphys/tiphys/manifest"
)

// resultTail is how much is kept of a result that nobody refers to, in bytes: enough to see how a step ended.
const resultTail = 4 << 10

// boundResult leaves of a node's result only its end if nothing in the run can read it, and says so. It is called where the
// decision is made, so that the entry has what is kept.
func (t *turn) boundResult(n *node, o *manifest.Outputs) (*manifest.Outputs, *string) {
	if o == nil || o.Result == nil || len(*o.Result) <= resultTail || t.s.resultWanted(n) {
		return o, nil
	}
	end := (*o.Result)[len(*o.Result)-resultTail:]
	for !utf8.RuneStart(end[0]) {
		end = end[1:]
	}
	why := fmt.Sprintf("outputs.result is the last %d KiB of %d bytes: nothing in the run refers to it; the log has all", resultTail>>10, len(*o.Result))
	bounded := *o
	bounded.Result = &end
	return &bounded, &why
}

// resultWanted tells whether a node's result may be read by its run, or by another through a memoised result. In doubt it is.
func (s *State) resultWanted(n *node) bool {
	if n.Role != roleStep && n.Role != roleAttempt {
		return true
	}
	if own, err := s.templateAt(n.Template); err != nil || own.tree["memoize"] != nil {
		return true
	}
	spec, _ := s.cache.manifest["spec"].(map[string]any)
	if defaults := asMap(spec["templateDefaults"]); defaults["memoize"] != nil || defaults["hooks"] != nil || defaults["outputs"] != nil {
		return true
	}
	b := s.node(n.BoundaryID)
	if b == nil {
		return false // of the entrypoint itself: only the nodes of a steps or dag template see each other
	}
	refs, ok := s.cache.results[b.Template]
	if !ok {
		within, err := s.templateAt(b.Template)
		if err != nil {
			return true
		}
		if refs = readResults(within.tree); within.tagged {
			refs.all = true
		}
		s.cache.results[b.Template] = refs
	}
	return refs.all || refs.names[n.Step]
}

// resultRefs are the steps or tasks of a template whose results its texts may read.
type resultRefs struct {
	all   bool
	names map[string]bool
}

// readResults finds the references in every text of a template: in its tags and in its expressions, which look alike.
// Whatever is not plainly another field of one named step counts as a reference, to that step, or to all where
// the name is computed.
func readResults(tree any) resultRefs {
	r := resultRefs{names: map[string]bool{}}
	anyText(tree, func(text string) bool {
		r.text(text)
		return false
	})
	return r
}

// anyText reports whether something holds of a text in a tree, and looks no further then.
func anyText(v any, holds func(string) bool) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			if anyText(x, holds) {
				return true
			}
		}
	case []any:
		for _, x := range v {
			if anyText(x, holds) {
				return true
			}
		}
	case string:
		return holds(v)
	}
	return false
}

func (r *resultRefs) text(s string) {
	if prose(s) {
		return
	}
	// An expression can come to everything by $env; hooks can speak of the outputs of what they belong to.
	if strings.Contains(s, "$env") || len(wordsIn(s, "outputs")) > 0 {
		r.all = true
	}
	for _, root := range []string{"steps", "tasks"} {
		for _, rest := range wordsIn(s, root) {
			name, rest, ok := fieldOf(rest)
			if !ok {
				r.all = true
				continue
			}
			field, rest, ok := fieldOf(rest)
			if ok && field == "outputs" {
				field, _, ok = fieldOf(rest)
			}
			if !ok || field == "result" {
				r.names[name] = true
			}
		}
	}
}

// prose tells a text that reads nothing: one without tags and without anything that an expression is made of.
func prose(s string) bool { return !strings.ContainsAny(s, "{[(.?=<>!&|") }

// wordsIn gives what stands behind each occurrence of a word that is no field of something else.
func wordsIn(s, word string) []string {
	var found []string
	for at := 0; ; {
		i := strings.Index(s[at:], word)
		if i < 0 {
			return found
		}
		begin, end := at+i, at+i+len(word)
		at = end
		if begin > 0 && (inWord(s[begin-1]) || s[begin-1] == '.' && !strings.HasSuffix(s[:begin], "..")) {
			continue
		}
		if end < len(s) && inWord(s[end]) {
			continue
		}
		found = append(found, s[end:])
	}
}

func inWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= utf8.RuneSelf
}

// fieldOf reads a field from the front of a text: .name, ?.name, ["name"] or ['name'], with space around.
func fieldOf(s string) (name, rest string, ok bool) {
	rest = strings.TrimLeft(s, " \t\r\n")
	dotted := false
	if after, found := strings.CutPrefix(rest, "?."); found {
		rest, dotted = after, true
	} else if after, found := strings.CutPrefix(rest, "."); found {
		rest, dotted = after, true
	}
	rest = strings.TrimLeft(rest, " \t\r\n")
	if strings.HasPrefix(rest, "[") {
		return quotedField(rest[1:])
	}
	n := 0
	for n < len(rest) && (inWord(rest[n]) || rest[n] == '-') {
		n++
	}
	return rest[:n], rest[n:], dotted && n > 0
}

// quotedField reads "name"] or 'name'], of names that need no escape.
func quotedField(s string) (name, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t\r\n")
	if s == "" || s[0] != '"' && s[0] != '\'' {
		return "", "", false
	}
	name, rest, ok = strings.Cut(s[1:], s[:1])
	rest = strings.TrimLeft(rest, " \t\r\n")
	if !ok || !strings.HasPrefix(rest, "]") || strings.ContainsRune(name, '\\') {
		return "", "", false
	}
	return name, rest[1:], true
}
