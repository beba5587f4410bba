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
	refused, err := d.judge(ctx, &p)
	if err != nil {
		return nil, err
	}
	problems, err := d.Executor.Check(ctx, p)
	return append(refused, problems...), err
}

// Start implements [Executor]. A pod that was started before under other rights is judged by those that it has now.
func (d door) Start(ctx context.Context, p Pod) error {
	refused, err := d.judge(ctx, &p)
	if err == nil {
		err = Refused(refused)
	}
	if err != nil {
		return err
	}
	return d.Executor.Start(ctx, p)
}

// judge says what of a pod goes beyond the rights of whom it is for, and gives its containers the limits that the operator has for those
// which name none.
func (d door) judge(ctx context.Context, p *Pod) ([]Problem, error) {
	policy, err := d.policy.Now(ctx)
	if err != nil {
		return nil, err
	}
	w := podpolicy.Wish{For: p.For, Pod: &p.Pod, Inputs: p.Inputs, Outputs: p.Outputs.Artifacts}
	if d.needsGrant {
		w.Executor = d.name
	}
	for _, c := range p.Claims {
		if c.Owner != "" && c.Owner == p.ID.Owner {
			w.Claims = append(w.Claims, c.Name)
		}
	}
	limited, beyond := policy.Limit(p.For, &p.Pod)
	p.Pod = *limited
	var problems []Problem
	for _, found := range append(policy.Judge(w), beyond...) {
		problems = append(problems, Problem{Path: found.Path, Message: found.Message, Hint: found.Hint, Fatal: true})
	}
	return problems, nil
}
