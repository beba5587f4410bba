package ledger

import (
	"context"
	"errors"
	"fmt"
)

// Bounds of a trail. A chain from a push to a running container is about a dozen entries long; the bounds
// only keep a runaway (a sensor that triggers itself for ever) from being read whole.
const (
	maxTrailUp   = 1000
	maxTrailDown = 10_000
)

// TrailStep is an entry in the tree of what another entry led to.
type TrailStep struct {
	Entry Entry `json:"entry"`
	// Depth is 1 for what the entry led to directly.
	Depth int `json:"depth"`
}

// Trail is the chain of causes through one entry, in both directions.
type Trail struct {
	// Up starts with the entry itself and ends with the root: what came from outside.
	Up []Entry `json:"up"`
	// Down is the tree of what the entry led to, depth first, each level in order of sequence.
	Down []TrailStep `json:"down,omitempty"`
	// Truncated says that Down was cut at its limit.
	Truncated bool `json:"truncated,omitempty"`
}

// ReadTrail reads the trail of an entry in both directions; limit is that of [Down].
func ReadTrail(ctx context.Context, r Reader, seq int64, limit int) (Trail, error) {
	up, err := Up(ctx, r, seq)
	if err != nil {
		return Trail{}, err
	}
	down, truncated, err := Down(ctx, r, seq, limit)
	if err != nil {
		return Trail{}, err
	}
	return Trail{Up: up, Down: down, Truncated: truncated}, nil
}

// Up returns the entry and its chain of causes, ending with the root or before a cause that was forgotten. The chain is at most 1000 entries long.
func Up(ctx context.Context, r Reader, seq int64) ([]Entry, error) {
	var chain []Entry
	for seq != 0 && len(chain) < maxTrailUp {
		e, err := r.Entry(ctx, seq)
		if errors.Is(err, ErrNotFound) && len(chain) > 0 {
			return chain, nil // the cause was forgotten
		}
		if err != nil {
			return nil, fmt.Errorf("read trail: entry %d: %w", seq, err)
		}
		chain = append(chain, e)
		// A cause is always earlier than what it caused; a damaged ledger must not send us in circles.
		if e.Cause >= seq {
			return nil, fmt.Errorf("read trail: entry %d names %d as its cause, which is not earlier; run tiphys ledger verify", seq, e.Cause)
		}
		seq = e.Cause
	}
	return chain, nil
}

// Down returns the tree of what the entry led to, depth first, without the entry itself. At most limit
// entries are returned (0: 10,000, which is also the most); truncated tells that there are more.
func Down(ctx context.Context, r Reader, seq int64, limit int) (steps []TrailStep, truncated bool, err error) {
	if limit <= 0 || limit > maxTrailDown {
		limit = maxTrailDown
	}
	tree, truncated, err := readTree(ctx, r, seq, limit)
	if err != nil {
		return nil, false, err
	}
	// An explicit stack: a chain may be as deep as the limit.
	stack := []TrailStep{{Entry: Entry{Seq: seq}}}
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if top.Depth > 0 {
			steps = append(steps, top)
		}
		effects := tree[top.Entry.Seq]
		for i := len(effects) - 1; i >= 0; i-- {
			stack = append(stack, TrailStep{Entry: effects[i], Depth: top.Depth + 1})
		}
	}
	return steps, truncated, nil
}

// readTree reads effects level by level, so that what is cut off at the limit is what is furthest away.
func readTree(ctx context.Context, r Reader, root int64, limit int) (map[int64][]Entry, bool, error) {
	tree := map[int64][]Entry{}
	level, left := []int64{root}, limit
	for len(level) > 0 {
		var next []int64
		for _, cause := range level {
			effects, err := r.Entries(ctx, EntryQuery{Cause: cause, After: cause, Limit: left + 1})
			if err != nil {
				return nil, false, fmt.Errorf("read trail: effects of entry %d: %w", cause, err)
			}
			if len(effects) > left {
				tree[cause] = effects[:left]
				return tree, true, nil
			}
			tree[cause] = effects
			left -= len(effects)
			for _, e := range effects {
				next = append(next, e.Seq)
			}
		}
		level = next
	}
	return tree, false, nil
}
