package events

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/manifest"
)

// SourceState is where one event of an EventSource stands.
type SourceState struct {
	// Source is namespace/name of the EventSource.
	Source string `json:"source"`
	Event  string `json:"event"`
	Type   string `json:"type"`
	// Paths are where it is called over HTTP.
	Paths []string `json:"paths,omitempty"`
	// Unauthenticated says that it takes deliveries from anybody: what they start may run pods and nothing else.
	Unauthenticated bool `json:"unauthenticated,omitempty"`
	// State is running; failing, which is tried again; held, where the definition is bad and what ran before goes on; or refused,
	// where nothing runs.
	State string `json:"state"`
	// Problem says what is wrong, since when; empty where nothing is.
	Problem string     `json:"problem,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	// Starts counts how often it was started since the server was.
	Starts int `json:"starts"`
}

// trouble is what is wrong with a source now.
type trouble struct {
	problem string
	since   time.Time
}

// running is one event of an EventSource.
type running struct {
	source.Event
	digest  [sha256.Size]byte
	source  source.Source
	starts  int
	trouble atomic.Pointer[trouble]
	// refused is what is wrong with the definition: with a source it goes on as it was.
	refused string
	stop    context.CancelFunc
	ended   chan struct{}
}

// sources are the events of all EventSources at work. A change of one definition starts anew only the events that it changes. Its
// methods are safe for concurrent use, of apply and forget one at a time.
type sources struct {
	kinds source.Kinds
	tools source.Tools
	log   *slog.Logger

	mu      sync.RWMutex
	base    context.Context            // nil until start
	all     map[string]*running        // by event key
	of      map[string][]string        // event keys by EventSource
	pathsOf map[string][]string        // paths by EventSource
	digests map[string]string          // of the EventSources, as they count
	paths   map[string]source.Receiver // of all
}

func newSources(kinds source.Kinds, tools source.Tools, log *slog.Logger) *sources {
	return &sources{kinds: kinds, tools: tools, log: log, all: map[string]*running{}, of: map[string][]string{},
		pathsOf: map[string][]string{}, digests: map[string]string{}, paths: map[string]source.Receiver{}}
}

// at is who receives at a path; nil for nobody.
func (s *sources) at(path string) source.Receiver {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.paths[path]
}

// digest is that of an EventSource as it counts now; empty if it does not.
func (s *sources) digest(key string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.digests[key]
}

// start lets everything work until ctx ends; stop then waits for it.
func (s *sources) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = ctx
	for _, r := range s.all {
		s.launch(r)
	}
}

// stop waits until everything has ended.
func (s *sources) stop() {
	s.mu.RLock()
	list := slices.Collect(maps.Values(s.all))
	s.mu.RUnlock()
	for _, r := range list {
		r.halt()
	}
}

// apply makes an EventSource work as it is now declared, and says what is wrong with it.
func (s *sources) apply(es *manifest.EventSource, digest string) []manifest.Diagnostic {
	key := es.Namespace + "/" + es.Name
	var found []manifest.Diagnostic
	var keys []string
	for _, e := range s.kinds.Events(es) {
		if slices.Contains(keys, e.Key()) {
			continue // the name is declared twice, which is among the diagnostics of the whole
		}
		keys = append(keys, e.Key())
		found = append(found, s.take(e)...)
	}
	s.replace(key, digest, keys)
	return found
}

// forget ends the events of an EventSource that is declared no more.
func (s *sources) forget(key string) { s.replace(key, "", nil) }

// replace ends those events of an EventSource that are not among the ones to stay, and gives the others their paths.
func (s *sources) replace(key, digest string, stay []string) {
	s.mu.Lock()
	var gone []*running
	var receivers []source.Receiver
	for _, before := range s.of[key] {
		r := s.all[before]
		if !slices.Contains(stay, before) {
			delete(s.all, before)
			gone = append(gone, r)
		}
	}
	s.of[key], s.digests[key] = stay, digest
	if len(stay) == 0 {
		delete(s.of, key)
		delete(s.digests, key)
	}
	for _, path := range s.pathsOf[key] {
		delete(s.paths, path)
	}
	for _, one := range stay {
		if to, ok := s.all[one].source.(source.Receiver); ok {
			receivers = append(receivers, to)
		}
	}
	paths := source.Paths(receivers)
	maps.Copy(s.paths, paths)
	s.pathsOf[key] = slices.Collect(maps.Keys(paths))
	s.mu.Unlock()
	for _, r := range gone {
		r.halt()
	}
}

// take starts one event, unless it is at work as it is declared. One that cannot be opened leaves what was at work before.
func (s *sources) take(e source.Event) []manifest.Diagnostic {
	s.mu.RLock()
	old := s.all[e.Key()]
	s.mu.RUnlock()
	content, err := e.Content()
	digest := sha256.Sum256(content)
	if err == nil && old != nil && old.digest == digest && old.source != nil {
		s.refuse(old, "")
		return nil
	}
	found := e.Check()
	if err == nil {
		err = manifest.FirstError(found)
	}
	next := &running{Event: e, digest: digest, starts: 1}
	if err == nil {
		next.source, err = e.Kind.Open(e.Definition, s.toolsOf(next))
	}
	if err != nil {
		if old != nil {
			s.refuse(old, err.Error())
		} else {
			next.refused = err.Error()
			s.put(next)
		}
		return found
	}
	if old != nil {
		old.halt() // of one event two are never at work
		next.starts += old.starts
	}
	s.put(next)
	return found
}

func (s *sources) refuse(r *running, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.refused = why
}

func (s *sources) put(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[r.Key()] = r
	if s.base != nil {
		s.launch(r)
	}
}

// toolsOf are the tools of one event: what it cannot deliver is noted there.
func (s *sources) toolsOf(r *running) source.Tools {
	t := s.tools
	t.Sink = &noting{to: t.Sink, of: r, now: t.Clock.Now}
	return t
}

// noting is a sink that notes at its source whether it takes what is delivered.
type noting struct {
	to  source.Sink
	of  *running
	now func() time.Time
}

// Deliver implements source.Sink.
func (n *noting) Deliver(ctx context.Context, e event.Event) (source.Receipt, error) {
	receipt, err := n.to.Deliver(ctx, e)
	if err == nil {
		n.of.fine()
	} else if ctx.Err() == nil {
		n.of.fails(fmt.Errorf("record event: %w", err), n.now())
	}
	return receipt, err
}

// fails notes what is wrong, since when it first was, and tells whether it is news.
func (r *running) fails(err error, now time.Time) bool {
	before := r.trouble.Load()
	t := &trouble{err.Error(), now}
	if before != nil {
		t.since = before.since
	}
	r.trouble.Store(t)
	return before == nil || before.problem != t.problem
}

func (r *running) fine() {
	if r.trouble.Load() != nil {
		r.trouble.Store(nil)
	}
}

// launch has a source work; the caller holds the lock.
func (s *sources) launch(r *running) {
	if r.source == nil || r.ended != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.base)
	r.stop, r.ended = cancel, make(chan struct{})
	go func() {
		defer close(r.ended)
		s.keep(ctx, r)
	}()
}

// halt ends a source and waits until it has ended.
func (r *running) halt() {
	if r.ended != nil {
		r.stop()
		<-r.ended
	}
}

// The waits before a source that failed is run again.
const (
	firstRest   = time.Second
	longestRest = time.Minute
)

// errEnded is what is wrong with a source that returns before it is told to.
var errEnded = errors.New("it ended by itself")

// keep runs a source until ctx ends. One that fails is run again after a wait, which grows, and what is wrong is shown meanwhile.
func (s *sources) keep(ctx context.Context, r *running) {
	for rest := firstRest; ; rest = min(2*rest, longestRest) {
		began := s.tools.Clock.Now()
		err := r.source.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errEnded
		}
		if s.tools.Clock.Now().Sub(began) > longestRest {
			rest = firstRest
		}
		if r.fails(err, s.tools.Clock.Now()) {
			s.log.Warn("an event source failed and is tried again", "source", r.Namespace+"/"+r.Source, "event", r.Event.Event, "after", rest, "error", err)
		}
		if s.tools.Clock.Wait(ctx, s.tools.Clock.Now().Add(rest)) != nil {
			return
		}
		s.mu.Lock()
		r.starts++
		s.mu.Unlock()
	}
}

// states tells where everything stands, in the order of the keys.
func (s *sources) states() []SourceState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]SourceState, 0, len(s.all))
	for _, key := range slices.Sorted(maps.Keys(s.all)) {
		r := s.all[key]
		st := SourceState{Source: r.Namespace + "/" + r.Source, Event: r.Event.Event, Type: r.Type, State: "running", Starts: r.starts}
		t := r.trouble.Load()
		switch {
		case r.source == nil:
			st.State, st.Problem, st.Starts = "refused", r.refused, 0
		case r.refused != "":
			st.State, st.Problem = "held", r.refused
		case t != nil:
			st.State, st.Problem, st.Since = "failing", t.problem, &t.since
		}
		if open, ok := r.source.(source.Open); ok {
			st.Unauthenticated = open.Unauthenticated()
		}
		if to, ok := r.source.(source.Receiver); ok {
			for _, route := range to.Routes() {
				if s.paths[route.Path] == to {
					st.Paths = append(st.Paths, route.Path)
				}
			}
		}
		out = append(out, st)
	}
	return out
}
