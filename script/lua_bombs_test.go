package script_test

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"

	"github.com/tiphys/tiphys/script"
)

// luaBombs are programs that make much out of little. (Those that take for ever are tried where they are ended: script/confined.)
func luaBombs() map[string]string {
	return map[string]string{
		"gsub by a table":          `local t = {a = ("x"):rep(1000000)} return #(("a"):rep(1000000):gsub("a", t))`,
		"gsub by a function":       `local s = ("x"):rep(1000000) return #(("a"):rep(100000):gsub("a", function() return s end))`,
		"gsub by a metatable":      `local t = setmetatable({}, {__index = function() return ("x"):rep(100000) end}) return #(("a"):rep(1000000):gsub("a", t))`,
		"tables with gaps":         `local k = {} for i = 1, 100000 do local t = {} t[99999] = 1 k[i] = t end return k`,
		"tables with gaps, given":  `local k = {} for i = 1, 100000 do k[i] = {[99999] = 1} end return k`,
		"gaps by insert":           `local k = {} for i = 1, 100000 do local t = {} table.insert(t, 99999, 1) k[i] = t end return k`,
		"gaps by a nested key":     `local k, n = {}, {99999} for i = 1, 100000 do local t = {} t[n[1]] = 1 k[i] = t end return k`,
		"a table of itself, twice": `local t = {1} for i = 1, 60 do t = {t, t} end return {a = t}`,
		"objects, twice":           `local t = {a = 1} for i = 1, 60 do t = {a = t, b = t} end return t`,
		"one text, many times":     `local s, t = ("x"):rep(8000000), {} for i = 1, 10000 do t[i] = s end return t`,
		"one table in itself":      `local t = {} t.a = t return t`,
		"closures":                 `local t = {} for i = 1, 1e6 do t[i] = function() return i end end`,
		"wide constructors":        `local t = {} while true do t[#t + 1] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20} end`,
	}
}

// TestLuaBombs: each is an error, and at no time much memory is held.
func TestLuaBombs(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // what is held is meant, and not what waits for a collector that others keep from its work
	for name, program := range luaBombs() {
		t.Run(name, func(t *testing.T) {
			runtime.GC()
			stop, most := make(chan struct{}), make(chan uint64)
			go func() {
				var high uint64
				sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
				for {
					metrics.Read(sample)
					high = max(high, sample[0].Value.Uint64())
					select {
					case <-stop:
						most <- high
						return
					default:
					}
				}
			}()
			_, err := script.Lua(program, "event", map[string]any{}, nil)
			close(stop)
			high := <-most
			if err == nil {
				t.Error("it is no error")
			}
			if high > 256<<20 {
				t.Errorf("it took %d MiB", high>>20)
			}
			t.Logf("%d MiB, %.100v", high>>20, err)
		})
	}
}

// TestCountedKeys: what counts the keys of tables changes nothing else.
func TestCountedKeys(t *testing.T) {
	for program, want := range map[string]any{
		`local t = {{1, 2}, {3, 4}} local i = {2, 1} return t[i[1]][i[2]]`:                            3.0,
		`local t = {} t[1], t[2] = 5, 6 return t[1] * 10 + t[2]`:                                      56.0,
		`local function f() return {7, 8}, 9 end local k = 2 return f()[k]`:                           8.0,
		`local t = {} t[1] = 1 pcall(function() local x = nil; t[x.y] = 1 end) t[2] = 2 return #t`:    2.0,
		`local k = "len" local s = "abc" return s[k](s)`:                                              3.0,
		`local t = {[1] = "a", [2] = "b", c = "c"} return t[1] .. t[2] .. t["c"]`:                     "abc",
		`local t = {} t[1.5] = "half" t[-1] = "below" return t[1.5] .. t[-1]`:                         "halfbelow",
		`return (("a-b"):gsub("%a", {a = "x"})) .. ("a-b"):gsub("%a", function(c) return c .. c end)`: "x-baa-bb",
		`return (("a-b"):gsub("(%a)-(%a)", function(a, b) return b .. a end))`:                        "ba",
		`return (("ab"):gsub("%a", function() end))`:                                                  "ab",
	} {
		got, err := script.Lua(program, "event", nil, nil)
		if err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", program, got, err, want)
		}
	}
}
