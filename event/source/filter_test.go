package source_test

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/manifest"
)

// The data is a webhook's as argo-events 1.9 lays it out (eventsources/sources/webhook): headers and body at the top.
func TestFilter(t *testing.T) {
	data := json.RawMessage(`{"headers":{"X-Kind":["push"]},"body":{"ref":"refs/heads/main","n":"3","list":[1,2]},"event-name":"tide","trim":"own"}`)
	for expression, want := range map[string]string{
		`body.ref == "refs/heads/main"`:                 "true",
		`body.ref matches "^refs/heads/(main|master)$"`: "true",
		`headers["X-Kind"][0] == "pull"`:                "false",
		`event_name == "tide"`:                          "true",
		`body.none == nil`:                              "true",
		`none == nil`:                                   "true",
		`'ref' in body and !('skip' in body)`:           "true",
		`asInt(body.n) == 3 and asFloat(body.n) > 2.5`:  "true",
		`upper(body.ref) == "REFS/HEADS/MAIN"`:          "true",
		`hasPrefix(body.ref, "refs/")`:                  "true",
		`trunc(4, body.ref) == "refs"`:                  "true",
		`sprig.trunc(4, body.ref) == "refs"`:            "true",
		`jsonpath(body, "$.list[1]") == 2`:              "true",
		`toJson(body.list) == "[1,2]"`:                  "true",
		`body.ref`:                                      "error",
		`asInt(body.ref) == 1`:                          "error",
		`env("HOME") == ""`:                             "error",
		`genPrivateKey("rsa") == ""`:                    "error",
	} {
		f, err := source.CompileFilter(&manifest.EventSourceFilter{Expression: expression})
		if err != nil {
			t.Fatal(expression, err)
		}
		got := "error"
		if ok, err := f.Pass(data); err == nil {
			got = map[bool]string{true: "true", false: "false"}[ok]
		} else if want != "error" {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", expression, got, want)
		}
	}
}

// TestFilterBombs: what is delivered, perhaps by nobody in particular, is looked at within a budget.
func TestFilterBombs(t *testing.T) {
	data := json.RawMessage(`{"body":{"list":[` + strings.Repeat("1,", 1000) + `1],"long":"` + strings.Repeat("a", 500_000) + `"}}`)
	for _, expression := range []string{
		`count(body.list, count(body.list, count(body.list, count(body.list, true) > 0) > 0) > 0) > 0`,
		`len(map(body.list, {let x = #; map(body.list, body.long + string(x) + string(#))})) > 0`,
		`body.long matches "` + strings.Repeat("(a?){20}", 180) + `b"`,
		`body.long matches "` + strings.Repeat("(a?){1000}", 300) + `b"`,
		`len(reduce(1..60, #acc + #acc, body.long)) > 0`,
		`len(reduce(1..60, cat(#acc, #acc), body.long)) > 0`,
		`len(wrapWith(1, body.long, body.long)) > 0`,
		`len(regexReplaceAll("", body.long, body.long)) > 0`,
		`len(repeat(body.long, 1000000)) > 0`,
		`len(jsonpath(body, "$.list[?(count(1..1000, count(1..1000, true) > 0) > 0)]")) > 0`,
	} {
		f, err := source.CompileFilter(&manifest.EventSourceFilter{Expression: expression})
		if err != nil {
			continue // refused when it was declared
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ok, err := f.Pass(data)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%.100s is %t", expression, ok)
		}
		if made := after.TotalAlloc - before.TotalAlloc; made > 600<<20 && !raced { // the race detector has pools forget what they keep
			t.Errorf("%.100s allocated %d MiB on its way", expression, made>>20)
		}
	}
}
