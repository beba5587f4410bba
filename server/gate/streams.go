package gate

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// stream is a request that would go on for ever, and who asked for it.
type stream struct {
	req   *http.Request
	route Route
	id    Identity
	end   context.CancelCauseFunc
}

// watched are the streams that are open.
type watched struct {
	mu   sync.Mutex
	open map[*stream]struct{}
}

// add watches a stream until what it returns is called.
func (w *watched) add(s *stream) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[*stream]struct{}{}
	}
	w.open[s] = struct{}{}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.open, s)
	}
}

func (w *watched) all() []*stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]*stream, 0, len(w.open))
	for s := range w.open {
		out = append(out, s)
	}
	return out
}

// errSomebodyElse ends a stream whose request would now be somebody else's.
var errSomebodyElse = failure.New(failure.Unauthenticated, "who asked for this is not who they were: ask again")

// askAgain is how long a stream may go on after its caller lost the right to it.
const askAgain = 5 * time.Second

// Run asks again and again who looks on, and records how many logins failed, until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			g.Recheck(ctx)
			if g.people == nil {
				continue
			}
			if err := g.people.RecordFailures(ctx); err != nil {
				g.log.Warn("failed logins are not on record yet", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Recheck ends the streams of those who would not be let in any more: whose session is over, whose step has ended, or who may do
// something else by now. What is told is chosen by who asked, so another identity must ask anew.
func (g *Gate) Recheck(ctx context.Context) {
	for _, s := range g.watched.all() {
		id, err := g.ask(s.req.WithContext(ctx), s.route)
		if err == nil && !id.Same(s.id) {
			err = errSomebodyElse
		}
		if err != nil {
			s.end(err)
		}
	}
}
