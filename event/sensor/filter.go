package sensor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

// maxExpression is the most characters of an expression.
const maxExpression = 4096

// Verdict is what the filters of one dependency say of one event.
type Verdict struct {
	Pass bool
	// Err is an evaluation that failed. With Pass it is one of several alternatives that failed.
	Err error
	// Reason says in words which filter decided, with the values compared.
	Reason string
}

// Check evaluates the filters of a dependency (argo-events 1.9): exprs, data, context, time, script, combined by
// filtersLogicalOperator. Under "or" an error counts as false, as documented; strict follows Argo's service,
// where any error drops the event. A nil event fails every filter that looks at it.
func Check(filters *manifest.EventFilters, operator string, e *event.Event, strict bool) Verdict {
	return check(filters, operator, &Document{event: e, ctx: context.Background(), scripts: script.Interpreter{}, budget: budget.New()}, patternsOf(filters), strict)
}

func check(filters *manifest.EventFilters, operator string, doc *Document, known patterns, strict bool) Verdict {
	if filters == nil {
		return Verdict{Pass: true, Reason: "no filters"}
	}
	e := doc.event
	parts := []part{
		{"expr", filters.Exprs != nil, func() Verdict { return exprFilter(filters, doc) }},
		{"data", filters.Data != nil, func() Verdict { return dataFilter(filters, doc, known) }},
		{"context", filters.Context != nil, func() Verdict { return contextFilter(filters.Context, e) }},
		{"time", filters.Time != nil, func() Verdict { return timeFilter(filters.Time, e) }},
		{"script", filters.Script != "", func() Verdict { return scriptFilter(filters.Script, doc) }},
	}
	if operator == "or" {
		return anyPart(parts, strict)
	}
	result := Verdict{Pass: true, Reason: "all filters pass"}
	for _, p := range parts {
		if !p.present {
			continue
		}
		v := p.check()
		if v.Err != nil {
			return Verdict{Err: v.Err, Reason: v.Err.Error()}
		}
		if !v.Pass && result.Pass {
			result = v // keep looking: a later error is worth more than a first no
		}
	}
	return result
}

type part struct {
	name    string
	present bool
	check   func() Verdict
}

func anyPart(parts []part, strict bool) Verdict {
	var out Verdict
	var failed []error
	var reasons []string
	present := 0
	for _, p := range parts {
		if !p.present {
			continue
		}
		present++
		v := p.check()
		if v.Err != nil {
			failed = append(failed, v.Err)
			reasons = append(reasons, v.Err.Error())
			continue
		}
		if v.Pass && !out.Pass {
			out.Pass, out.Reason = true, p.name+" filter passes"
		}
		reasons = append(reasons, v.Reason)
	}
	if present == 0 {
		return Verdict{Pass: true, Reason: "no filters"}
	}
	out.Err = errors.Join(failed...)
	if strict && out.Err != nil {
		out.Pass = false
	}
	if !out.Pass {
		out.Reason = "none of the filters passes: " + strings.Join(reasons, "; ")
	}
	return out
}

func failed(format string, args ...any) Verdict {
	err := fmt.Errorf(format, args...)
	return Verdict{Err: err, Reason: err.Error()}
}

// combine evaluates the entries of one list of filters.
func combine(kind, operator string, n int, each func(i int) Verdict) Verdict {
	var errs, reasons []string
	for i := range n {
		v := each(i)
		switch {
		case operator != "or" && v.Err != nil:
			return failed("%s filter error (%w)", kind, v.Err)
		case operator != "or" && !v.Pass:
			return v
		case operator == "or" && v.Err != nil:
			errs = append(errs, v.Err.Error())
		case operator == "or" && v.Pass:
			return v
		}
		reasons = append(reasons, v.Reason)
	}
	if operator != "or" || n == 0 {
		return Verdict{Pass: true, Reason: kind + " filters pass"}
	}
	if len(errs) > 0 {
		return failed("%s filter errors [%s]", kind, strings.Join(errs, ","))
	}
	return Verdict{Reason: strings.Join(reasons, " and ")}
}

// Document is an event as sensors look at it. What is found out of its data is kept, so that ten sensors that ask the same
// question of one event cost hardly more than one. It belongs to one goroutine.
type Document struct {
	event          *event.Event
	checked, valid bool
	values         map[string]gjson.Result
	// scripts are who runs the scripts of the filter that is being looked at, within ctx, and unsettled is why one could not be run.
	scripts   Scripts
	ctx       context.Context //nolint:containedctx // it is that of the decision, which the document is part of
	unsettled error
	// budget is for all that the sensor which looks at the document makes of it.
	budget *budget.Budget
}

// Read makes a document of an event. The event must not be changed while the document is used.
func Read(e event.Event) *Document { return &Document{event: &e} }

// ReadRecorded makes a document of an event of the ledger, whose data is valid JSON: it was looked through before it was recorded.
func ReadRecorded(e event.Event) *Document { return &Document{event: &e, checked: true, valid: true} }

// get is the value at a path of data that is valid.
func (d *Document) get(path string) gjson.Result {
	r, ok := d.values[path]
	if !ok && checkPath(path) == nil && d.budget.Step(int64(len(d.event.Data))) == nil { // by any other path there is nothing
		r = gjson.GetBytes(d.event.Data, path)
		if d.values == nil {
			d.values = map[string]gjson.Result{}
		}
		d.values[path] = r
	}
	return r
}

// absent says that there is nothing at a path.
func (d *Document) absent(path string) Verdict {
	if err := d.budget.Spent(); err != nil {
		return failed("path '%.200s': %w", path, err)
	}
	return failed("path '%.200s' does not exist", path)
}

// data gives the event's data for a filter; done says that the verdict stands already.
func (d *Document) data(kind string) (data []byte, v Verdict, done bool) {
	if d.event == nil {
		return nil, failed("%s filter error (nil event)", kind), true
	}
	if len(d.event.Data) == 0 {
		return nil, Verdict{Pass: true, Reason: "event has no data"}, true
	}
	if !d.checked {
		d.checked, d.valid = true, json.Valid(d.event.Data) // bounded in depth, unlike gjson's
	}
	if !d.valid {
		return nil, failed("%s filter error (event data not valid JSON)", kind), true
	}
	return d.event.Data, Verdict{}, false
}

// valueCost is how many times its JSON a value takes in memory, for texts and small numbers.
const valueCost = 8

// valueOf is a value as an expression sees it. gjson itself would look at what is deep once for each level.
func valueOf(r gjson.Result) (any, error) {
	if !r.IsObject() && !r.IsArray() {
		return r.Value(), nil
	}
	var value any
	err := json.Unmarshal([]byte(r.Raw), &value)
	return value, err
}

func exprFilter(f *manifest.EventFilters, d *Document) Verdict {
	if len(f.Exprs) == 0 {
		return Verdict{Pass: true}
	}
	if _, v, done := d.data("expr"); done {
		return v
	}
	return combine("expr", f.ExprLogicalOperator, len(f.Exprs), func(i int) Verdict { return oneExpr(f.Exprs[i], d) })
}

func oneExpr(f manifest.ExprFilter, d *Document) (v Verdict) {
	defer func() {
		// The expression library panics on some operand types.
		if r := recover(); r != nil {
			v = failed("expression %q: %v", f.Expr, r)
		}
	}()
	if len(f.Fields) == 0 {
		return Verdict{Pass: true, Reason: fmt.Sprintf("expression %q has no fields", f.Expr)}
	}
	values := map[string]any{}
	var shown []string
	for _, field := range f.Fields {
		r := d.get(field.Path)
		if !r.Exists() {
			return d.absent(field.Path)
		}
		if err := d.budget.Take(valueCost * int64(len(r.Raw))); err != nil {
			return failed("path '%.200s': %w", field.Path, err)
		}
		value, err := valueOf(r)
		if err != nil {
			return failed("path '%.200s': %w", field.Path, err)
		}
		values[field.Name] = value
		shown = append(shown, field.Name+" = "+short(r))
	}
	if len(f.Expr) > maxExpression {
		return failed("expression is longer than %d characters", maxExpression)
	}
	if err := d.budget.Step(int64(len(f.Expr))); err != nil {
		return failed("expression %q: %w", f.Expr, err)
	}
	expression, err := budget.ParseCondition(f.Expr, false)
	if err != nil {
		return failed("expression %q: %w", f.Expr, err)
	}
	result, err := expression.Evaluate(d.budget, values)
	if err != nil {
		return failed("expression %q: %w", f.Expr, err)
	}
	ok, isBool := result.(bool)
	if !isBool {
		return failed("expression %q gives %.80s, not true or false", f.Expr, fmt.Sprint(result))
	}
	return Verdict{Pass: ok, Reason: fmt.Sprintf("expr filter `%s` is %t with %s", f.Expr, ok, strings.Join(shown, ", "))}
}

// short shows a value in a reason.
func short(r gjson.Result) string {
	s := strings.Join(strings.Fields(r.Raw), " ")
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

func dataFilter(f *manifest.EventFilters, d *Document, known patterns) Verdict {
	if len(f.Data) == 0 {
		return Verdict{Pass: true}
	}
	if _, v, done := d.data("data"); done {
		return v
	}
	return combine("data", f.DataLogicalOperator, len(f.Data), func(i int) Verdict { return oneData(f.Data[i], d, known) })
}

func oneData(f manifest.DataFilter, d *Document, known patterns) Verdict {
	r := d.get(f.Path)
	if f.Path == "" || !r.Exists() {
		return d.absent(f.Path)
	}
	if len(f.Value) == 0 {
		return failed("path '%.200s': no values specified", f.Path)
	}
	if f.Template != "" {
		text, err := render(d.budget, f.Template, r.String(), d.event.Time)
		if err != nil {
			return failed("path '%.200s': %w", f.Path, err)
		}
		quoted, err := json.Marshal(text)
		if err != nil {
			return failed("path '%.200s': %w", f.Path, err)
		}
		r = gjson.ParseBytes(quoted)
	}
	pass := false
	for _, want := range f.Value {
		// The values are alternatives, whatever the comparator.
		ok, err := compareValue(d.budget, f, r, want, known)
		if err != nil {
			return failed("path '%.200s': %w", f.Path, err)
		}
		if ok {
			pass = true
			break
		}
	}
	return Verdict{Pass: pass, Reason: dataReason(f, r, pass)}
}

func dataReason(f manifest.DataFilter, r gjson.Result, pass bool) string {
	verb := f.Comparator
	switch {
	case f.Type == "string" && (verb == "" || verb == "="):
		verb = "matches"
	case f.Type == "string" && verb == "!=":
		verb = "does not match"
	case f.Type == "string":
		verb += " (which no string satisfies)"
	case verb == "":
		verb = "="
	}
	outcome := map[bool]string{true: "passes", false: "wants a value that " + verb + " "}[pass]
	if pass {
		return fmt.Sprintf("data filter %s %s: it is %s", f.Path, outcome, short(r))
	}
	return fmt.Sprintf("data filter %s %s%s; it is %s", f.Path, outcome, "`"+strings.Join(f.Value, "` or `")+"`", short(r))
}

func compareValue(b *budget.Budget, f manifest.DataFilter, r gjson.Result, want string, known patterns) (bool, error) {
	switch f.Type {
	case "bool":
		b, err := strconv.ParseBool(want)
		if err != nil {
			return false, fmt.Errorf("value %q is not true or false", want)
		}
		switch f.Comparator {
		case "", "=":
			return r.Bool() == b, nil
		case "!=":
			return r.Bool() != b, nil
		}
		return false, nil
	case "number":
		n, err := strconv.ParseFloat(want, 64)
		if err != nil {
			return false, fmt.Errorf("value %q is not a number", want)
		}
		return compareNumbers(f.Comparator, r.Float(), n), nil
	case "string":
		pattern, err := known.compile(b, want)
		if err != nil {
			return false, err
		}
		switch f.Comparator {
		case "", "=", "!=":
			found, err := pattern.Match(b, r.String())
			return found == (f.Comparator != "!="), err
		}
		return false, nil
	}
	return false, fmt.Errorf("unsupported type %q: use bool, number or string", f.Type)
}

// patterns are the regular expressions of a sensor's data filters, compiled once; those that do not compile are left out.
type patterns map[string]*budget.Pattern

func patternsOf(filters ...*manifest.EventFilters) patterns {
	known := patterns{}
	for _, f := range filters {
		if f == nil {
			continue
		}
		for _, data := range f.Data {
			if data.Type != "string" {
				continue
			}
			for _, want := range data.Value {
				if p, err := budget.ParsePattern(want); err == nil {
					known[want] = p
				}
			}
		}
	}
	return known
}

func (known patterns) compile(b *budget.Budget, want string) (*budget.Pattern, error) {
	if p := known[want]; p != nil {
		return p, nil
	}
	p, err := b.ParsePattern(want)
	if err != nil {
		return nil, fmt.Errorf("compile pattern: %w", err)
	}
	return p, nil
}

func compareNumbers(comparator string, a, b float64) bool {
	switch comparator {
	case "", "=":
		return a == b
	case "!=":
		return a != b
	case ">":
		return a > b
	case ">=":
		return a >= b
	case "<":
		return a < b
	case "<=":
		return a <= b
	}
	return false
}

// contentType is that of all data here.
const contentType = "application/json"

func contextFilter(f *manifest.ContextFilter, e *event.Event) Verdict {
	if f == nil {
		return Verdict{Pass: true}
	}
	if e == nil {
		return Verdict{Reason: "context filter: there is no event"}
	}
	for _, c := range []struct{ name, want, got string }{
		{"type", f.Type, e.Type}, {"subject", f.Subject, e.Subject}, {"source", f.Source, e.Source},
		{"datacontenttype", f.DataContentType, contentType},
	} {
		if c.want != "" && c.want != c.got {
			return Verdict{Reason: fmt.Sprintf("context filter wants %s %q; it is %q", c.name, c.want, c.got)}
		}
	}
	return Verdict{Pass: true, Reason: "context filter passes"}
}

// timeFilter compares the event's time of day in [start, stop), over midnight where stop is earlier.
func timeFilter(f *manifest.TimeFilter, e *event.Event) Verdict {
	if f == nil {
		return Verdict{Pass: true}
	}
	if e == nil {
		return failed("time filter error (nil event)")
	}
	zone, err := time.LoadLocation(f.Timezone)
	if err != nil {
		return failed("time filter error (timezone %q: %w)", f.Timezone, err)
	}
	var bounds [2]time.Duration
	for i, text := range []string{f.Start, f.Stop} {
		t, err := time.Parse(time.TimeOnly, text)
		if err != nil {
			return failed("time filter error (%q is not HH:MM:SS)", text)
		}
		bounds[i] = sinceMidnight(t)
	}
	local := e.Time.In(zone)
	at := sinceMidnight(local)
	pass := at >= bounds[0] && at < bounds[1]
	if bounds[1] < bounds[0] {
		pass = at >= bounds[0] || at < bounds[1]
	}
	return Verdict{Pass: pass, Reason: fmt.Sprintf("time filter wants %s to %s (%s); it was %s", f.Start, f.Stop, zone,
		local.Format(time.TimeOnly))}
}

func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute +
		time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
}

func scriptFilter(program string, d *Document) Verdict {
	data, v, done := d.data("script")
	if done {
		return v
	}
	result, err := d.scripts.Lua(d.ctx, program, data, d.event.Time)
	if err != nil {
		if Unsettled(d.ctx, err) {
			d.unsettled = err
		}
		return failed("script filter error (%w)", err)
	}
	text := string(result)
	if text == "null" {
		text = "nil" // as Lua writes it
	}
	return Verdict{Pass: text == "true", Reason: "script filter returns " + short(gjson.Result{Raw: text})}
}

// sortedNames keeps reasons stable.
func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
