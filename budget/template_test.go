package budget_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/budget"
)

// text executes a template over a value.
func text(t *testing.T, template string, value any) (string, error) {
	t.Helper()
	parsed, err := budget.ParseTemplate(template, budget.NewSprigs(), nil)
	if err != nil {
		return "", err
	}
	return parsed.Execute(budget.New(), 1<<20, value, nil)
}

// What templates give is text/template's and sprig's.
func TestTemplate(t *testing.T) {
	value := map[string]any{"name": "harbour", "list": []any{"a", "b", "a"}, "n": 3}
	for template, want := range map[string]string{
		`{{ .name | upper | quote }}`:                             `"HARBOUR"`,
		`{{ range $i, $x := .list }}{{ $i }}{{ $x }}{{ end }}`:    "0a1b2a",
		`{{ range until 3 }}{{ . }}{{ else }}none{{ end }}`:       "012",
		`{{ range untilStep 5 0 -2 }}{{ . }}{{ end }}`:            "531",
		`{{ printf "%s-%03d" .name .n }}`:                         "harbour-003",
		`{{ print .name 1 }} {{ println .n }}`:                    "harbour1 3\n",
		`{{ repeat 3 "ab" }} {{ "ab" | repeat 2 }}`:               "ababab abab",
		`{{ indent 2 "a\nb" }}{{ nindent 1 "c" }}`:                "  a\n  b\n c",
		`{{ replace "a" "o" .name }}`:                             "horbour",
		`{{ uniq .list | join "," }}`:                             "a,b",
		`{{ define "x" }}[{{ . }}]{{ end }}{{ template "x" .n }}`: "[3]",
		`{{ dict "a" 1 | toJson }} {{ default "d" "" }}`:          `{"a":1} d`,
		`{{ regexReplaceAll "a(.)" .name "${1}_" }}`:              "hr_bour",
		`{{ if and (eq .n 3) (has "a" .list) }}yes{{ end }}`:      "yes",
		`{{ fail "no" | trim }}`:                                  "",
		`{{ env "HOME" }}`:                                        "",
		`{{ randAlpha 5 }}`:                                       "",
		`{{ genPrivateKey "rsa" }}`:                               "",
	} {
		got, err := text(t, template, value)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s gives %q %v, want %q", template, got, err, want)
		}
	}
}

// Each of these would take all memory, or for ever.
func TestTemplateBombs(t *testing.T) {
	list := make([]any, 1000)
	value := map[string]any{"list": list}
	for _, template := range []string{
		`{{ range .list }}{{ range $.list }}{{ range $.list }}{{ end }}{{ end }}{{ end }}`,
		`{{ range 1000000000000 }}{{ end }}`,
		`{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}`,
		`{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}`,
		`{{ define "x" }}{{ template "x" . }}{{ template "x" . }}{{ end }}{{ template "x" . }}`,
		`{{ $x := "ab" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}`,
		`{{ $x := "ab" }}{{ range until 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}`,
		`{{ $x := "ab" }}{{ range until 60 }}{{ $x = html $x "<" $x }}{{ end }}`,
		`{{ $x := "ab" }}{{ range until 60 }}{{ $x = cat $x $x }}{{ end }}`,
		`{{ $x := list 1 }}{{ range until 60 }}{{ $x = concat $x $x }}{{ end }}`,
		`{{ $x := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ toJson $x }}`,
		`{{ $x := dict }}{{ $y := set $x "x" $x }}{{ toJson $x }}`,
		`{{ $x := dict }}{{ $y := set $x "x" $x }}{{ $z := deepCopy $x }}`,
		`{{ printf "%1000000000d" 1 }}`,
		`{{ printf "` + strings.Repeat("%99999d", 5000) + `" 1 }}`,
		`{{ printf "%*d" 1000000000 1 }}`,
		`{{ repeat 1000000000 "ab" }}`,
		`{{ range until 1000 }}{{ $x := repeat 1000000 "ab" }}{{ end }}`,
		`{{ indent 1000000000 "a" }}`,
		`{{ wrapWith 1 (repeat 100000 "b") (repeat 100000 "a ") }}`,
		`{{ regexReplaceAll "" (repeat 100000 "a") (repeat 100000 "b") }}`,
		`{{ uniq (until 100000) }}`,
		`{{ $a := repeat 1000000 "a" }}{{ regexMatch (repeat 400 "(a?){1000}") $a }}`,
		`{{ $a := repeat 1000000 "a" }}{{ range until 100 }}{{ $x := regexFindAll "(a?a?a?a?){200}b" $a -1 }}{{ end }}`,
		`{{ $a := repeat 1000000 "a" }}{{ regexSplit "(a?a?a?a?){1000}b" $a -1 }}`,
		`{{ range until 100000 }}{{ $x := regexMatch "(a?a?a?a?){600}b" "" }}{{ end }}`,
		strings.Repeat("{{ if 1 }}", 1<<20) + strings.Repeat("{{ end }}", 1<<20),
		strings.Repeat("{{ 1 }}", 1<<20),
		"{{ " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000) + " }}",
		`{{ repeat -1 "a" | len | repeat 9223372036854775807 }}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := text(t, template, value)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%.100s has the value %.60q", template, got)
		}
		if made := after.TotalAlloc - before.TotalAlloc; made > 600<<20 {
			t.Errorf("%.100s allocated %d MiB on its way", template, made>>20)
		}
	}
}
