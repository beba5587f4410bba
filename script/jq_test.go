package script_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/script"
)

// TestMistakesInJQHaveAPlace: what cannot be read is said with line and column.
func TestMistakesInJQHaveAPlace(t *testing.T) {
	for program, want := range map[string]script.JQError{
		".a[":                       {Line: 1, Column: 4, Problem: "unexpected EOF"},
		".a |\n  ]":                 {Line: 2, Column: 3, Problem: `unexpected token "]"`},
		"{a: 1}\n| foo(1) | .foo":   {Line: 2, Column: 3, Problem: "function not defined: foo/1"},
		".nothing | nothing":        {Line: 1, Column: 12, Problem: "function not defined: nothing/0"},
		"\n\n  $x":                  {Line: 3, Column: 3, Problem: "variable not defined: $x"},
		`{a: "abc`:                  {Line: 1, Column: 9, Problem: "unterminated string literal"},
		"input_filename":            {Line: 1, Column: 1, Problem: "function not defined: input_filename/0"},
		strings.Repeat(" ", 40<<10): {Problem: "the program has 40960 bytes and may have at most 32768"},
	} {
		_, err := script.ReadJQ(program)
		var got *script.JQError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("%.40q: %+v %v, want %+v", program, got, err, want)
		}
	}
}

// nested are programs that are nested as deep as their size allows, by each way to nest.
func nested() map[string]string {
	const size = 32<<10 - 16
	around := func(open, middle, end string) string {
		n := (size - len(middle)) / (len(open) + len(end))
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	return map[string]string{
		"parentheses": around("(", ".", ")"), "lists": around("[", ".", "]"), "objects": around("{a:", ".", "}"), "pipes": around(".|", ".", ""),
		"commas": around(".,", ".", ""), "sums": around(".+", ".", ""), "alternatives": around(".//", ".", ""), "minus": around("-", "1", ""),
		"try": around("try ", ".", ""), "if": around("if . then ", ".", " end"), "else": around("if . then . else ", ".", " end"), "elif": around("elif .then .", "", ""),
		"reduce": around("reduce . as $x(", ".", ";.)"), "foreach": around("foreach . as $x(", ".", ";.)"), "bind": around(". as $x|", ".", ""),
		"patterns": ". as " + around("[", "$x", "]") + "|.", "either": ". as " + around("$x?//", "$x", "") + "|.", "label": around("label $x|", ".", ""), "def": around("def f:", ".", ";."),
		"defs": around("def f:.;", ".", ""), "texts": around(`"\(`, ".", `)"`), "index": around(".[", ".", "]"), "suffixes": "." + around("[0]", "", ""),
		"arguments": around("map(", ".", ")"), "optional": "." + around("?", "", ""), "keys": "{" + around("a:1,", "a:1", "") + "}", "open": around("(", "", ""),
		"update": around(".|=", ".", ""), "either, nested": around(". as $a?//$b|", ".", ""), "calls": around("sub(.;.;", ".", ")"), "and": around(". and ", ".", ""),
	}
}

// TestNestedJQ: no program has the reader take much memory, time or stack.
func TestNestedJQ(t *testing.T) {
	for name, program := range nested() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		_, err := script.ReadJQ(program)
		runtime.ReadMemStats(&after)
		made, stack := (after.TotalAlloc-before.TotalAlloc)>>20, int64(after.StackSys-before.StackSys)>>20
		t.Logf("%s: %d bytes, %d MiB made, %d MiB of stack, %s: %.80v", name, len(program), made, stack, time.Since(begin), err)
		if made > 64 || stack > 64 {
			t.Errorf("%s: it made %d MiB and took %d MiB of stack", name, made, stack)
		}
	}
	for _, name := range []string{"parentheses", "lists", "pipes", "bind", "texts", "minus", "if", "def", "optional", "suffixes"} {
		if _, err := script.ReadJQ(nested()[name]); err == nil {
			t.Errorf("%s: 32 KiB of them are no mistake", name)
		}
	}
	if _, err := script.ReadJQ(strings.Repeat("(.|", 200) + "." + strings.Repeat(")", 200)); err != nil {
		t.Errorf("a program of a usual depth: %v", err)
	}
}
