package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"github.com/tiphys/tiphys/failure"
)

const (
	// maxJQSteps is what one program may take. Steps are counted, and not time, so that a replay decides the same.
	maxJQSteps = 2_000_000
	// maxJQSource bounds a program, in bytes, and maxJQDepth how deep its syntax tree is: the compiler calls itself for each level.
	maxJQSource = 32 << 10
	maxJQDepth  = 1000
	// maxJQResult bounds what a program gives, in bytes of JSON.
	maxJQResult = 1 << 20
)

// jqNow is the variable behind the function now. jqPrelude takes away what a program could learn of the machine and its time.
const (
	jqNow     = "$__now"
	jqPrelude = "def now: $__now; def input: empty; def inputs: empty; def debug: .; "
)

// JQError is a mistake in the text of a jq program.
type JQError struct {
	// Line and Column count from 1, the column in bytes; 0 if it is not known where the mistake is.
	Line, Column int
	Problem      string
}

// Error implements error.
func (e *JQError) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// FailureKind says that the program is wrong and stays so.
func (e *JQError) FailureKind() failure.Kind { return failure.Invalid }

// JQ is a jq program that has been read. It can run any number of times, and is not changed by that.
type JQ struct{ code *gojq.Code }

// ReadJQ reads a jq program. Its size and nesting are bounded, so that reading it takes little of anything. The error is a *JQError.
func ReadJQ(program string) (*JQ, error) {
	if len(program) > maxJQSource {
		return nil, &JQError{Problem: fmt.Sprintf("the program has %d bytes and may have at most %d", len(program), maxJQSource)}
	}
	query, err := gojq.Parse(jqPrelude + program)
	if err != nil {
		return nil, misread(program, err)
	}
	if deeper(query, maxJQDepth) {
		return nil, &JQError{Problem: "the program is nested too deeply"}
	}
	code, err := gojq.Compile(query, gojq.WithEnvironLoader(func() []string { return nil }), gojq.WithVariables([]string{jqNow}))
	if err != nil {
		return nil, undefined(program, err)
	}
	return &JQ{code}, nil
}

// misread says where a program cannot be parsed.
func misread(program string, err error) error {
	var p *gojq.ParseError
	if !errors.As(err, &p) {
		return &JQError{Problem: OneLine(err)}
	}
	at := min(max(p.Offset-len(p.Token)-len(jqPrelude), 0), len(program))
	return placed(program, at, OneLine(err))
}

func placed(program string, at int, problem string) *JQError {
	before := program[:at]
	return &JQError{Line: strings.Count(before, "\n") + 1, Column: at - strings.LastIndexByte(before, '\n'), Problem: problem}
}

// undefined says where the name stands that a program uses and nobody defines. The compiler does not say it: the first such name counts.
func undefined(program string, err error) error {
	problem := OneLine(err)
	_, name, found := strings.Cut(problem, "not defined: ")
	name, _, _ = strings.Cut(name, "/")
	if at := wordAt(program, name); found && at >= 0 {
		return placed(program, at, problem)
	}
	return &JQError{Problem: problem}
}

// wordAt finds a name that is no part of a longer one, nor a field's; -1 if there is none.
func wordAt(program, name string) int {
	part := func(b byte) bool {
		return b == '_' || b == ':' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
	}
	for from := 0; name != "" && from < len(program); {
		n := strings.Index(program[from:], name)
		if n < 0 {
			return -1
		}
		at, end := from+n, from+n+len(name)
		if (at == 0 || !part(program[at-1]) && program[at-1] != '.') && (end == len(program) || !part(program[end])) {
			return at
		}
		from = end
	}
	return -1
}

// deeper tells whether a syntax tree has more levels than that. It keeps what it has yet to look at in a list: a function that calls
// itself is what must be kept from such a tree.
func deeper(query *gojq.Query, most int) bool {
	type branch struct {
		value reflect.Value
		depth int
	}
	suffix := reflect.TypeFor[*gojq.Suffix]()
	left := []branch{{reflect.ValueOf(query), 0}}
	for len(left) > 0 {
		b := left[len(left)-1]
		left = left[:len(left)-1]
		if b.depth > most {
			return true
		}
		switch v := b.value; v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				left = append(left, branch{v.Elem(), b.depth + 1})
			}
		case reflect.Slice:
			for i := range v.Len() {
				depth := b.depth
				if v.Type().Elem() == suffix {
					depth += i // each is a level around those before it
				}
				left = append(left, branch{v.Index(i), depth})
			}
		case reflect.Struct:
			for i := range v.NumField() {
				left = append(left, branch{v.Field(i), b.depth})
			}
		}
	}
	return false
}

// Run runs the program on data, which is JSON, and gives the one object that comes of it. What a step makes is not counted, so a program
// of somebody else belongs into a process that is bounded. now is the time that it sees.
func (j *JQ) Run(data []byte, now time.Time) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("jq failed: %v", r)
		}
	}()
	var input any
	if err := json.Unmarshal(data, &input); err != nil {
		return nil, fmt.Errorf("event data is not json: %w", err)
	}
	iterator := j.code.RunWithContext(count(maxJQSteps), input, int(now.Unix()))
	first, ok := iterator.Next()
	if !ok {
		return nil, errors.New("it gives no result")
	}
	if err, failed := first.(error); failed {
		return nil, err
	}
	if _, isMap := first.(map[string]any); !isMap {
		return nil, fmt.Errorf("it must give an object, got %s", gojq.TypeOf(first))
	}
	if second, more := iterator.Next(); more {
		if err, failed := second.(error); failed {
			return nil, err
		}
		return nil, errors.New("it gives more than one result")
	}
	var buffer resultBuffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(first); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(buffer.Bytes()), nil
}

// resultBuffer refuses to grow beyond maxJQResult.
type resultBuffer struct{ bytes.Buffer }

func (b *resultBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxJQResult {
		return 0, fmt.Errorf("result is larger than %d bytes", maxJQResult)
	}
	return b.Buffer.Write(p)
}

// Interpreter runs programs in this process, whatever they make there, as a sensor.Scripts does. It is for the process that is bounded from
// outside, and for one's own programs.
type Interpreter struct{}

// JQ reads and runs a jq program.
func (Interpreter) JQ(_ context.Context, program string, data []byte, now time.Time) ([]byte, error) {
	read, err := ReadJQ(program)
	if err != nil {
		return nil, err
	}
	return read.Run(data, now)
}

// Lua runs a Lua program with data, which is JSON, as the global variable "event", and gives what it returns as JSON. Its clock shows now.
func (Interpreter) Lua(_ context.Context, program string, data []byte, now time.Time) ([]byte, error) {
	return runLua(program, "event", data, &now)
}

// Health runs a Lua program with an object, which is JSON, as the global variable "obj", as a health.Scripts does.
func (Interpreter) Health(_ context.Context, program string, object []byte) ([]byte, error) {
	return runLua(program, "obj", object, nil)
}

func runLua(program, global string, data []byte, now *time.Time) ([]byte, error) {
	var input any
	if err := json.Unmarshal(data, &input); err != nil {
		return nil, fmt.Errorf("%s data is not json: %w", global, err)
	}
	result, err := Lua(program, global, input, now)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}
