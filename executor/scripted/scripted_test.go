package scripted

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/executortest"
	"github.com/tiphys/tiphys/manifest"
)

func named(node string) executor.Pod {
	p := executor.Pod{ID: executor.ID{Owner: "o", Node: node}}
	p.Pod.Annotations = map[string]string{NodeNameAnnotation: "wf(0)." + node}
	return p
}

// prompt lets pods that take no time end as soon as they are started.
type prompt struct{ *Executor }

func (p prompt) Start(ctx context.Context, pod executor.Pod) error {
	err := p.Executor.Start(ctx, pod)
	p.Advance(p.Now())
	return err
}

// The suite's scripts are shell; of those that are asked for here it is enough to know when they end, and how.
func TestConformance(t *testing.T) {
	do := func(p executor.Pod) Step {
		script := p.Pod.Spec.Containers[0].Command[2]
		if strings.HasPrefix(script, "sleep ") {
			return Step{Duration: time.Minute}
		}
		code, _ := strconv.Atoi(strings.TrimPrefix(script, "exit "))
		return Step{Code: code}
	}
	for name, epoch := range map[string]int64{"plain": 0, "in an epoch": 7} {
		t.Run(name, func(t *testing.T) {
			executortest.Run(t, executortest.Setup{
				New: func(*testing.T, string) executor.Named {
					e := New(Options{Do: do})
					named := e.Named()
					named.Executor = prompt{e}
					if epoch > 0 {
						named = executor.InEpoch(named, epoch, nil)
					}
					return named
				},
				Image: "any", Only: []string{"capabilities", "list", "stop before start", "stop before it runs"},
			})
		})
	}
}

func TestEndsInOrderOfTheClock(t *testing.T) {
	e := New(Options{Steps: map[string][]Step{
		"slow": {{Duration: 5 * time.Second, Code: 3}}, "fast": {{Duration: time.Second, Result: "r"}}, "*": {{Duration: time.Minute}},
	}})
	defer func() { _ = e.Close() }()
	begin := e.Now()
	fast, late := named("fast"), named("late")
	fast.Outputs = executor.Outputs{Result: true, Parameters: []manifest.Parameter{{Name: "p"}}}
	late.Deadline = begin.Add(2 * time.Second)
	for _, p := range []executor.Pod{named("slow"), fast, late, fast} {
		if err := e.Start(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	if at, ok := e.Next(); !ok || !at.Equal(begin.Add(time.Second)) {
		t.Errorf("next at %s", at)
	}
	e.Advance(begin.Add(10 * time.Second))
	type end struct {
		Node, Reason string
		Phase        executor.Phase
		After        time.Duration
	}
	var got []end
	for len(got) < 3 {
		r := <-e.Reports()
		if r.Phase.Done() {
			got = append(got, end{r.ID.Node, r.Reason, r.Phase, r.FinishedAt.Sub(begin)})
		}
	}
	want := []end{
		{"fast", "", executor.Succeeded, time.Second},
		{"late", executor.ReasonDeadline, executor.Failed, 2 * time.Second},
		{"slow", "", executor.Failed, 5 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(e.Started()) != 3 {
		t.Errorf("%d pods were started", len(e.Started()))
	}
	if !e.Now().Equal(begin.Add(10 * time.Second)) {
		t.Errorf("now %s", e.Now())
	}
}

func TestAttemptsAndRestart(t *testing.T) {
	boom := errors.New("boom")
	e := New(Options{Auto: true, Steps: map[string][]Step{"a": {{Code: 1}, {}}, "b": {{StartError: boom}}}})
	defer func() { _ = e.Close() }()
	if err := e.Start(context.Background(), named("b")); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	for attempt, want := range []executor.Phase{executor.Failed, executor.Succeeded, executor.Succeeded} {
		p := named("a")
		p.ID.Attempt = attempt
		if err := e.Start(context.Background(), p); err != nil {
			t.Fatal(err)
		}
		for r := range e.Reports() {
			if r.Phase.Done() {
				if r.Phase != want {
					t.Errorf("attempt %d: %s", attempt, r.Phase)
				}
				break
			}
		}
		if attempt != 1 {
			if err := e.Acknowledge(context.Background(), p.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.Restart()
	if r := <-e.Reports(); r.ID.Attempt != 1 || !r.Phase.Done() {
		t.Errorf("repeated %+v", r)
	}
}
