package sensor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// maxJQSteps is what one jq program may take. Steps are counted, and not time, so that a replay decides the same.
const maxJQSteps = 2_000_000

// counted is a context that ends after a number of looks at it; the interpreter looks once per instruction.
type counted struct {
	context.Context
	left int
	over chan struct{}
}

func count(steps int) *counted {
	return &counted{Context: context.Background(), left: steps, over: make(chan struct{})}
}

func (c *counted) Done() <-chan struct{} {
	if c.left--; c.left == 0 {
		close(c.over)
	}
	return c.over
}

func (c *counted) Err() error {
	if c.left <= 0 {
		return fmt.Errorf("took more steps than allowed")
	}
	return nil
}

// Transform applies a dependency's transform to an event and gives the event with its new data. The result must
// be an object (argo-events 1.9). The git key in Data may change with it; Git stays.
func Transform(t *manifest.EventTransform, e event.Event) (event.Event, error) {
	switch {
	case t == nil || t.JQ == "" && t.Script == "":
		return e, nil
	case t.JQ != "":
		data, err := runJQ(t.JQ, e.Data, e.Time)
		if err != nil {
			return e, fmt.Errorf("transform by jq: %w", err)
		}
		e.Data = data
	default:
		result, err := runLua(t.Script, e.Data)
		if err != nil {
			return e, fmt.Errorf("transform by script: %w", err)
		}
		if _, ok := result.(map[string]any); !ok {
			return e, fmt.Errorf("transform by script: it must return an object, got %T", result)
		}
		if e.Data, err = json.Marshal(result); err != nil {
			return e, fmt.Errorf("transform by script: %w", err)
		}
	}
	return e, nil
}

func runJQ(program string, data []byte, now time.Time) (out []byte, err error) {
	defer func() {
		// What the interpreter does not foresee must not end the server.
		if r := recover(); r != nil {
			err = fmt.Errorf("jq failed: %v", r)
		}
	}()
	// The event's time is "now": the same event must always give the same result.
	query, err := gojq.Parse(fmt.Sprintf("def now: %d; def input: empty; def inputs: empty; def debug: .; %s", now.Unix(), program))
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	code, err := gojq.Compile(query, gojq.WithEnvironLoader(func() []string { return nil }))
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	var input any
	if err := json.Unmarshal(data, &input); err != nil {
		return nil, fmt.Errorf("event data is not json: %w", err)
	}
	steps := count(maxJQSteps)
	iterator := code.RunWithContext(steps, input)
	first, ok := iterator.Next()
	if !ok {
		return nil, fmt.Errorf("it gives no result")
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
		return nil, fmt.Errorf("it gives more than one result")
	}
	var buffer limitedBuffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(first); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(buffer.Bytes()), nil
}

// oneLine keeps an interpreter's message readable in a reason.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
