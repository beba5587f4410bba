// Package pipeline turns programs into manifests.
//
// A TypeScript or JavaScript program exports a Workflow, or a function that makes one from its input. It is bundled by
// esbuild and run by goja: no Node, no files, no network, no environment; the same program and input give the same bytes.
// A program in any other language prints its manifest; on a person's machine [Print] starts it.
package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits of one evaluation.
const (
	// MaxTime is how long a program may run, in processor time where the processor is scarce.
	MaxTime = 5 * time.Second
	// MaxOutput bounds the manifest, in bytes.
	MaxOutput = 8 << 20
	// maxCode bounds each file that a program consists of, in bytes.
	maxCode = 4 << 20
	// maxCalls bounds the depth of calls.
	maxCalls = 2000
)

// Separator is the line between several objects.
const Separator = "---\n"

// Source is a program and all that it can see.
type Source struct {
	// File is the program's path in FS, with slashes. Messages name it.
	File string
	// Code is its text. The file of FS is not read.
	Code []byte
	// FS has the files that it may import by relative paths; nil if there are none.
	FS fs.FS
	// Input is what a default export that is a function is called with. "time" (RFC 3339) is the program's clock, which stands
	// still; without it, it is 1970.
	Input map[string]any
}

// Error is a mistake in a program, with its place.
type Error struct {
	File string
	// Line and Column count from 1; 0 if the place is not known.
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Evaluate runs a program and gives its Workflow as canonical JSON: keys in the order of their bytes, no white space, no HTML
// escaping, a line feed at the end. A WorkflowTemplate and a CronWorkflow may stand in its place; a list of objects is parted by
// [Separator]. What is wrong with the program is an *Error, or several joined.
//
// It runs in this process, without a limit of memory, and a single call of a built-in function is not interrupted: programs of
// strangers need a process of their own around it, see [Confined].
func Evaluate(ctx context.Context, src Source) ([]byte, error) {
	objects, err := evaluate(ctx, src)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			b.WriteString(Separator)
		}
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(bare(o)); err != nil {
			return nil, fmt.Errorf("write manifest of %s: %w", src.File, err)
		}
	}
	return b.Bytes(), nil
}

// Arrange evaluates a program as [Evaluate] does, and gives the same with a line for each value.
func Arrange(ctx context.Context, src Source) (Made, error) {
	objects, err := evaluate(ctx, src)
	if err != nil {
		return Made{}, err
	}
	return arrange(objects)
}

func evaluate(ctx context.Context, src Source) ([]any, error) {
	src.File = path.Clean(src.File)
	now, err := clock(src.Input)
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(src.Input)
	if err != nil {
		return nil, fmt.Errorf("encode the program's input: %w", err)
	}
	if src.Input == nil {
		input = []byte("{}")
	}
	code, err := bundle(src)
	if err != nil {
		return nil, err
	}
	ctx, cancel := patience(ctx, MaxTime)
	defer cancel()
	out, err := run(ctx, src.File, code, string(input), now)
	if err != nil {
		return nil, err
	}
	return objectsOf(src.File, out)
}

// clock reads the time that a program sees.
func clock(input map[string]any) (time.Time, error) {
	text, ok := input["time"].(string)
	if !ok {
		if input["time"] != nil {
			return time.Time{}, errors.New("the input's time is not a string: write it as 2006-01-02T15:04:05Z")
		}
		return time.Unix(0, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("the input's time %q is not of the form 2006-01-02T15:04:05Z", text)
	}
	return t.UTC(), nil
}

// kinds are what a program may make.
func kinds() []string {
	return []string{"Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow"}
}

// objectsOf checks that JSON is what a program may make, or a list of it.
func objectsOf(file, text string) ([]any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, &Error{File: file, Message: "what the program makes cannot be read as JSON: " + err.Error()}
	}
	objects, ok := value.([]any)
	if !ok {
		objects = []any{value}
	}
	if len(objects) == 0 {
		return nil, &Error{File: file, Message: "the default export is an empty list: export a Workflow, or a function that returns one"}
	}
	for _, o := range objects {
		object, ok := o.(map[string]any)
		if !ok {
			return nil, &Error{File: file, Message: "the default export is not an object: export a Workflow, or a function that returns one"}
		}
		if kind, _ := object["kind"].(string); !slices.Contains(kinds(), kind) {
			return nil, &Error{File: file, Message: fmt.Sprintf("the default export has the kind %v, not Workflow: make it with workflow(…) of the module \"tiphys\"", object["kind"])}
		}
	}
	return objects, nil
}
