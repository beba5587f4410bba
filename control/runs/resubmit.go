package runs

import (
	"context"
	"fmt"
	"maps"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// Resubmission asks for a run that repeats another one.
type Resubmission struct {
	// Parameters take the place of the run's arguments.
	Parameters map[string]string
	// Memoized takes the outputs of steps that succeeded, for a run that ended badly.
	Memoized bool
	Actor    string
	// Role is that of the person who asks.
	Role access.Role
}

// again is what a run that repeats another one has of it beside its manifest.
type again struct {
	positions map[string]manifest.Position
	earlier   *workflow.Earlier
	// claims are those of the run that is repeated; nil settles them anew.
	claims *claims.Record
}

// Resubmit makes a run of what another run was made of, with its labels and annotations, as `argo resubmit` does. It acts for what the
// earlier run acted for. A run that a person submitted by hand is repeated as by whoever asks now.
func (c *Controller) Resubmit(ctx context.Context, namespace, name string, r Resubmission) (workflow.Run, error) {
	key := Key(namespace, name)
	was, err := view(ctx, c, key, func(l *live) repeated {
		repeat, err := l.state.Repeat()
		return repeated{repeat, l.root, err}
	})
	if err == nil {
		err = was.err
	}
	if err != nil {
		return workflow.Run{}, fmt.Errorf("resubmit run %s: %w", key, err)
	}
	s, err := was.submission(namespace, r)
	if err != nil {
		return workflow.Run{}, fmt.Errorf("resubmit run %s: %w", key, err)
	}
	s.Cause = was.root
	return c.Submit(ctx, s)
}

// repeated is a run that is repeated: root is the entry of its submission, err why it cannot be read.
type repeated struct {
	workflow.Repeat
	root int64
	err  error
}

// submission makes a submission of what a run was made of.
func (w repeated) submission(namespace string, r Resubmission) (Submission, error) {
	objects, diags := manifest.Decode("run "+w.Earlier.Name, w.Workflow)
	if err := manifest.FirstError(diags); err != nil {
		return Submission{}, &workflow.InvalidError{Diagnostics: diags}
	}
	if len(objects) != 1 {
		return Submission{}, fmt.Errorf("its manifest has %d objects", len(objects))
	}
	parameters := w.Parameters
	maps.Copy(parameters, r.Parameters)
	s := Submission{
		Object: objects[0], Given: w.Given, Namespace: namespace, Parameters: parameters, Labels: w.Labels, Annotations: w.Annotations,
		Actor: r.Actor, Event: w.Event, Role: r.Role, again: &again{positions: w.Positions},
	}
	if byHand := w.Claims.Origin == "" && w.Event == 0; !byHand {
		s.again.claims = &w.Claims
	}
	if r.Memoized {
		if !w.Failed {
			return s, failure.Conflictf("it has not ended badly: only a run that Failed, or is in Error, can be repeated with what it left (memoized)")
		}
		s.again.earlier = &w.Earlier
	}
	return s, nil
}
