package script_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/script"
)

// Values go in and come out as JSON has them; what a script changes in its value is its own.
func TestLuaValues(t *testing.T) {
	value := map[string]any{"n": int64(3), "f": 1.5, "list": []any{"a", true, nil}, "none": []any{}, "map": map[string]any{"k": "v"}}
	for source, want := range map[string]any{
		`return obj.n + obj.f`:                          4.5,
		`return obj.list[1] .. obj.map.k`:               "av",
		`return obj.list`:                               []any{"a", true},
		`return obj.none`:                               []any{},
		`return {}`:                                     map[string]any{},
		`return {a = {1, 2}}`:                           map[string]any{"a": []any{1.0, 2.0}},
		`return obj.missing`:                            nil,
		`local x = 1`:                                   nil,
		`obj.map.k = "w" return obj.map`:                map[string]any{"k": "w"},
		`return string.rep("ab", 2) .. ("c"):upper()`:   "ababC",
		`return string.format("%s-%03d", "x", 7)`:       "x-007",
		`return table.concat({"a", "b"}, ",")`:          "a,b",
		`return ("v1.22"):match("^v%d+") or "no"`:       "v1",
		`return (("a.b"):gsub("%.", "%%"))`:             "a%b",
		`local t = {} table.insert(t, "x") return #t`:   1.0,
		`return math.max(1, 2)`:                         2.0,
		`return select(2, pcall(error, {code = "no"}))`: map[string]any{"code": "no"},
	} {
		got, err := script.Lua(source, "obj", value, nil)
		if err != nil {
			t.Errorf("%s: %v", source, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", source, diff)
		}
	}
	if value["map"].(map[string]any)["k"] != "v" {
		t.Error("a script changed the caller's value")
	}
}

// A script reaches nothing outside itself, ends, and makes no more than it may; catching the error does not help it.
func TestLuaIsConfined(t *testing.T) {
	deep := strings.Repeat("(", 1<<20)
	for source, want := range map[string]string{
		`return os.getenv("HOME")`:           "non-function",
		`return os.time()`:                   "there is no clock here",
		`return io.read()`:                   "nil",
		`return require("x")`:                "non-function",
		`return loadstring("return 1")()`:    "non-function",
		`return math.random()`:               "non-function",
		`return string.dump(function() end)`: "non-function",
		`while true do end`:                  "took more steps",
		`while true do pcall(function() while true do end end) end`:                           "took more steps",
		`local s = "x" while true do s = s .. s end`:                                          "bytes of text",
		`local s = "x" while true do pcall(function() s = s .. s end) end`:                    "took more steps",
		`return ("x"):rep(2e9)`:                                                               "bytes of text",
		`local s = ("x"):rep(1e6) return table.concat({s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s})`: "bytes of text",
		`return string.format("%9999d", 1)`:                                                   "format width",
		`local t = {} t[1e8] = 1`:                                                             "larger than 100000",
		`return {[1e8] = 1}`:                                                                  "larger than 100000",
		`return ("a"):rep(1000):find(("a*"):rep(20) .. "b")`:                                  "patterns take more steps than allowed",
		`return function() end`:                                                               "cannot be part of the result",
		`local t = {} t.t = t return t`:                                                       "nested more than 100",
		`return "x" .. {}`:                                                                    "attempt to concatenate",
		`return 1 +`:                                                                          "syntax error",
		"return " + deep + "1" + strings.Repeat(")", len(deep)):                               "bytes and may have at most",
	} {
		got, err := script.Lua(source, "obj", map[string]any{}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, %v, want an error with %q", source, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: the message has several lines: %q", source, err)
		}
	}
	// The deepest program that may be is read without harm.
	deep = strings.Repeat("(", 32_000)
	if got, err := script.Lua("return "+deep+"1"+strings.Repeat(")", len(deep)), "obj", nil, nil); err == nil && got != 1.0 {
		t.Errorf("got %v", got)
	}
}

// The same program and value give the same result, errors too.
func FuzzLua(f *testing.F) {
	for _, s := range []string{`return obj`, `for k, v in pairs(obj) do return k end`, `return {} .. 1`, `return tostring(1e100)`, `goto x ::x::`} {
		f.Add(s)
	}
	f.Add(`return tostring({}) .. tostring(pairs)`)
	f.Add(`return string.format("%v", {})`)
	f.Fuzz(func(t *testing.T, source string) {
		value := map[string]any{"a": "b", "c": []any{1.0}}
		one, err := script.Lua(source, "obj", value, nil)
		two, err2 := script.Lua(source, "obj", value, nil)
		if (err == nil) != (err2 == nil) {
			t.Errorf("%v, then %v", err, err2)
		}
		if diff := cmp.Diff(one, two); err == nil && diff != "" && !strings.Contains(diff, "NaN") {
			t.Error(diff)
		}
	})
}
