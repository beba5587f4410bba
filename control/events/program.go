package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/pipeline"
)

// fromGit reads a trigger's object from a repository; of a program there, what it makes of the event.
func (c *Controller) fromGit(ctx context.Context, f sensor.Firing, g *manifest.TriggerGit) ([]byte, error) {
	if !pipeline.IsProgram(g.FilePath) {
		return c.o.Repositories.File(ctx, g.URL, revision(g), g.FilePath)
	}
	if c.o.Programs == nil {
		return nil, fmt.Errorf("%s is a program, and programs are not evaluated here: %w", g.FilePath, errFinal)
	}
	input, err := c.programInput(ctx, f)
	if err != nil {
		return nil, err
	}
	made, err := c.o.Programs.Evaluate(ctx, g.URL, revision(g), g.FilePath, input)
	var mistake *pipeline.Error
	if errors.As(err, &mistake) {
		return nil, final{err} // the same program makes the same mistake again
	}
	return made, err
}

// final is an error that is [errFinal] and need not say so.
type final struct{ error }

func (final) Is(target error) bool { return target == errFinal }

func (f final) Unwrap() error { return f.error }

// programInput is what a program may know: the latest of the firing's events, without the sender's headers and body, which may have
// secrets. Time is the event's, so that a firing that is tried again makes the same.
func (c *Controller) programInput(ctx context.Context, f sensor.Firing) (map[string]any, error) {
	var latest event.Event
	for _, seq := range f.Events {
		e, err := c.bySeq(ctx, seq)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read event %d: %w", seq, err)
		}
		if seq > latest.Seq {
			latest, latest.Seq = e, seq
		}
	}
	input := map[string]any{
		"time":  latest.Time.UTC().Format(time.RFC3339Nano),
		"event": map[string]any{"id": latest.ID, "source": latest.Source, "name": latest.Subject},
	}
	if latest.Git != nil {
		input["git"] = latest.Git
	}
	return input, nil
}
