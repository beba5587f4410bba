package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

// result calls what the program exports and gives JSON.
const result = `(function (program, input) {
  const made = typeof program.default === "function" ? program.default(JSON.parse(input)) : program.default;
  return made instanceof Promise ? made.then((m) => JSON.stringify(m)) : JSON.stringify(made);
})`

// utc makes the local time of dates UTC: the machine's zone is not an input. What only a zone gives a meaning is refused.
const utc = `(function (Machine) {
  const p = Machine.prototype;
  for (const name of ["Date", "Day", "FullYear", "Hours", "Milliseconds", "Minutes", "Month", "Seconds"]) {
    p["get" + name] = p["getUTC" + name];
    if (p["setUTC" + name]) p["set" + name] = p["setUTC" + name];
  }
  p.getTimezoneOffset = () => 0;
  for (const name of ["toString", "toLocaleString"]) p[name] = p.toUTCString;
  for (const name of ["toDateString", "toLocaleDateString"]) p[name] = function () { return this.toISOString().slice(0, 10); };
  for (const name of ["toTimeString", "toLocaleTimeString"]) p[name] = function () { return this.toISOString().slice(11, 19); };
  const zoned = (text) => /T[0-9:.]+$/.test(text) ? text + "Z" : text;
  const parse = (text) => {
    text = zoned(String(text));
    if (/^[0-9+-]{4,7}(-[0-9]{2}){0,2}(T.*(Z|[+-][0-9]{2}:?[0-9]{2}))?$/.test(text) || /(GMT|UTC|Z)$/.test(text)) return Machine.parse(text);
    throw new RangeError("the date " + JSON.stringify(text) + " has no zone: write it as 2006-01-02T15:04:05Z");
  };
  const made = (args) => {
    if (args.length === 0) return new Machine();
    if (args.length > 1) return new Machine(Machine.UTC(...args));
    return new Machine(typeof args[0] === "string" ? parse(args[0]) : args[0]);
  };
  function Date(...args) { return new.target ? made(args) : made([]).toString(); }
  Date.prototype = p;
  p.constructor = Date;
  Date.now = Machine.now;
  Date.UTC = Machine.UTC;
  Date.parse = parse;
  globalThis.Date = Date;
})(Date)`

// run executes a bundle and gives the JSON of its default export.
func run(ctx context.Context, file, code, input string, now time.Time) (string, error) {
	program, err := compile(file, code)
	if err != nil {
		return "", err
	}
	vm := goja.New()
	vm.SetMaxCallStackSize(maxCalls)
	vm.SetTimeSource(func() time.Time { return now })
	random := rand.New(rand.NewChaCha8(sha256.Sum256([]byte(code + "\x00" + input))))
	vm.SetRandSource(random.Float64)
	stop := context.AfterFunc(ctx, func() { vm.Interrupt(context.Cause(ctx)) })
	defer stop()
	if _, err := vm.RunString(utc); err != nil {
		return "", thrown(file, err)
	}
	if _, err := vm.RunProgram(program); err != nil {
		return "", thrown(file, err)
	}
	exported := vm.Get(global)
	if o, ok := exported.(*goja.Object); !ok || o.Get("default") == nil {
		return "", &Error{File: file, Message: "the program has no default export: end it with export default"}
	}
	value, err := vm.RunString(result)
	if err != nil {
		return "", fmt.Errorf("prepare %s: %w", file, err)
	}
	call, ok := goja.AssertFunction(value)
	if !ok {
		return "", fmt.Errorf("prepare %s: what calls the program is not a function", file)
	}
	made, err := call(goja.Undefined(), exported, vm.ToValue(input))
	if err != nil {
		return "", thrown(file, err)
	}
	return text(file, made)
}

func compile(file, code string) (*goja.Program, error) {
	tree, err := goja.Parse("program.js", code, parser.WithSourceMapLoader(func(string) ([]byte, error) {
		return nil, errors.New("only the bundle's own source map is read")
	}))
	if err != nil {
		return nil, fmt.Errorf("parse the bundle of %s: %w", file, err)
	}
	program, err := goja.CompileAST(tree, true)
	if err != nil {
		return nil, fmt.Errorf("compile the bundle of %s: %w", file, err)
	}
	return program, nil
}

// text takes the JSON out of a value, or of a promise of it: nothing is left that could settle one later.
func text(file string, value goja.Value) (string, error) {
	if p, ok := value.Export().(*goja.Promise); ok {
		switch p.State() {
		case goja.PromiseStateRejected:
			return "", &Error{File: file, Message: p.Result().String()}
		case goja.PromiseStatePending:
			return "", &Error{File: file, Message: "the default export waits for something that never happens: there are no timers and no network"}
		case goja.PromiseStateFulfilled:
			value = p.Result()
		}
	}
	if goja.IsUndefined(value) {
		return "null", nil
	}
	s := value.String()
	if len(s) > MaxOutput {
		return "", &Error{File: file, Message: fmt.Sprintf("the manifest has %d bytes, more than %d: make it smaller", len(s), MaxOutput)}
	}
	return s, nil
}

// thrown maps what ended a program to the place in its source.
func thrown(file string, err error) error {
	var interrupted *goja.InterruptedError
	var overflow *goja.StackOverflowError
	var exception *goja.Exception
	switch {
	case errors.As(err, &interrupted):
		return place(file, fmt.Sprint(interrupted.Value()), interrupted.Stack())
	case errors.As(err, &overflow):
		return place(file, fmt.Sprintf("calls are nested deeper than %d: look for a function that calls itself for ever", maxCalls), overflow.Stack())
	case errors.As(err, &exception):
		return place(file, exception.Value().String(), exception.Stack())
	}
	return fmt.Errorf("run %s: %w", file, err)
}

// place is an error at the innermost frame of the program itself: what a builder complains of is wrong where it was called.
func place(file, message string, stack []goja.StackFrame) error {
	for _, frame := range stack {
		pos := frame.Position()
		if name, ok := strings.CutPrefix(pos.Filename, ofProgram+":"); ok {
			// Columns of source maps count from 0.
			return &Error{File: name, Line: pos.Line, Column: pos.Column + 1, Message: message}
		}
	}
	return &Error{File: file, Message: message}
}
