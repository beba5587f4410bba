package story

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// finalError ends a wait at once: more time does not mend it.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Final marks an error that more time does not mend, so that Within gives up at once.
func Final(err error) error { return final(err) }

func final(err error) error { return finalError{err} }

// between is the pause between two looks.
const between = 50 * time.Millisecond

// Within looks until what is claimed holds, or the time is up, and then says what was seen last.
func (w *World) Within(ctx context.Context, limit time.Duration, claim string, look func(context.Context) error) error {
	if w.o.Rough {
		limit *= 3
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(between)
	defer tick.Stop()
	var last error
	for {
		err := look(ctx)
		var end finalError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &end):
			return fmt.Errorf("%s: no: %w", claim, err)
		case ctx.Err() == nil || last == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %w", claim, limit, last)
		case <-tick.C:
		}
	}
}
