package executor

import (
	"context"

	"github.com/tiphys/tiphys/access/podpolicy"
)

// door is an executor of a [Registry] behind its policy.
type door struct {
	Executor
	name       string
	policy     podpolicy.Policy
	needsGrant bool
}

// Check implements [Executor]: what the policy refuses is a fatal problem.
func (d door) Check(ctx context.Context, p Pod) ([]Problem, error) {
	problems, err := d.Executor.Check(ctx, p)
	return append(d.judge(p), problems...), err
}

// Start implements [Executor]. A pod that was started before under other rights is judged by those that it has now.
func (d door) Start(ctx context.Context, p Pod) error {
	if err := Refused(d.judge(p)); err != nil {
		return err
	}
	return d.Executor.Start(ctx, p)
}

// judge says what of a pod goes beyond the rights of whom it is for.
func (d door) judge(p Pod) []Problem {
	w := podpolicy.Wish{For: p.For, Pod: &p.Pod, Inputs: p.Inputs, Outputs: p.Outputs.Artifacts}
	if d.needsGrant {
		w.Executor = d.name
	}
	for _, c := range p.Claims {
		if c.Owner != "" && c.Owner == p.ID.Owner {
			w.Claims = append(w.Claims, c.Name)
		}
	}
	var problems []Problem
	for _, found := range d.policy.Judge(w) {
		problems = append(problems, Problem{Path: found.Path, Message: found.Message, Hint: found.Hint, Fatal: true})
	}
	return problems
}
