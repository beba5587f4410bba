package confined_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/script"
	"github.com/tiphys/tiphys/script/confined"
)

var _ sensor.Scripts = (*confined.Scripts)(nil)

// TestMain lets the test binary be the confined process.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "__script" {
		if err := confined.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// moment is the time that programs see: 2026-09-14T08:30:00Z.
func moment() time.Time { return time.Unix(1789374600, 0) }

func open(t testing.TB, o confined.Options) *confined.Scripts {
	t.Helper()
	j := confined.NewScripts(o)
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if left := j.Processes(); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
	})
	return j
}

// TestJQ: in its own process a program gives what it gives here. The results are jq's (jqlang.org/manual), but for what it may not know.
func TestJQ(t *testing.T) {
	j := open(t, confined.Options{})
	for program, want := range map[string]string{
		`.`:                            `{"a":{"b":[1,2,3]},"t":"<&>"}`,
		`{n: (.a.b | add)}`:            `{"n":6}`,
		`{t, now: now}`:                `{"now":1789374600,"t":"<&>"}`,
		`{day: (now | todate)}`:        `{"day":"2026-09-14T08:30:00Z"}`,
		`{hour: (now | localtime[3])}`: `{"hour":8}`,
		`{home: env.HOME, env: $ENV}`:  `{"env":{},"home":null}`,
		`{n: [inputs]}`:                `{"n":[]}`,
		`{x: (.a | debug | .b[0])}`:    `{"x":1}`,
	} {
		got, err := j.JQ(t.Context(), program, []byte(`{"a":{"b":[1,2,3]},"t":"<&>"}`), moment())
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v, want %s", program, got, err, want)
		}
	}
	for program, want := range map[string]string{
		`.a[`: "line 1, column 4: unexpected", `nothing_such`: "line 1, column 1: function not defined", `error("no")`: "no", `1`: "it must give an object, got number",
		`empty`: "no result", `., .`: "more than one", `.t.x`: "expected an object", `include "x"; .`: "unexpected", `import "x" as x; .`: "unexpected",
	} {
		_, err := j.JQ(t.Context(), program, []byte(`{"a":1,"t":"x"}`), moment())
		_, here := script.Interpreter{}.JQ(t.Context(), program, []byte(`{"a":1,"t":"x"}`), moment())
		if err == nil || here == nil || err.Error() != here.Error() || !strings.Contains(err.Error(), want) || failure.KindOf(err) != failure.Invalid {
			t.Errorf("%s: %v, here %v, want %s", program, err, here, want)
		}
	}
	if n := len(j.Processes()); n != 1 {
		t.Errorf("there are %d processes", n)
	}
}

// bombs are programs that make much out of little, or take for ever. No step of theirs is many, or is counted too late.
func bombs() map[string]string {
	return map[string]string{
		"a text that doubles":           `{a: (reduce range(30) as $i ("aaaa"; . + .))}`,
		"a text that doubles, for long": `{a: (reduce range(60) as $i ("aaaa"; . + .) | length)}`,
		"one item far out":              `.b[500000000] = 1`,
		"many items far out":            `[range(100) as $i | (.b[20000000 + $i] = 1)] | {a: length}`,
		"a list that doubles":           `{a: (reduce range(40) as $i ([1]; . + .) | length)}`,
		"a repeated text":               `{a: ("aaaaaaaa" * 1000000000 | length)}`,
		"repeats of repeats":            `{a: ("a" * 100000000 | . * 100 | length)}`,
		"shared texts, joined":          `("a" * 1000000) as $s | {a: ([limit(100000; repeat($s))] | add | length)}`,
		"shared texts, join":            `("a" * 1000000) as $s | {a: ([limit(100000; repeat($s))] | join(",") | length)}`,
		"shared lists, as JSON":         `{a: (reduce range(60) as $i ([1]; [., .]) | tojson | length)}`,
		"shared lists, flattened":       `{a: (reduce range(60) as $i ([1]; [., .]) | flatten | length)}`,
		"shared lists, compared":        `reduce range(60) as $i ([1]; [., .]) | {a: (. == (. | map(.)))}`,
		"shared lists, sorted":          `reduce range(40) as $i ([1]; [., .]) | {a: ([., .] | sort | length)}`,
		"shared lists, as paths":        `reduce range(60) as $i ([1]; [., .]) | {a: ([paths] | length)}`,
		"shared lists, as the result":   `reduce range(60) as $i ([1]; [., .]) | {a: .}`,
		"implode":                       `("a" * 30000000 | explode) as $c | {a: ([limit(50; repeat($c | implode))] | add | length)}`,
		"explode":                       `{a: ("a" * 100000000 | explode | length)}`,
		"gsub of nothing":               `{a: ("a" * 5000000 | gsub(""; "bbbbbbbbbbbbbbbb") | length)}`,
		"gsub with groups":              `{a: ("a" * 100000 | gsub("(?<x>.*)"; .x * 10000) | length)}`,
		"matches of everything":         `{a: ("a" * 3000000 | [match(""; "g")] | length)}`,
		"a long pattern":                `{a: ("a" * 3000000 | test("(a?){1000}(a*)*b"))}`,
		"base64 again and again":        `{a: (reduce range(90) as $i ("a" * 1000; @base64) | length)}`,
		"JSON of JSON":                  `{a: (reduce range(60) as $i ("\""; tojson) | length)}`,
		"uri again and again":           `{a: (reduce range(60) as $i ("%%%%"; . + @uri) | length)}`,
		"html again and again":          `{a: (reduce range(60) as $i ("&&&&"; . + @html) | length)}`,
		"sh of a long text":             `{a: (reduce range(60) as $i ("''''"; @sh) | length)}`,
		"csv of shared texts":           `("a" * 1000000) as $s | {a: ([limit(10000; repeat($s))] | @csv | length)}`,
		"split into bytes":              `{a: ("a" * 50000000 | split("") | length)}`,
		"all combinations":              `{a: ([[range(100)], [range(100)], [range(100)], [range(100)], [range(100)]] | [combinations] | length)}`,
		"transposed":                    `{a: ([[range(1000)], (.b[30000000] = 1 | .b)] | transpose | length)}`,
		"a large range":                 `{a: [range(1000000000)]}`,
		"a tall tower of numbers":       `{a: (reduce range(40) as $i (10; . * .) | tostring | length)}`,
		"a number with many digits":     `{a: ("1" * 10000000 | tonumber | . * . * . * . | tostring | length)}`,
		"an object of many keys":        `{a: (reduce range(1000000) as $i ({}; .["k\($i)" * 100] = $i) | length)}`,
		"to_entries of shared objects":  `reduce range(60) as $i ({a: 1}; {a: ., b: .}) | {a: ([.. | objects | to_entries] | length)}`,
		"walk":                          `reduce range(60) as $i ([1]; [., .]) | {a: walk(.)}`,
		"recursion without end":         `def f: [f]; f`,
		"recursion that keeps":          `def f($x): f([$x, $x, $x, $x]); f(1)`,
		"a tail that never ends":        `last(repeat(.))`,
		"until":                         `until(false; .)`,
		"a deep list":                   `{a: (reduce range(1000000) as $i (1; [.]))}`,
		"a deep list, as JSON":          `{a: (reduce range(1000000) as $i (1; [.]) | tojson | length)}`,
		"deep JSON that is read":        `{a: ("[" * 9000000 + "]" * 9000000 | fromjson | length)}`,
		"large JSON that is read":       `{a: ("[" + "[]," * 20000000 + "1]" | fromjson | length)}`,
		"paths of deep lists":           `reduce range(20000) as $i (1; [.]) | {a: ([paths] | length)}`,
		"setpath far out, in a loop":    `reduce range(1000) as $i (.; setpath(["x\($i)", 30000000]; 1))`,
		"limit of much":                 `{a: [limit(1000000000; repeat("a" * 1000))]}`,
		"ltrimstr and ascii":            `{a: (reduce range(40) as $i ("aaaa"; . + ascii_downcase) | length)}`,
		"tostream of shared lists":      `reduce range(60) as $i ([1]; [., .]) | {a: ([tostream] | length)}`,
		"group_by of much":              `{a: ([range(600000) | {a: ("x" * 1000)}] | group_by(.a) | length)}`,
		"indices":                       `{a: ("a" * 20000000 | indices("a") | length)}`,
		"getpath":                       `{a: [limit(100000000; repeat(getpath(["b"])))]}`,
		"a format of much":              `{a: ("a" * 20000000 | [., ., ., ., ., ., ., .] | @json | length)}`,
		"strftime of a long format":     `{a: (0 | strftime("%A%A%A%A%A%A%A%A" * 10000000) | length)}`,
		"trim, then repeat":             `{a: ([limit(1000; repeat(" " * 30000000 | ascii_upcase))] | length)}`,
		"an error with much in it":      `error(reduce range(26) as $i ("aaaa"; . + .))`,
	}
}

// luaBombs are programs in Lua of which an instruction takes long, and some that make much.
func luaBombs() map[string]string {
	return map[string]string{
		"pcall in pcall":              `local function f() return pcall(f) end while true do f() end`,
		"error with error":            `local s = "x" while true do local ok, e = pcall(error, s .. s) s = e .. e end`,
		"wide calls":                  `local t = {} for i = 1, 60000 do t[i] = i end while true do pcall(string.char, unpack(t)) error("over") end`,
		"keys of much text":           `local t, s = {}, "x" while true do s = s .. s t[s] = s end`,
		"concat of much":              `local t = {} for i = 1, 1000 do t[i] = ("x"):rep(10000) end while true do t[1] = table.concat(t, ",") end`,
		"sorted again and again":      `local t = {} for i = 1, 50000 do t[i] = i end while true do table.sort(t) end`,
		"long texts, compared":        `local a, b, n = ("x"):rep(4e6), ("x"):rep(4e6), 0 while true do if a == b then n = n + 1 end end`,
		"long texts, in order":        `local a, b, n = ("x"):rep(4e6), ("x"):rep(4e6), 0 while true do if a < b then n = n + 1 end end`,
		"long texts as keys":          `local s, t = ("x"):rep(4e6), {} while true do t[s] = 1 end`,
		"long numbers":                `local s, n = ("1"):rep(4e6), 0 while true do n = n + tonumber(s) end`,
		"long numbers, added":         `local s, n = ("1"):rep(4e6), 0 while true do n = n + s end`,
		"inserted before all":         `local t = {} for i = 1, 100000 do table.insert(t, 1, i) end while true do table.remove(t, 1) table.insert(t, 1, 1) end`,
		"bytes of a long text":        `local s = ("x"):rep(60000) while true do local a = {s:byte(1, -1)} end`,
		"empty texts, joined":         `local t = {} for i = 1, 90000 do t[i] = "" end while true do table.concat(t) end`,
		"the length of a hollow list": `local t = {} for i = 1, 90000 do t[i] = 1 end for i = 90000, 1, -1 do t[i] = nil end while true do local n = #t end`,
		"the largest key":             `local t = {} for i = 1, 90000 do t[i] = 1 end while true do table.maxn(t) end`,
		"gsub by a table":             `local t = {a = ("x"):rep(1000000)} return #(("a"):rep(1000000):gsub("a", t))`,
		"tables of tables":            `local t = {1} for i = 1, 60 do t = {t, t} end return {a = t}`,
	}
}

// TestBombs: each bomb is the program's own error, this process takes no part of what it makes, and the next program is answered.
func TestBombs(t *testing.T) {
	j := open(t, confined.Options{Memory: 32 << 20, Processor: 300 * time.Millisecond})
	before := resident(t)
	for name, program := range bombs() {
		t.Run(name, func(t *testing.T) {
			out, err := j.JQ(t.Context(), program, []byte(`{"b":[1]}`), moment())
			if err == nil || failure.KindOf(err) != failure.Invalid {
				t.Errorf("%.60s, %v", out, err)
			}
			if err != nil && len(err.Error()) > 5000 {
				t.Errorf("the reason has %d bytes", len(err.Error()))
			}
			if testing.Verbose() {
				t.Logf("%.150v", err)
			}
		})
	}
	for name, program := range luaBombs() {
		t.Run("lua: "+name, func(t *testing.T) {
			out, err := j.Lua(t.Context(), program, []byte(`{"b":[1]}`), moment())
			if err == nil || failure.KindOf(err) != failure.Invalid {
				t.Errorf("%.60s, %v", out, err)
			}
			t.Logf("%.150v", err)
		})
	}
	if got, err := j.JQ(t.Context(), `{a: 1}`, []byte(`{}`), moment()); err != nil || string(got) != `{"a":1}` {
		t.Errorf("afterwards: %s %v", got, err)
	}
	if grown := resident(t) - before; grown > 64<<20 {
		t.Errorf("this process took %d MiB at its peak", grown>>20)
	}
}

// resident is the most memory that this process has had.
func resident(t *testing.T) int64 {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return used.Maxrss << 10
}

// TestLua: a program in Lua gives here what it gives there.
func TestLua(t *testing.T) {
	j := open(t, confined.Options{})
	for program, want := range map[string]string{
		`return event.a.b[2]`: `2`, `return event`: `{"a":{"b":[1,2]}}`, `return event.none`: `null`, `return os.execute == nil and io == nil`: `true`,
		`event.a = nil event.t = "<&>" return event`: `{"t":"\u003c\u0026\u003e"}`, `return {}`: `{}`,
	} {
		got, err := j.Lua(t.Context(), program, []byte(`{"a":{"b":[1,2]}}`), moment())
		here, inHere := script.Interpreter{}.Lua(t.Context(), program, []byte(`{"a":{"b":[1,2]}}`), moment())
		if err != nil || inHere != nil || string(got) != want || string(here) != want {
			t.Errorf("%s: %s %v, here %s %v, want %s", program, got, err, here, inHere, want)
		}
	}
	for program, want := range map[string]string{`error("no")`: "no", `return (`: "syntax error", `while true do end`: "more steps"} {
		if _, err := j.Lua(t.Context(), program, []byte(`{}`), moment()); err == nil || !strings.Contains(err.Error(), want) || failure.KindOf(err) != failure.Invalid {
			t.Errorf("%s: %v, want %s", program, err, want)
		}
	}
}

// A script of health has the object as obj, and what it may take is bounded as it is for sensors.
func TestHealth(t *testing.T) {
	s := open(t, confined.Options{})
	got, err := s.Health(t.Context(), `return {status = obj.status.phase, n = obj.spec.replicas + 1}`, []byte(`{"status":{"phase":"Healthy"},"spec":{"replicas":2}}`))
	if err != nil || string(got) != `{"n":3,"status":"Healthy"}` {
		t.Errorf("%s %v", got, err)
	}
	if _, err := s.Health(t.Context(), `return event.status`, []byte(`{}`)); err == nil || failure.KindOf(err) != failure.Invalid {
		t.Error(err)
	}
	for _, program := range []string{`while true do end`, `local t = {} for i = 1, 90000 do t[i] = ("x"):rep(100000) .. i end return t`} {
		if _, err := s.Health(t.Context(), program, []byte(`{}`)); err == nil || failure.KindOf(err) != failure.Invalid {
			t.Errorf("%s: %v", program, err)
		}
	}
}

// TestManyAtOnce: a hundred programs at a time, some of them killed from outside, each with its own result.
func TestManyAtOnce(t *testing.T) {
	j := open(t, confined.Options{})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			data, err := json.Marshal(map[string]int{"n": i})
			if err != nil {
				t.Error(err)
			}
			got, err := j.JQ(t.Context(), `{n: (.n * 2)}`, data, moment())
			if want := fmt.Sprintf(`{"n":%d}`, 2*i); err != nil || string(got) != want {
				t.Errorf("%s %v, want %s", got, err, want)
			}
		})
	}
	all.Wait()
}

// TestKilledAtWork: a process that is killed in the middle of a program costs a moment, and no result.
func TestKilledAtWork(t *testing.T) {
	j := open(t, confined.Options{})
	program := `{a: (reduce range(50000) as $i (0; . + $i))}`
	want, err := script.Interpreter{}.JQ(t.Context(), program, []byte(`{}`), moment())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		result := make(chan error, 1)
		go func() {
			got, err := j.JQ(t.Context(), program, []byte(`{}`), moment())
			if err == nil && string(got) != string(want) {
				err = fmt.Errorf("it gave %s, want %s", got, want)
			}
			result <- err
		}()
		for _, pid := range j.Processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
}

const example = `{git: .git, body: {ref: .body.ref, services: [.body.commits[].modified[] | split("/")[0]] | unique}, n: (.body.commits | length)}`

func exampleEvent() []byte {
	commit := `{"id":"0123456789012345678901234567890123456789","message":"a change of the harbour","modified":["tide/main.go","quay/main.go","docs/a.md"]}`
	return []byte(`{"git":{"branch":"main"},"body":{"ref":"refs/heads/main","commits":[` + strings.Repeat(commit+",", 15) + commit + `]}}`)
}

// BenchmarkTransform is one transform of a push of 2.5 KB by a usual program: here, and in a process that is there.
func BenchmarkTransform(b *testing.B) {
	run := func(b *testing.B, jq sensor.Scripts) {
		data := exampleEvent()
		for range b.N {
			if _, err := jq.JQ(b.Context(), example, data, moment()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("here", func(b *testing.B) { run(b, script.Interpreter{}) })
	b.Run("process", func(b *testing.B) { run(b, open(b, confined.Options{})) })
}

// BenchmarkStart is the start of a process and its first transform.
func BenchmarkStart(b *testing.B) {
	for range b.N {
		j := confined.NewScripts(confined.Options{})
		if _, err := j.JQ(b.Context(), `{}`, []byte(`{}`), moment()); err != nil {
			b.Fatal(err)
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
