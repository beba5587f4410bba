package expression_test

import (
	"strings"
	"testing"

	"github.com/itchyny/gojq"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/workflow/expression"
)

// Argo puts values into expressions as text (util/template/replace.go of 4.1), and then evaluates what comes of it. What is
// wanted here where that differs follows from the rule that a value decides what an expression gives and not what it asks.
func TestSubstituteCode(t *testing.T) {
	for name, c := range map[string]struct {
		lang              expression.Language
		code, value, want string
		fails             string
	}{
		"a word":                        {expression.When, "{{inputs.parameters.x}} == heads", "heads", "heads == heads", ""},
		"a number":                      {expression.When, "{{inputs.parameters.x}} > 3", "5", "5 > 3", ""},
		"a boolean":                     {expression.When, "{{inputs.parameters.x}} == true", "true", "true == true", ""},
		"the whole":                     {expression.When, " {{inputs.parameters.x}} ", "a == b || true", "a == b || true", ""},
		"a way around a gate":           {expression.When, "{{inputs.parameters.x}} == main", "x == x || y", `"x == x || y" == main`, ""},
		"out of quotes":                 {expression.When, "'{{inputs.parameters.x}}' == 'main'", "' == '' || 'a' == 'a", `'\' == \'\' || \'a\' == \'a' == 'main'`, ""},
		"out of the other quotes":       {expression.When, `"{{inputs.parameters.x}}" == "main"`, `'`, `"\'" == "main"`, ""},
		"a backslash":                   {expression.When, `"{{inputs.parameters.x}}" == "main"`, `\`, `"\\" == "main"`, ""},
		"the word in":                   {expression.When, "{{inputs.parameters.x}} == a", "in", `"in" == a`, ""},
		"a part of a word":              {expression.When, "v{{inputs.parameters.x}} == v1", "1", "v1 == v1", ""},
		"code as a part of a word":      {expression.When, "v{{inputs.parameters.x}} == v1", "1 || true", "", "put the whole in quotes"},
		"after a backslash":             {expression.When, `"\{{inputs.parameters.x}}" == "main"`, `"`, "", "backslash"},
		"an expression's number":        {expression.Expr, "{{inputs.parameters.x}} > 2", "3", "3 > 2", ""},
		"an expression's list":          {expression.Expr, "len({{inputs.parameters.x}})", `[1, "a\"", null]`, `len([1,"a\"",nil])`, ""},
		"an expression's object":        {expression.Expr, "{{inputs.parameters.x}}.a", `{"a": {"b": true}}`, `{"a":{"b":true}}.a`, ""},
		"an expression's word":          {expression.Expr, "{{inputs.parameters.x}} == 'main'", "workflow.name", `"workflow.name" == 'main'`, ""},
		"out of an expression's quotes": {expression.Expr, `"{{inputs.parameters.x}}" == "main"`, `" == "" || "`, `"\" == \"\" || \"" == "main"`, ""},
		"lines":                         {expression.Expr, `"{{inputs.parameters.x}}" == "main"`, "a\nb", `"a\u000ab" == "main"`, ""},
		"a comment":                     {expression.Expr, "true // {{inputs.parameters.x}}\n && true", "\n || false", "true // \n && true", ""},
		"out of backquotes":             {expression.Expr, "`{{inputs.parameters.x}}` == 'a'", "`", "", "put the tag in quotes"},
		"a part of a name":              {expression.Expr, "inputs.parameters.{{inputs.parameters.x}} == 'a'", "x", "inputs.parameters.x == 'a'", ""},
		"code as a part of a name":      {expression.Expr, "inputs.parameters.{{inputs.parameters.x}} == 'a'", "x || true", "", "put the whole in quotes"},
		"a filter's string":             {expression.JQ, `.a == "{{inputs.parameters.x}}"`, `"\(env)`, `.a == "\"\\(env)"`, ""},
		"a filter's word":               {expression.JQ, `.[{{inputs.parameters.x}}]`, "a", `.["a"]`, ""},
	} {
		scope := expression.Values{"inputs.parameters.x": c.value}
		got, unresolved, err := expression.New().SubstituteCode(c.code, c.lang, scope, expression.Options{})
		if got != c.want || len(unresolved) > 0 || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: got %q %v %v, want %q %s", name, got, unresolved, err, c.want, c.fails)
		}
	}
}

// value draws what somebody might hand over.
func value(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.OneOf(
		rapid.SampledFrom([]string{`"`, "'", `\`, "`", " == ", "||", "true", "(", ")", "[", "]", "{", "}", "{{", "//", "/*", "*/", "\n", "#", `\(`, "in", "1", "-", "$env", "\x00"}),
		rapid.StringN(0, 4, -1)), 0, 6).Draw(t, "value"), "")
}

// A value in quotes is that text, whatever is in it: for govaluate, expr and jq.
func TestValuesInQuotesAreThemselves(t *testing.T) {
	e := expression.New()
	rapid.Check(t, func(t *rapid.T) {
		v := value(t)
		scope := expression.Values{"inputs.parameters.x": v, "inputs.parameters.y": "main"}
		quote := rapid.SampledFrom([]string{"'", `"`}).Draw(t, "quote")
		code := quote + "{{inputs.parameters.x}}" + quote + " == "

		text, _, err := e.SubstituteCode(code+"'k'", expression.When, scope, expression.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := expression.EvalWhen(text); err != nil || got != (v == "k") {
			t.Errorf("when: %q gives %v %v", text, got, err)
		}

		text, _, err = e.SubstituteCode(code+"inputs.parameters.x && inputs.parameters.y == 'main'", expression.Expr, scope, expression.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.EvalBool(text, scope, expression.Options{}); err != nil || !got {
			t.Errorf("expression: %q gives %v %v", text, got, err)
		}

		text, _, err = e.SubstituteCode(`"{{inputs.parameters.x}}"`, expression.JQ, scope, expression.Options{})
		if err != nil {
			t.Fatal(err)
		}
		q, err := gojq.Parse(text)
		if err != nil {
			t.Fatalf("filter %q: %v", text, err)
		}
		if got, _ := q.Run(nil).Next(); got != v {
			t.Errorf("filter: %q gives %q, want %q", text, got, v)
		}
	})
}

// Without quotes too a value cannot do more than stand for one literal: the comparison around it stays one.
func TestBareValuesStayLiterals(t *testing.T) {
	e := expression.New()
	rapid.Check(t, func(t *rapid.T) {
		v := value(t)
		scope := expression.Values{"inputs.parameters.x": v}
		text, _, err := e.SubstituteCode("{{inputs.parameters.x}} == 'a text that nobody draws'", expression.When, scope, expression.Options{})
		if err == nil {
			if got, err := expression.EvalWhen(text); err == nil && got {
				t.Errorf("when: %q is true", text)
			}
		}
		text, _, err = e.SubstituteCode("{{inputs.parameters.x}} == 'a text that nobody draws'", expression.Expr, scope, expression.Options{})
		if err == nil {
			if got, err := e.EvalBool(text, scope, expression.Options{}); err == nil && got {
				t.Errorf("expression: %q is true", text)
			}
		}
	})
}
