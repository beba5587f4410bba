package sensor

import (
	"context"
	"fmt"
	"time"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

// Scripts runs the programs of transforms and filters. What such a program makes cannot be counted to the last byte, so a server runs them
// in processes that are bounded (script/confined); [script.Interpreter] runs them in this process. The same program, data and time give
// the same result in each.
//
// An error is the program's own, and the event's: it is recorded, and stays. Only an error of the kind failure.RetryAfter, or one after
// ctx has ended, says nothing about the program, and the event must be decided on again later.
type Scripts interface {
	// JQ runs a jq program on an event's data, which is JSON, and gives the one object that comes of it, as JSON. now is the time that the
	// program sees.
	JQ(ctx context.Context, program string, data []byte, now time.Time) ([]byte, error)
	// Lua runs a Lua program with an event's data, which is JSON, as the global variable "event", and gives what it returns as JSON. Its clock shows now.
	Lua(ctx context.Context, program string, data []byte, now time.Time) ([]byte, error)
}

var _ Scripts = script.Interpreter{}

// Unsettled tells whether an error says nothing about the sensor and the event: it must be decided again.
func Unsettled(ctx context.Context, err error) bool {
	return err != nil && (failure.KindOf(err) == failure.RetryAfter || ctx.Err() != nil)
}

// Transform applies a dependency's transform to an event and gives the event with its new data. The result must
// be an object (argo-events 1.9). The git key in Data may change with it; Git stays. Errors are those of [Scripts].
func Transform(ctx context.Context, scripts Scripts, t *manifest.EventTransform, e event.Event) (event.Event, error) {
	switch {
	case t == nil || t.JQ == "" && t.Script == "":
		return e, nil
	case t.JQ != "":
		// The event's time is "now": the same event must always give the same result.
		data, err := scripts.JQ(ctx, t.JQ, e.Data, e.Time)
		if err != nil {
			return e, fmt.Errorf("transform by jq: %w", err)
		}
		e.Data = data
	default:
		data, err := scripts.Lua(ctx, t.Script, e.Data, e.Time)
		if err != nil {
			return e, fmt.Errorf("transform by script: %w", err)
		}
		if !gjson.ParseBytes(data).IsObject() {
			return e, fmt.Errorf("transform by script: it must return an object, got %.40s", data)
		}
		e.Data = data
	}
	return e, nil
}
