package runs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// A run's state is kept in the ledger now and then, so that after a restart only what came later is replayed. It is kept when at least
// defaultKeep entries came since the last time, and a tenth of all before: so what is replayed is bounded, and keeping the state of a run that
// grows costs a constant share of what the run itself does.
const (
	defaultKeep = 2000
	keepShare   = 10
)

// snapshotVersion is that of what is kept: the engine's form, and the frame around it, whose number is the lower byte.
const snapshotVersion = workflow.SnapshotVersion<<8 | 2

// replayed is the state of a run and what of its entries led to it.
type replayed struct {
	state *workflow.State
	// root is the entry that submitted the run, 0 if there is none; last is the last that the state knows of.
	root, last int64
	// entries are those of the run, tail those of them that came since the state was kept.
	entries, tail int64
}

// frame is in front of the state.
type frame struct{ Root, Entries int64 }

// kept reads a run's snapshot. One that cannot be used counts for none, and is told: it will be replaced.
func (c *Controller) kept(ctx context.Context, key string) (replayed, error) {
	none := replayed{state: workflow.NewState()}
	snap, err := c.o.Ledger.Snapshots().Load(ctx, subject(key))
	if errors.Is(err, ledger.ErrNotFound) || err == nil && snap.Version != snapshotVersion {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("read run %s: %w", key, err)
	}
	r, err := unpack(snap.Body)
	if err != nil {
		c.o.Log.Warn("the kept state of a run cannot be used: the run is replayed from its start", "run", key, "error", err)
		return none, nil
	}
	r.last = snap.Seq
	return r, nil
}

// unpack reads the body of a snapshot.
func unpack(body []byte) (replayed, error) {
	var f frame
	in := bytes.NewReader(body)
	if err := binary.Read(in, binary.BigEndian, &f); err != nil {
		return replayed{}, fmt.Errorf("read the frame: %w", err)
	}
	state, err := workflow.RestoreState(body[len(body)-in.Len():])
	return replayed{state: state, root: f.Root, entries: f.Entries}, err
}

// pack gives the body of a snapshot.
func pack(r replayed, raw []byte) ([]byte, error) {
	out, err := binary.Append(make([]byte, 0, binary.Size(frame{})+len(raw)), binary.BigEndian, frame{r.root, r.entries})
	return append(out, raw...), err
}

// due says that the state should be kept.
func (c *Controller) due(r replayed) bool {
	return c.o.Keep >= 0 && r.root != 0 && r.tail >= max(c.o.Keep, (r.entries-r.tail)/keepShare)
}

// keep has the state of a run kept as it is now, if that is due. The state is written down by its owner; the rest is done by others. If it
// cannot be kept the earlier one counts, and the run is replayed from there.
func (c *Controller) keep(r *live) {
	if !c.due(r.replayed) {
		return
	}
	raw, err := r.state.Snapshot()
	r.tail = 0
	if err != nil {
		c.o.Log.Warn("the state of a run cannot be kept", "run", r.key, "error", err)
		return
	}
	key, now := r.key, replayed{root: r.root, last: r.last, entries: r.entries}
	send(c, c.asks, snapshotKey(key), &errand{what: "keep the state of run " + key, do: func(ctx context.Context) error {
		body, err := pack(now, raw)
		if err == nil {
			err = c.o.Ledger.Snapshots().Save(ctx, ledger.Snapshot{Subject: subject(key), Version: snapshotVersion, Seq: now.last, Body: body})
		}
		if err != nil && ctx.Err() == nil {
			c.o.Log.Warn("the state of a run could not be kept; it is tried again when more has happened", "run", key, "error", err)
		}
		return nil
	}})
}

// unkeep drops what is kept of a run that was taken out of lists.
func (c *Controller) unkeep(key string) {
	send(c, c.asks, snapshotKey(key), &errand{what: "drop the kept state of run " + key, do: func(ctx context.Context) error {
		snapshots := c.o.Ledger.Snapshots()
		if _, err := snapshots.Load(ctx, subject(key)); errors.Is(err, ledger.ErrNotFound) {
			return nil
		}
		return snapshots.Drop(ctx, subject(key))
	}})
}

// snapshotKey keeps what is done to one run's snapshot in order.
func snapshotKey(key string) string { return "snapshot/" + key }
