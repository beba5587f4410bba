package expression

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/manifest"
)

var noon = time.Date(2024, 7, 15, 12, 0, 0, 0, time.UTC)

func names2(tags []Tag) []string {
	var list []string
	for _, t := range tags {
		switch {
		case t.Literal:
			list = append(list, "literal "+t.Text)
		case t.Expression != "":
			list = append(list, "="+t.Expression)
		default:
			list = append(list, t.Name)
		}
	}
	return list
}

func TestTags(t *testing.T) {
	for text, want := range map[string][]string{
		"no tag":                                   nil,
		"{{item}} {{ inputs.parameters.a-b }}":     {"item", "inputs.parameters.a-b"},
		"{{ .Values.x }} {{ foo }} {{if a}}":       {"literal {{ .Values.x }}", "literal {{ foo }}", "literal {{if a}}"},
		"{{{item.x}}}":                             {"item.x"},
		`{"a":{{item.x}}}`:                         {"item.x"},
		"{{workflow.parameters.{{item}}}}":         {"workflow.parameters.{{item}}"},
		`{{={"a":{"b":1}}}}`:                       {`={"a":{"b":1}}`},
		`{{= "}}" }} x`:                            {`= "}}" `},
		"{{inputs.x | upper}}":                     {"literal {{inputs.x | upper}}"},
		"{{open":                                   nil,
		"{{workflow.creationTimestamp.%Y}}":        {"workflow.creationTimestamp.%Y"},
		`{{workflow.labels.a.b/c}}`:                {"workflow.labels.a.b/c"},
		"{{outer {{inputs.parameters.x}}":          {"inputs.parameters.x"},
		"{{inputs}} {{status}}":                    {"literal {{inputs}}", "literal {{status}}"},
		"{{steps.a.outputs.result}}{{tasks.b.ip}}": {"steps.a.outputs.result", "tasks.b.ip"},
	} {
		if diff := cmp.Diff(want, names2(Tags(text))); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

var scope = Values{
	"inputs.parameters.s":       "x",
	"inputs.parameters.a-b":     "dashed",
	"inputs.parameters.n":       "3",
	"inputs.parameters.quote":   "a\"b\n\u00e9 {{=1+1}} {{item}}",
	"inputs.parameters.json":    `{"a":[{"n":"x","v":1},{"n":"y","v":43}],"b":true}`,
	"workflow.parameters.x":     "by x",
	"item":                      map[string]any{"k": "v", "n": json.Number("1.10"), "l": []any{"a<b"}},
	"lastRetry.exitCode":        "137",
	"steps.a.outputs.result":    "r",
	"cronworkflow.failed":       int64(4),
	"cronworkflow.last":         noon.Add(-time.Hour),
	"tasks.5a-b.outputs.result": "t",
}

func TestSubstituteText(t *testing.T) {
	e := New()
	for text, want := range map[string]string{
		"{{inputs.parameters.s}}-{{ inputs.parameters.s }}":                   "x-x",
		"{{inputs.parameters.quote}}":                                         "a\"b\n\u00e9 {{=1+1}} {{item}}",
		"{{workflow.parameters.{{inputs.parameters.s}}}}":                     "by x",
		"{{item.k}} {{item.n}} {{item.l}}":                                    `v 1.10 ["a<b"]`,
		"{{item}}":                                                            `{"k":"v","l":["a<b"],"n":1.10}`,
		"{{retries}} {{ foo }} {{.Go}}":                                       "{{retries}} {{ foo }} {{.Go}}",
		"{{=asInt(inputs.parameters.n) + 1}}":                                 "4",
		"{{=asFloat(inputs.parameters.n) / 2}}":                               "1.5",
		"{{=inputs.parameters['a-b']}}":                                       "dashed",
		"{{=tasks['5a-b'].outputs.result + 'x'}}":                             "tx",
		"{{=inputs.parameters[inputs.parameters.s + ''] ?? 'none'}}":          "none",
		"{{=inputs.parameters.missing ?? 'none'}}":                            "none",
		"{{=steps.gone.outputs.result ?? 'none'}}":                            "none",
		"{{=sprig.upper(steps.a.outputs.result)}}":                            "R",
		"{{=toJson({'a': [1, '<']})}}":                                        `{"a":[1,"<"]}`,
		"{{=map([1, 2], # * 2)}}":                                             "[2,4]",
		"{{=len(inputs.parameters) > 2}}":                                     "true",
		"{{=jsonpath(inputs.parameters.json, '$.a[?(@.v>42 && @.v<44)].n')}}": `["y"]`,
		`{{=jsonpath(inputs.parameters.json, '$.a[?(@.n=="x")].v')}}`:         "[1]",
		"{{=jsonpath(inputs.parameters.json, '$.a[*].n')}}":                   `["x","y"]`,
		"{{=jsonpath(inputs.parameters.json, '$.a[0:1]')}}":                   `[{"n":"x","v":1}]`,
		"{{=jsonpath(inputs.parameters.json, '$.a[-1].n')}}":                  "y",
		"{{=jsonpath(inputs.parameters.json, '$..v')}}":                       "[1,43]",
		"{{=jsonpath(inputs.parameters.json, '$.b')}}":                        "true",
		"{{=now().Year()}} {{=sprig.date('2006', sprig.now())}}":              "2024 2024",
		"{{=(now() - cronworkflow.last).Seconds() > 360}}":                    "true",
		"{{=cronworkflow.failed >= 3}}":                                       "true",
		"{{=join(split('a,b', ','), '+')}} {{=replace('aa', 'a', 'b')}}":      "a+b bb",
		"{{=let x = 2; x * 3}}":                                               "6",
		"{{='}}'}}":                                                           "}}",
	} {
		got, unresolved, err := e.SubstituteText(text, scope, Options{Now: noon})
		if err != nil || len(unresolved) > 0 || got != want {
			t.Errorf("%s: got %q, %v, %v", text, got, unresolved, err)
		}
	}
}

func TestUnresolved(t *testing.T) {
	for text, want := range map[string]string{
		"{{ inputs.parameters.nope }}":     "failed to resolve {{ inputs.parameters.nope }}",
		"{{=inputs.parameters.nope}}":      "failed to evaluate expression {{=inputs.parameters.nope}}: inputs.parameters.nope is not known here",
		"{{=1 +}}":                         "failed to evaluate expression {{=1 +}}: unexpected token EOF (1:3)",
		"{{=asInt('x')}}":                  `failed to evaluate expression {{=asInt('x')}}: asInt: "x" is not a number (1:1)`,
		"{{inputs.parameters.{{item.l}}}}": "failed to resolve {{inputs.parameters.{{item.l}}}}",
		"{{=sprig.env('HOME')}}":           "failed to evaluate expression {{=sprig.env('HOME')}}: invalid operation: cannot call nil (1:7)",
	} {
		got, unresolved, err := New().SubstituteText(text, scope, Options{})
		if err != nil || got != text || len(unresolved) != 1 || unresolved[0].Error() != want {
			t.Errorf("got %q, %v, %v\nwant %s", got, unresolved, err, want)
		}
	}
}

func TestKeep(t *testing.T) {
	keep := Options{Keep: func(name string) bool { return strings.HasPrefix(name, "pod.") || name == "item" }}
	text := "{{pod.name}} {{inputs.parameters.s}} {{=pod.name + 'x'}} {{item}}"
	got, unresolved, err := New().SubstituteText(text, Values{"inputs.parameters.s": "x"}, keep)
	if want := "{{pod.name}} x {{=pod.name + 'x'}} {{item}}"; got != want || len(unresolved) > 0 || err != nil {
		t.Errorf("got %q, %v, %v", got, unresolved, err)
	}
}

func TestSubstituteTree(t *testing.T) {
	tree := map[string]any{
		"args":   []any{"{{inputs.parameters.quote}}", json.Number("1")},
		"same":   []any{"no tag"},
		"labels": map[string]any{"{{inputs.parameters.s}}": "{{inputs.parameters.nope}}"},
	}
	got, unresolved, err := New().Substitute(tree, scope, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"args":   []any{"a\"b\n\u00e9 {{=1+1}} {{item}}", json.Number("1")},
		"same":   []any{"no tag"},
		"labels": map[string]any{"x": "{{inputs.parameters.nope}}"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(unresolved) != 1 || unresolved[0].Path != `labels["{{inputs.parameters.s}}"]` {
		t.Errorf("unresolved: %+v", unresolved)
	}
	_, _, err = New().Substitute(map[string]any{"x": 1, "{{inputs.parameters.s}}": 2}, scope, Options{})
	if err == nil {
		t.Error("two keys became one without an error")
	}
	_, _, err = New().SubstituteText(strings.Repeat("{{inputs.parameters.s}}", 100), scope, Options{MaxBytes: 50})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// Whatever the value, it arrives unchanged and is not looked at again.
func TestSubstitutePropertyValueIsKept(t *testing.T) {
	e := New()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"{{item}}", "{{=1+1}}", "\"", "}}", "{{"})).Draw(t, "value")
		before, after := rapid.StringMatching(`[a-z{}" ]{0,4}`).Draw(t, "before"), rapid.StringMatching(`[a-z ]{0,4}`).Draw(t, "after")
		if strings.Contains(before, "{{") || strings.HasSuffix(before, "{") {
			t.Skip()
		}
		got, _, err := e.SubstituteText(before+"{{inputs.parameters.v}}"+after, Values{"inputs.parameters.v": value, "item": "no"}, Options{})
		if err != nil || got != before+value+after {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}

func TestConditions(t *testing.T) {
	e := New()
	for code, want := range map[string]bool{
		"asInt(lastRetry.exitCode) > 100":          true,
		"lastRetry.exitCode in ['1', '2']":         false,
		"steps.a.outputs.result == 'r'":            true,
		"nope.x == nil":                            true,
		"any([1, 2], # == 2) && 1..3 == [1, 2, 3]": true,
	} {
		got, err := e.EvalBool(code, scope, Options{})
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", code, got, err)
		}
	}
	if _, err := e.EvalBool("'x'", scope, Options{}); err == nil {
		t.Error("a text is taken for a condition")
	}
	if got, err := e.Names("inputs.parameters['a-b'] + tasks[x].y + sprig.upper(item.z) + toJson(map(item.list, #.q))"); err != nil ||
		!cmp.Equal(got, []string{"inputs.parameters.a-b", "item.list", "item.z", "tasks.*", "x"}) {
		t.Errorf("names: %v, %v", got, err)
	}
}

func TestExpressionsAreBounded(t *testing.T) {
	e := New()
	for _, code := range []string{
		"let a = 1..1000; all(a, all(a, all(a, all(a, true))))",
		"len(reduce(1..40, #acc + #acc, 'xxxxxxxxxx'))",
		"let a = sprig.repeat(1000000, 'x'); len(replace(a, 'x', a))",
		"sprig.repeat(1000000000, 'x')",
		"len(1..100000000)",
		"len(sprig.until(100000000))",
		"sprig.nindent(100000000, 'x')",
		"join(map(1..100000, sprig.repeat(1000, 'x')))",
		strings.Repeat("1+", 40000) + "1",
	} {
		if _, err := e.Eval(code, scope, Options{}); err == nil {
			t.Errorf("%.60s: no error", code)
		}
	}
}

// The rows follow "Conditionals" and "Variables" of the Argo Workflows documentation.
func TestEvalWhen(t *testing.T) {
	for when, want := range map[string]bool{
		"":                             true,
		"heads == heads":               true,
		"heads != heads":               false,
		"heads == tails":               false,
		"Error in (Failed, Error)":     true,
		"Error in (Failed, Succeeded)": false,
		"'a b' == 'a b'":               true,
		`"a b" == 'a c'`:               false,
		"3 > 2":                        true,
		"10 > 9":                       true,
		"1.5 < 1.25":                   false,
		"true":                         true,
		"false":                        false,
		"true == true && !false":       true,
		"(foo == bar) || (foo == foo)": true,
		"foo =~ 'f.*'":                 true,
		"true == 'true'":               false,
	} {
		got, err := EvalWhen(when)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	for _, when := range []string{"heads", "== x", "a b", "(a", "1 +"} {
		if got, err := EvalWhen(when); err == nil {
			t.Errorf("%s: %v", when, got)
		}
	}
}

func TestDepends(t *testing.T) {
	results := map[string]string{"a": "Succeeded", "b-1": "Failed", "c": "Skipped", "5d": "Omitted", "or": "Daemoned"}
	is := func(task, result string) bool { return results[task] == result }
	for text, want := range map[string]bool{
		"a":                       true,
		"b-1":                     false,
		"b-1.Failed":              true,
		"a && b-1":                false,
		"a || b-1":                true,
		"a && !b-1":               true,
		"!(a && b-1) && c":        true,
		"a || b-1 && b-1":         true,
		"(a || b-1) && b-1":       false,
		"5d.Omitted && c.Skipped": true,
		"not b-1 and a or b-1":    true,
		"a&&(c||5d)":              true,
		"a.AnySucceeded":          false,
		"or && or.Daemoned":       true,
	} {
		d, err := ParseDepends(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := d.Eval(is); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
	d, _ := ParseDepends("b-1.Failed || (a && b-1.Errored)")
	if !cmp.Equal(d.Tasks(), []string{"b-1", "a"}) || !cmp.Equal(d.Results("b-1"), []string{"Errored", "Failed"}) {
		t.Error(d.Tasks(), d.Results("b-1"))
	}
	for text, want := range map[string]string{
		"":            "column 1: a task name is missing at the end",
		"a &&":        "column 5: a task name is missing at the end",
		"a b":         `column 3: unexpected "b"`,
		"(a":          "column 3: a ) is missing",
		"a.Completed": "column 3: task result 'Completed' for task 'a' is invalid, want one of Succeeded, Failed, Errored, Skipped, Omitted, Daemoned, AnySucceeded, AllFailed",
		"a & b":       `column 3: unexpected "& b"`,
		"$":           `column 1: want a task name, got "$"`,
	} {
		if _, err := ParseDepends(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v", text, err)
		}
	}
	all := DependsOn([]string{"a", "b-1"}, func(task string) (bool, bool) { return task == "b-1", false })
	if !all.Eval(is) || DependsOn([]string{"b-1"}, nil).Eval(is) {
		t.Error("dependencies")
	}
}

func any2(s string) *manifest.AnyString { return manifest.NewAnyString(s) }

func TestSequence(t *testing.T) {
	for _, c := range []struct {
		in   manifest.Sequence
		want []any
	}{
		{manifest.Sequence{Count: any2("3")}, []any{"0", "1", "2"}},
		{manifest.Sequence{Count: any2("0")}, []any{}},
		{manifest.Sequence{Start: any2("5"), End: any2("3")}, []any{"5", "4", "3"}},
		{manifest.Sequence{Start: any2("9"), Count: any2("2"), Format: "testuser%02X"}, []any{"testuser09", "testuser0A"}},
		{manifest.Sequence{End: any2("0")}, []any{"0"}},
	} {
		got, err := Sequence(c.in)
		if err != nil || !cmp.Equal(got, c.want) {
			t.Errorf("%+v: %v, %v", c.in, got, err)
		}
	}
	for _, bad := range []manifest.Sequence{
		{}, {Count: any2("x")}, {Count: any2("1"), End: any2("2")}, {Count: any2("1000000")}, {Count: any2("1"), Format: "%s"},
		{Count: any2("1"), Format: "%9999999d"}, {End: any2("2147483647"), Start: any2("-2147483648")}, {Count: any2("1"), Format: "%d%d"},
	} {
		if got, err := Sequence(bad); err == nil {
			t.Errorf("%+v: %d items", bad, len(got))
		}
	}
}

func TestItems(t *testing.T) {
	items, err := ParamItems(` ["a(b)", 1.10, true, {"os": "debian", "n": 2}, [1, "x"], null] `)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, item := range items {
		got = append(got, ItemName("s", i, item))
	}
	want := []string{"s(0:ab)", "s(1:1.10)", "s(2:true)", "s(3:n:2,os:debian)", `s(4:[1,"x"])`, "s(5:null)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Values{"item": `{"n":2,"os":"debian"}`, "item.n": "2", "item.os": "debian"}, ItemScope(items[3])); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "{}", "x", `"a"`} {
		if _, err := ParamItems(bad); err == nil {
			t.Errorf("%q is taken for a list", bad)
		}
	}
	if got := Aggregate([]string{"1", "a", `{"k": "<"}`, ""}); got != `[1,"a",{"k":"<"},""]` {
		t.Error(got)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"10": 10 * time.Second, "2m": 2 * time.Minute, "1h30m": 90 * time.Minute, "0": 0} {
		if got, err := Duration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "x", "1d", "99999999999999999"} {
		if got, err := Duration(bad); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}

func FuzzSubstitute(f *testing.F) {
	f.Add("{{inputs.parameters.s}} {{=asInt('3')}} {{workflow.parameters.{{item}}}}", "v")
	f.Fuzz(func(t *testing.T, text, value string) {
		for _, tag := range Tags(text) {
			if text[tag.Start:tag.End] != tag.Text {
				t.Fatalf("tag %q at %d..%d of %q", tag.Text, tag.Start, tag.End, text)
			}
		}
		_, _, _ = New().SubstituteText(text, Values{"inputs.parameters.s": value, "item": value}, Options{})
	})
}

func FuzzDepends(f *testing.F) {
	f.Add("a && (b.Failed || !c-1)")
	f.Fuzz(func(_ *testing.T, text string) {
		if d, err := ParseDepends(text); err == nil {
			d.Eval(func(string, string) bool { return true })
		}
	})
}

func FuzzWhen(f *testing.F) {
	f.Add("'a' == b && 1 in (1, 2)")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = EvalWhen(text) })
}

func FuzzSequence(f *testing.F) {
	f.Add("1", "2", "", "%d")
	f.Fuzz(func(_ *testing.T, count, start, end, format string) {
		s := manifest.Sequence{Format: format}
		for _, v := range []struct {
			to   **manifest.AnyString
			text string
		}{{&s.Count, count}, {&s.Start, start}, {&s.End, end}} {
			if v.text != "" {
				*v.to = manifest.NewAnyString(v.text)
			}
		}
		_, _ = Sequence(s)
	})
}
