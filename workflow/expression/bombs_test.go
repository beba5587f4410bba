package expression_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// bombs are expressions that make much out of little, or take for ever. Each is an error, and none of them allocates more than a
// few times the budget on its way there. (expr-lang counts the items of some lists, and neither texts nor steps.)
func bombs() map[string]string {
	deep := func(times int, body string) string {
		return strings.Repeat("map(1..1000, ", times) + body + strings.Repeat(")", times)
	}
	return map[string]string{
		"lists in lists":                 deep(4, "1"),
		"counts in counts":               strings.Repeat("count(big, ", 5) + "true" + strings.Repeat(")", 5),
		"filters in filters":             "filter(big, len(filter(big, len(filter(big, true)) > 0)) > 0)",
		"all in all":                     "all(big, all(big, all(big, all(big, true))))",
		"sorted again and again":         "map(big, map(big, sortBy(big, #)))",
		"reduced in reduced":             "reduce(big, reduce(big, reduce(big, #acc + 1, 0), 0), 0)",
		"a text that doubles":            `reduce(1..60, #acc + #acc, "abcdefgh")`,
		"a list that doubles":            "reduce(1..60, concat(#acc, #acc), [1,2,3])",
		"a list of lists that doubles":   "reduce(1..60, [#acc, #acc], [1])|toJSON()",
		"a map that doubles":             `reduce(1..60, {"a": #acc, "b": #acc}, {})|toJSON()`,
		"a value that doubles":           `reduce(1..60, [#acc, #acc], "x")`,
		"repeat":                         `repeat("abcdefgh", 1000000000)`,
		"repeat of repeat":               `repeat(repeat(repeat("a", 1000000), 1000000), 1000000)`,
		"repeat in a loop":               `map(1..1000, repeat("a", 4000000))`,
		"repeat below zero":              `repeat("a", -1)`,
		"sprig's repeat in a loop":       `map(1..1000, {sprig.repeat(4000000, 'a')})`,
		"sprig's repeat, many":           `len(map(1..1000, sprig.repeat(4000000, 'a')))`,
		"sprig's repeat, huge":           `sprig.repeat(9223372036854775807, 'ab')`,
		"sprig's until":                  "sprig.until(1000000000)",
		"sprig's until in a loop":        "map(1..100000, sprig.until(100000))",
		"sprig's untilStep":              "sprig.untilStep(0, 9223372036854775807, 1)",
		"sprig's indent":                 `sprig.indent(1000000000, "a")`,
		"sprig's indent of lines":        `sprig.indent(100000, sprig.repeat(1000000, "\n"))`,
		"sprig's nindent in a loop":      `map(1..1000, sprig.nindent(4000000, "a"))`,
		"sprig's replace":                `sprig.replace("a", sprig.repeat(4000000, "b"), sprig.repeat(4000000, "a"))`,
		"sprig's join":                   `sprig.join(sprig.repeat(4000000, "b"), sprig.until(100000))`,
		"sprig's pretty JSON":            `sprig.toPrettyJson(reduce(1..150, [#acc, #acc[0:1]], sprig.until(100000)))`,
		"sprig's patterns":               `sprig.regexReplaceAll("", sprig.repeat(1000000, "a"), sprig.repeat(1000000, "b"))`,
		"sprig's patterns with groups":   `sprig.regexReplaceAll("(.*)", sprig.repeat(1000000, "a"), sprig.repeat(1000, "$1"))`,
		"sprig's wrap":                   `sprig.wrapWith(1, sprig.repeat(1000000, "b"), sprig.repeat(1000000, "a "))`,
		"sprig's uniq":                   "sprig.uniq(sprig.until(2000000))",
		"sprig's uniq in a loop":         "map(1..1000, sprig.uniq(sprig.until(10000)))",
		"sprig's without":                "map(1..100, sprig.without(sprig.until(20000), 1))",
		"sprig's list of itself":         `sprig.toJson(sprig.set(big2, "a", big2))`,
		"a replace of replaces":          `reduce(1..60, replace(#acc, "a", "aa"), "a")`,
		"a join with long separators":    `join(map(1..100000, "x"), repeat("y", 4000000))`,
		"a split into bytes, many times": `map(1..1000, split(repeat("a", 1000000), ""))`,
		"upper case, many times":         `map(1..1000000, upper(repeat("a", 4000000)))`,
		"JSON of JSON of JSON":           `reduce(1..60, toJSON(#acc), "\"")`,
		"JSON that is read many times":   `map(1..100000, fromJSON("[" + repeat("1,", 1000000) + "1]"))`,
		"flattened":                      "reduce(1..60, flatten([#acc, #acc]), [1])",
		"uniq":                           "uniq(1..900000)",
		"comparisons of long texts":      `all(1..900000, repeat("a", 4000000) == repeat("a", 4000000))`,
		"one comparison, many times":     `let t = repeat("a", 4000000); all(1..900000, t == t)`,
		"long patterns, many times":      `let t = repeat("a", 4000000); all(1..900000, t matches "^a*$")`,
		"a search, many times":           `let t = repeat("a", 4000000); all(1..900000, not (t contains "b"))`,
		"groups":                         "map(big, groupBy(big, #))",
		"base64":                         `reduce(1..90, toBase64(#acc), repeat("a", 1000))`,
		"a large pattern":                `"x" matches "` + strings.Repeat("(a?){1000}", 3000) + `"`,
		"many large patterns":            strings.Repeat(`("x" matches "`+strings.Repeat("(a?){1000}", 300)+`") || `, 10) + "true",
		"a pattern with many states":     `let t = repeat("a", 1000000); t matches "` + strings.Repeat("(a?a?a?a?){20}", 80) + `b"`,
		"a pattern that is made":         `repeat("a", 1000000) matches repeat("(a?){1000}", 400)`,
		"patterns that are made":         `count(1..1000000, "x" matches ("(a?){500}" + string(#)))`,
		"classes":                        `"x" matches "` + strings.Repeat("(\\\\pL\\\\pN){500}", 300) + `"`,
		"sprig's large pattern":          `sprig.regexMatch(sprig.repeat(400, "(a?){1000}"), sprig.repeat(1000000, "a"))`,
		"sprig's large pattern, found":   `sprig.regexFindAll(sprig.repeat(400, "(a?){100}"), sprig.repeat(1000000, "a"), -1)`,
		"sprig's large pattern, split":   `sprig.regexSplit(sprig.repeat(400, "(a?){100}"), sprig.repeat(1000000, "a"), -1)`,
		"a condition of a jsonpath":      `let t = [1..1000]; jsonpath(t, "$[?(count(@, count(tiphys_it, count(tiphys_it, true) > 0) > 0) > 0)]")`,
		"loops in a jsonpath":            `jsonpath([1..1000], "$[?(count(@, count(1..900, count(1..900, true) > 0) > 0) > 0)]")`,
		"all below all below":            `jsonpath(repeat("[", 9000) + repeat("]", 9000), "$........................x")`,
		"the same place again":           `jsonpath("[[1]]", "$[` + strings.Repeat("0,", 25_000) + `0][` + strings.Repeat("0,", 5000) + `0]")`,
		"the same name again":            `jsonpath({"a": {"a": 1}}, "$['a'` + strings.Repeat(",'a'", 8000) + `]['a'` + strings.Repeat(",'a'", 5000) + `]")`,
		"brackets":                       strings.Repeat("(", 30_000) + "1",
		"lists in each other":            strings.Repeat("[", 30_000) + "1",
		"not not not":                    strings.Repeat("!", 60_000) + "true",
		"a jsonpath, many times":         `map(1..100000, jsonpath("[" + repeat("1,", 1000000) + "1]", "$[*]"))`,
	}
}

func TestBombs(t *testing.T) {
	if n := len(bombs()); n < 40 {
		t.Fatalf("there are only %d", n)
	}
	list := make([]any, 1000)
	for i := range list {
		list[i] = i
	}
	scope := expression.Values{"big": list, "big2": map[string]any{}}
	for name, code := range bombs() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			text, unresolved, err := expression.New().SubstituteText("{{="+code+"}}", scope, expression.Options{})
			runtime.ReadMemStats(&after)
			if err == nil && len(unresolved) == 0 {
				t.Errorf("it has the value %.60q", text)
			}
			if len(unresolved) > 0 && testing.Verbose() {
				fmt.Println(name+":", unresolved[0].Reason)
			}
			if made := after.TotalAlloc - before.TotalAlloc; made > 600<<20 {
				t.Errorf("it allocated %d MiB on its way", made>>20)
			}
		})
	}
}

// when's are govaluate's, which counts nothing.
func TestWhenBombs(t *testing.T) {
	for name, when := range map[string]string{
		"texts that are joined":    "'" + strings.Repeat("a", 30_000) + "' + " + strings.Repeat("'a' + ", 5000) + "'' == 'x'",
		"a large pattern":          "a =~ '" + strings.Repeat("(a?){1000}", 4000) + "'",
		"a large pattern, hidden":  "[it's] == a || a =~ '" + strings.Repeat("(a?){1000}", 4000) + "'",
		"a large pattern, escaped": `it\'s == a || a =~ "` + strings.Repeat("(a?){1000}", 4000) + `"`,
		"a large pattern, a word":  "a =~ [" + strings.Repeat("(a?){1000}", 4000) + "]",
		"many patterns":            strings.Repeat("'"+strings.Repeat("a", 300)+"' =~ '(a?a?a?a?){600}b' || ", 180) + "false",
		"a pattern that is made":   "a =~ '(a?){1000}' + '(a?){1000}'",
		"a pattern in brackets":    "a =~ ('(a?){1000}' + '(a?){1000}')",
		"brackets":                 strings.Repeat("(", 60_000) + "a" + strings.Repeat(")", 5000),
		"brackets that close":      strings.Repeat("(", 30_000) + "a" + strings.Repeat(")", 30_000),
		"not not not":              strings.Repeat("!", 60_000) + "a == b",
		"minus minus":              strings.Repeat("-", 60_000) + "1 == 1",
		"powers":                   strings.Repeat("9 ** ", 12_000) + "9",
		"too long":                 strings.Repeat("a == a && ", 1<<20) + "a == a",
	} {
		t.Run(name, func(t *testing.T) {
			bounded(t, func() error {
				_, err := expression.EvalWhen(when)
				return err
			})
		})
	}
}

// bounded runs what must fail, with an error that can be shown, and must not make much on its way there.
func bounded(t *testing.T, run func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := run()
	runtime.ReadMemStats(&after)
	switch {
	case err == nil:
		t.Error("it has a value")
	case len(err.Error()) > 10_000:
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	if made := after.TotalAlloc - before.TotalAlloc; made > 600<<20 {
		t.Errorf("it allocated %d MiB on its way", made>>20)
	}
}

// A sequence is as wide as its format.
func TestSequenceBombs(t *testing.T) {
	for _, format := range []string{"%09999d", "%999999999d", "%*d", "%[1]99999d", strings.Repeat("a", 250) + "%d"} {
		count := manifest.NewAnyString("100000")
		bounded(t, func() error {
			_, err := expression.Sequence(manifest.Sequence{Count: count, Format: format})
			return err
		})
	}
}
