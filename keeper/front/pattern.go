package front

import (
	"fmt"
	"path"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Bounds of the regular expressions of paths. Matching takes time in proportion to the path; these bound the memory.
const (
	maxPattern       = 512  // bytes of one
	maxPatternWeight = 2000 // instructions and ranges of characters of one, about
)

// Pattern is the regular expression of a path, which matches from its beginning and without regard to case, as ingress-nginx has it. What is no
// expression of RE2, or too large a one, is an error that says so.
func Pattern(text string) (*regexp.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("the expression has %d bytes; at most %d are taken", len(text), maxPattern)
	}
	whole := "(?i)^" + text
	parsed, err := syntax.Parse(whole, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%q is no regular expression of RE2, which Kubernetes has for paths: %w", text, err)
	}
	if w := weight(parsed, maxPatternWeight); w > maxPatternWeight {
		return nil, fmt.Errorf("the expression %q is too large once its repetitions are written out", text)
	}
	return regexp.Compile(whole)
}

// weight is about how much memory an expression takes when it is compiled. It stops counting beyond most.
func weight(re *syntax.Regexp, most int) int {
	sum := 1 + len(re.Rune)/2
	for _, sub := range re.Sub {
		if sum += weight(sub, most); sum > most {
			return sum
		}
	}
	if re.Op == syntax.OpRepeat {
		return 1 + (sum-1)*max(re.Min, re.Max, 1)
	}
	return sum
}

// Normal is the path that decides: without empty elements and without "." and "..", as nginx has it. Else whoever writes a path differently would
// meet another route than the one that is for it.
func Normal(p string) string {
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return p
	}
	cleaned := path.Clean(p)
	if last := p[strings.LastIndexByte(p, '/')+1:]; cleaned != "/" && (last == "" || last == "." || last == "..") {
		cleaned += "/"
	}
	return cleaned
}

// maxRewritten bounds a path that a rewriting makes, in bytes: groups may be repeated in it.
const maxRewritten = 64 << 10

// rewritten is what a target makes of a path that a pattern matches: $1 to $9 are the pattern's groups. False if it would be too long.
func rewritten(pattern *regexp.Regexp, p, target string) (string, bool) {
	groups := pattern.FindStringSubmatch(p)
	var b strings.Builder
	if !strings.HasPrefix(target, "/") {
		b.WriteByte('/')
	}
	for i := 0; i < len(target); i++ {
		if n, is := group(target[i:]); is {
			if n < len(groups) {
				b.WriteString(groups[n])
			}
			i++
		} else {
			b.WriteByte(target[i])
		}
		if b.Len() > maxRewritten {
			return "", false
		}
	}
	made := b.String()
	if strings.HasPrefix(made, "//") {
		made = "/" + strings.TrimLeft(made, "/") // "/" and a group that begins with one
	}
	return made, true
}

// Groups gives the highest group that a target refers to, and whether it has another "$", which refers to nothing.
func Groups(target string) (highest int, other bool) {
	for i := range len(target) {
		if n, is := group(target[i:]); is {
			highest = max(highest, n)
		} else if target[i] == '$' {
			other = true
		}
	}
	return highest, other
}

// group tells whether a text begins with the reference to a group, and to which.
func group(text string) (int, bool) {
	if len(text) < 2 || text[0] != '$' || text[1] < '1' || text[1] > '9' {
		return 0, false
	}
	return int(text[1] - '0'), true
}
