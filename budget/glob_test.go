package budget_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/glob"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/budget"
)

// The syntax is that of github.com/gobwas/glob (its package comment and glob_test.go), which Argo CD's util/glob uses.
func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"[0-9]-*.yaml", "1-first.yaml", true},
		{"[0-9]-*.yaml", "x-first.yaml", false},
		{"[!a]*.yaml", "b.yaml", true},
		{"[!a]*.yaml", "a.yaml", false},
		{"[!a-c]x", "bx", false},
		{"[abc]at", "cat", true},
		{"[^a]", "^", true}, // only ! negates
		{"[^a]", "b", false},
		{"{a,b}.yaml", "b.yaml", true},
		{"{a,{b,c[12]}*}.yaml", "c2-x.yaml", true},
		{"{a,{b,c[12]}*}.yaml", "c3.yaml", false},
		{"{,x-}a", "a", true},
		{"{,x-}a", "x-a", true},
		{"a,b", "a,b", true}, // a comma is special between braces only
		{"a}", "a}", true},
		{`\*`, "*", true},
		{`\*`, "x", false},
		{`a\{b`, "a{b", true},
		{`{a\,b,c}`, "a,b", true},
		{`[\]]`, "]", true},
		{"*", "a/b", true},
		{"**/x", "a/b/x", true},
		{"**/x", "x", false},
		{"?at", "cat", true},
		{"?at", "at", false},
		{"ü?", "üß", true},
		{"[а-я]*", "функция", true},
		{"a.b", "axb", false},
		{"(a|b)+", "(a|b)+", true},
		{"", "", true},
		{"*", "", true},
		{"a*", "a\nb", true},
	} {
		g, err := budget.ParseGlob(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got, err := g.Match(budget.New(), c.text); err != nil || got != c.want {
			t.Errorf("%q of %q: %t (%v), want %t", c.pattern, c.text, got, err, c.want)
		}
	}
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a/*", "a/b", true}, {"a/*", "a/b/c", false}, {"a/**", "a/b/c", true}, {"a?b", "a/b", false}, {"a[/]b", "a/b", true}, {"*.{x,y/*}", "a.y/b", true},
	} {
		if got := budget.MatchGlob(c.pattern, c.text, '/'); got != c.want {
			t.Errorf("%q of %q between slashes: %t, want %t", c.pattern, c.text, got, c.want)
		}
	}
	for _, bad := range []string{"[", "[]", "[!]", "[a", "[b-a]", "[a-", "[a-c", "[a-cd]", "{a", "{a,{b}", "a\\", "{a,b\\}", "\xff", "[\xff]"} {
		if _, err := budget.ParseGlob(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What the library says of a pattern and a text is what is said here.
func TestGlobIsTheLibrarys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune(`ab/-,.*?[]{}!\ü`)), 0, 10, -1).Draw(t, "pattern")
		text := rapid.StringOfN(rapid.RuneFrom([]rune(`ab/-,.ü{`)), 0, 6, -1).Draw(t, "text")
		var separators []rune
		if rapid.Bool().Draw(t, "segments") {
			separators = []rune{'/'}
		}
		theirs, theirErr := glob.Compile(pattern, separators...)
		ours, err := budget.ParseGlob(pattern, separators...)
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("%q: %v, and the library: %v", pattern, err, theirErr)
		}
		if err != nil {
			return
		}
		if got, err := ours.Match(budget.New(), text); err != nil || got != theirs.Match(text) {
			t.Fatalf("%q of %q: %t (%v), and the library: %t", pattern, text, got, err, !got)
		}
	})
}

func TestHostileGlobs(t *testing.T) {
	if _, err := budget.ParseGlob(strings.Repeat("*", 5000)); !errors.Is(err, budget.ErrExceeded) {
		t.Errorf("a long pattern: %v", err)
	}
	for _, pattern := range []string{
		strings.Repeat("{*,*}", 800) + "b", strings.Repeat("*a", 2000) + "b", strings.Repeat("{", 2000), strings.Repeat("{", 900) + strings.Repeat("}", 900),
		"{" + strings.Repeat("a*,", 1300) + "}b",
	} {
		begin := time.Now()
		g, err := budget.ParseGlob(pattern)
		if err == nil {
			_, _ = g.Match(budget.New(), strings.Repeat("a", 4000)) // what takes too much is an error
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%.20q… took %v", pattern, took)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("{a,[!b-c]*}", "ax")
	f.Fuzz(func(_ *testing.T, pattern, text string) { budget.MatchGlob(pattern, text, '/') })
}
