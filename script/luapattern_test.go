package script_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	lua "github.com/yuin/gopher-lua"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/script"
)

// Expected values are from the Lua 5.1 reference manual, 5.4 and 5.4.1.
func TestPatterns(t *testing.T) {
	for program, want := range map[string]string{
		`return {("hello world"):find("o w")}`:                                                                        `[5,7]`,
		`return {("hello"):find("l+")}`:                                                                               `[3,4]`,
		`return {("hello"):find("(l)(l)")}`:                                                                           `[3,4,"l","l"]`,
		`return {("a.b"):find(".", 2, true)}`:                                                                         `[2,2]`,
		`return {("hello"):find("xyz")}`:                                                                              `{}`,
		`return {("hello"):find("", 10)}`:                                                                             `[6,5]`,
		`return ("key = value"):match("^(%w+)%s*=%s*(%w+)$")`:                                                         `"key"`,
		`return {("2026-01-02"):match("(%d+)-(%d+)-(%d+)")}`:                                                          `["2026","01","02"]`,
		`return {("hello"):match("()ll()")}`:                                                                          `[3,5]`,
		`return ("  trim  "):match("^%s*(.-)%s*$")`:                                                                   `"trim"`,
		`return ("f(a(b)c)d"):match("%b()")`:                                                                          `"(a(b)c)"`,
		`return ("THE (quick) fox"):find("%f[%a]%a+%f[%A]")`:                                                          `1`,
		`return ([[say "it's" ok]]):match([[(["'])(.-)%1]])`:                                                          `"\""`,
		`return ("x-y]z"):match("[%]-]+")`:                                                                            `"-"`,
		`return ("a]b"):match("[]]")`:                                                                                 `"]"`,
		`return ("abc"):match("[^a-b]")`:                                                                              `"c"`,
		`return {("hello world"):gsub("o", "0")}`:                                                                     `["hell0 w0rld",2]`,
		`return {("hello world"):gsub("(%w+)", "%1 %1")}`:                                                             `["hello hello world world",2]`,
		`return {("hello world"):gsub("%w+", "%0 %0", 1)}`:                                                            `["hello hello world",1]`,
		`return {("abc"):gsub("", "-")}`:                                                                              `["-a-b-c-",4]`,
		`return {("abc"):gsub("^a", "x")}`:                                                                            `["xbc",1]`,
		`return {("$name is $age"):gsub("%$(%w+)", {name = "ada", age = 36})}`:                                        `["ada is 36",2]`,
		`return {("abc"):gsub("%w", function(c) if c == "b" then return false end return c:upper() end)}`:             `["AbC",3]`,
		`return {("100%"):gsub("%%", " percent %%")}`:                                                                 `["100 percent %",1]`,
		`local t = {} for k, v in ("a=1, b=2"):gmatch("(%w+)=(%w+)") do t[#t+1] = k .. v end return t`:                `["a1","b2"]`,
		`local t = {} for w in ("one two"):gmatch("%a+") do t[#t+1] = w end return t`:                                 `["one","two"]`,
		`local n = 0 for _ in ("abc"):gmatch("") do n = n + 1 end return n`:                                           `4`,
		`return ("aaa"):gsub("a", function(c) return (c:gsub("a", "b")) end)`:                                         `"bbb"`,
		`return ("released on 2026-01-02T03:04:05Z by the pipeline " .. ("x"):rep(5000)):match("(%d+)-(%d+)-(%d+)T")`: `"2026"`,
		`return pcall(string.find, "a", "[a")`:                                                                        `false`,
		`return pcall(string.find, "a", "%")`:                                                                         `false`,
		`return pcall(string.find, "a", "(a")`:                                                                        `false`,
		`return pcall(string.match, "a", "a)")`:                                                                       `false`,
		`return pcall(string.find, "a", "%1")`:                                                                        `false`,
		`return pcall(string.find, "a", "%b")`:                                                                        `false`,
		`return pcall(string.find, "a", "%fa")`:                                                                       `false`,
		`return pcall(string.gsub, "a", "a", "%2")`:                                                                   `false`,
		`return pcall(string.gsub, "a", "a", {a = {}})`:                                                               `false`,
		`return pcall(string.rep, "(", 40) and pcall(string.find, "a", ("("):rep(40))`:                                `false`,
	} {
		got, err := script.Lua(program, "event", nil, nil)
		text, _ := json.Marshal(got)
		if err != nil || string(text) != want {
			t.Errorf("%s gives %s %v, want %s", program, text, err, want)
		}
	}
}

// What a pattern takes is bounded, whatever it looks like, and the program is told.
func TestPatternsAreBounded(t *testing.T) {
	for _, program := range []string{
		`return ("a"):rep(1000):find(("a*"):rep(20) .. "b")`,
		`return ("a"):rep(1000):find(("a-"):rep(20) .. "b")`,
		`return ("a"):rep(30000):find(".-.-b")`,
		`while true do ("x"):rep(60000):find("y.*") end`,
		`for w in ("a"):rep(20000):gmatch(".*b") do end`,
		`return ("a"):rep(20000):gsub("a*b", "")`,
		`return ("["):rep(60000):find("%b[]" )`,
		`return ("ab"):rep(9000):find("(.-)%1$")`,
	} {
		if got, err := script.Lua(program, "event", nil, nil); err == nil || !strings.Contains(err.Error(), "patterns take more steps than allowed") && !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: %v %v", program, got, err)
		}
	}
	if _, err := script.Lua(`return ("x"):rep(3000):find(("x?"):rep(3000))`, "event", nil, nil); err == nil {
		t.Error("a match nested 3000 deep ends")
	}
}

// Patterns mean what they mean to the library's own matcher, where that does not fail by itself.
func TestPatternsAsTheLibrarys(t *testing.T) {
	piece := rapid.SampledFrom([]string{"a", "b", ".", "%a", "%d", "%s", "%W", "[ab]", "[^a]", "[%d-]", "[a-c1]", "(", ")", "()", "-", "x"})
	quantifier := rapid.SampledFrom([]string{"", "", "", "*", "+", "-", "?"})
	rapid.Check(t, func(t *rapid.T) {
		var pattern strings.Builder
		if rapid.Bool().Draw(t, "anchor") {
			pattern.WriteString("^")
		}
		open := 0
		for range rapid.IntRange(1, 6).Draw(t, "pieces") {
			p := piece.Draw(t, "piece")
			switch p {
			case "(":
				open++
			case ")":
				if open == 0 {
					continue
				}
				open--
			case "()":
			default:
				p += quantifier.Draw(t, "quantifier")
			}
			pattern.WriteString(p)
		}
		pattern.WriteString(strings.Repeat(")", open))
		text := rapid.StringMatching(`[abcx1 -]{0,12}`).Draw(t, "text")
		program := fmt.Sprintf(`local out = {} local function note(...) for i = 1, select("#", ...) do out[#out+1] = tostring((select(i, ...))) end out[#out+1] = "|" end
			local function all(...) if select("#", ...) == 0 then return nil end return ... end -- the library gives nothing instead of nil
			note((%[1]q):find(%[2]q)) note(all((%[1]q):match(%[2]q))) note((%[1]q):gsub(%[2]q, "<%%0>")) return table.concat(out, " ")`, text, pattern.String())
		got, err := script.Lua(program, "event", nil, nil)
		l := lua.NewState()
		defer l.Close()
		if theirs := l.DoString(program); (theirs != nil) != (err != nil) {
			t.Fatalf("%s\n%v, the library says %v", program, err, theirs)
		} else if err == nil {
			if diff := cmp.Diff(l.Get(-1).String(), got); diff != "" {
				t.Fatalf("%s\n%s", program, diff)
			}
		}
	})
}

// Argo Events gives scripts all of Lua's libraries (pkg/sensors/dependencies/filter.go, lua.NewState): of os what tells time is here, by the event's clock,
// and print prints nowhere.
func TestTimeInLua(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 5, 0, time.UTC)
	for program, want := range map[string]string{
		`print(event) print() return "went on"`:             `"went on"`,
		`return os.time()`:                                  fmt.Sprint(now.Unix()),
		`return os.date("%Y-%m-%d %H:%M")`:                  `"2026-03-01 12:30"`,
		`return os.date("!%H", 3600)`:                       `"01"`,
		`return os.time({year = 2026, month = 3, day = 1})`: fmt.Sprint(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Unix()),
		`return os.date("*t").year`:                         `2026`,
		`return os.difftime(10, 4)`:                         `6`,
		`return os.clock()`:                                 `0`,
		`return tostring(os.execute) .. tostring(os.getenv) .. tostring(os.exit) .. tostring(os.remove)`: `"nilnilnilnil"`,
	} {
		got, err := script.Interpreter{}.Lua(t.Context(), program, []byte(`{}`), now)
		if err != nil || string(got) != want {
			t.Errorf("%s gives %s %v, want %s", program, got, err, want)
		}
	}
	for _, program := range []string{`return os.date(("%c"):rep(5000))`, `return os.time({year = 2026})`, `return os.time(5)`} {
		if got, err := (script.Interpreter{}).Lua(t.Context(), program, []byte(`{}`), now); err == nil {
			t.Errorf("%s gives %s", program, got)
		}
	}
}
