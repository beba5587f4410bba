package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"
)

// A program that gets no processor is waited for longer than one that uses it, and not for ever.
func TestPatience(t *testing.T) {
	const limit = 100 * time.Millisecond
	for name, c := range map[string]struct {
		spin  bool
		least time.Duration
	}{
		"it computes": {true, limit},
		"it waits":    {false, 250 * time.Millisecond},
	} {
		began := time.Now()
		ctx, cancel := patience(t.Context(), limit)
		for c.spin && ctx.Err() == nil {
		}
		<-ctx.Done()
		if took := time.Since(began); took < c.least {
			t.Errorf("%s: it ended after %s", name, took)
		}
		if err := context.Cause(ctx); err == nil || !strings.Contains(err.Error(), "longer than 100ms") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}
