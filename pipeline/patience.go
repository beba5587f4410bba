package pipeline

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// patienceFactor bounds the wait for a program that gets no processor: so many times MaxTime.
const patienceFactor = 2.5

// patience gives a context that ends when a program has run for limit: by the clock, and by this process's own processor time, so
// that a busy machine refuses no program that a quiet one takes. By the clock alone it ends at patienceFactor times limit.
func patience(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	began, used := time.Now(), processorTime()
	go func() {
		tick := time.NewTicker(limit / 50)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			took := time.Since(began)
			if took >= limit && processorTime()-used >= limit || took.Seconds() >= patienceFactor*limit.Seconds() {
				cancel(tooLong(limit))
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

func tooLong(limit time.Duration) error {
	return fmt.Errorf("the program ran longer than %s: look for a loop that does not end", limit)
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
