// Package expression is the languages inside a workflow: tags, expr-lang expressions, when, depends, loops and
// durations, all as Argo 4.1 has them. It is pure. Where it is stricter than Argo, or more lenient, the
// function says so.
package expression

import (
	"strings"
)

// Tag is one `{{…}}` in a text.
type Tag struct {
	// Start and End are byte offsets of the whole tag.
	Start, End int
	// Text is the whole tag as written.
	Text string
	// Name is what a simple tag refers to, spaces trimmed; it may contain tags itself: "{{inputs.parameters.{{item}}}}".
	Name string
	// Inner are those tags, with offsets in Name.
	Inner []Tag
	// Expression is the code of a `{{=…}}` tag; Name is empty then.
	Expression string
	// Literal is set for what looks like a tag and is none: its first segment is not a name that workflows know.
	Literal bool
}

// IsRoot tells whether a simple tag may begin with this segment.
func IsRoot(segment string) bool {
	switch segment {
	case "inputs", "outputs", "steps", "tasks", "workflow", "item", "retries", "lastRetry", "pod", "node", "cronworkflow":
		return true
	}
	return false
}

// bareRoot tells whether a root is a tag on its own. These names are also common in other template languages,
// so where nothing resolves them they stay as they are, as in Argo.
func bareRoot(name string) bool { return name == "item" || name == "retries" }

// Tags finds the tags of a text, literal look-alikes included, in order.
func Tags(text string) []Tag { return scan(text, nil) }

// scan finds tags; extra are roots beside the usual ones, with or without further segments.
func scan(text string, extra []string) []Tag {
	var tags []Tag
	for i := 0; ; {
		at := strings.Index(text[i:], "{{")
		if at < 0 {
			return tags
		}
		i += at
		tag, ok := tagAt(text, i, extra, 0)
		if !ok {
			// "{{{item}}}" holds a tag after its first brace.
			i++
			continue
		}
		if tag.Literal && strings.HasPrefix(text[i+1:], "{{") {
			i++
			continue
		}
		tags = append(tags, tag)
		i = tag.End
	}
}

// Unclosed gives the first text that opens as a tag of a workflow, by a root and a dot, and is not closed; empty if there is none.
func Unclosed(text string) string {
	for i := 0; ; {
		at := strings.Index(text[i:], "{{")
		if at < 0 {
			return ""
		}
		i += at
		if tag, ok := tagAt(text, i, nil, 0); ok {
			i = tag.End
			continue
		}
		end := i + 2
		for end < len(text) && (inTag(text[end]) || text[end] == ' ' && end == i+2) {
			end++
		}
		root, _, dotted := strings.Cut(strings.TrimSpace(text[i+2:end]), ".")
		if inner := strings.Index(text[i+2:], "{{"); dotted && IsRoot(root) && (inner < 0 || inner > end-i) {
			return text[i:end]
		}
		i += 2
	}
}

func inTag(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// maxNesting of tags in tags; Argo resolves one level.
const maxNesting = 4

func tagAt(text string, start int, extra []string, depth int) (Tag, bool) {
	if strings.HasPrefix(text[start:], "{{=") {
		return expressionAt(text, start)
	}
	var inner []Tag
	for i := start + 2; i < len(text); i++ {
		if strings.HasPrefix(text[i:], "}}") {
			name := text[start+2 : i]
			lead := len(name) - len(strings.TrimLeft(name, " \t\n"))
			for k := range inner {
				inner[k].Start -= start + 2 + lead
				inner[k].End -= start + 2 + lead
			}
			tag := Tag{Start: start, End: i + 2, Text: text[start : i+2], Name: strings.TrimSpace(name), Inner: inner}
			tag.Literal = !known(tag.Name, inner, extra)
			return tag, true
		}
		if !strings.HasPrefix(text[i:], "{{") {
			continue
		}
		// A tag within a tag only builds a name that begins with a known root; otherwise the outer braces are
		// somebody else's.
		root, _, dotted := strings.Cut(strings.TrimSpace(text[start+2:i]), ".")
		if !dotted || !IsRoot(root) || depth >= maxNesting {
			return Tag{}, false
		}
		nested, ok := tagAt(text, i, extra, depth+1)
		if !ok || nested.Literal || nested.Expression != "" {
			return Tag{}, false
		}
		inner = append(inner, nested)
		i = nested.End - 1
	}
	return Tag{}, false
}

func known(name string, inner []Tag, extra []string) bool {
	if len(inner) == 0 && strings.ContainsAny(name, " \t\r\n\"'`(){}|,;<>=!&") {
		return false
	}
	root, _, dotted := strings.Cut(name, ".")
	if dotted && IsRoot(root) || !dotted && bareRoot(root) {
		return true
	}
	for _, r := range extra {
		if root == r {
			return true
		}
	}
	return false
}

// expressionAt takes the shortest text that ends in "}}" and can be parsed, so that an expression may hold braces
// and quotes; Argo always ends it at the first "}}".
func expressionAt(text string, start int) (Tag, bool) {
	first := -1
	end := start + 3
	for range 16 {
		at := strings.Index(text[end:], "}}")
		if at < 0 {
			break
		}
		stop := end + at
		if first < 0 {
			first = stop
		}
		if parses(text[start+3 : stop]) {
			first = stop
			break
		}
		end = stop + 1
	}
	if first < 0 {
		return Tag{}, false
	}
	return Tag{Start: start, End: first + 2, Text: text[start : first+2], Expression: text[start+3 : first]}, true
}
