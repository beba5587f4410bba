package workflow

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
)

// retryTree is the retry strategy of a template, or the run's default, as it is written; nil if there is none.
func (s *State) retryTree(tm *template) map[string]any {
	if tree, _ := tm.tree["retryStrategy"].(map[string]any); tree != nil {
		return tree
	}
	return asMap(asMap(s.cache.manifest["spec"])["retryStrategy"])
}

// retryStrategy renders the retry strategy of a template, or the run's default.
func (t *turn) retryStrategy(n *node, tm *template) (*manifest.RetryStrategy, error) {
	tree := t.s.retryTree(tm)
	if tree == nil {
		return nil, nil
	}
	expression := tree["expression"]
	done, err := substitute(withoutKeys(tree, "expression"), &scope{s: t.s, now: t.now, chance: &t.chance, inputs: n.Inputs, self: n})
	if err != nil {
		return nil, err
	}
	var rs manifest.RetryStrategy
	if err := decodeValue(done, &rs); err != nil {
		return nil, fmt.Errorf("read retryStrategy: %w", err)
	}
	rs.Expression, _ = expression.(string)
	return &rs, nil
}

// newAttempt makes the next attempt of a Retry node.
func (t *turn) newAttempt(n *node) {
	tm, err := t.s.templateAt(n.Template)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	i := len(n.children)
	suffix := "(" + strconv.Itoa(i) + ")"
	v := invocation{
		name: n.Name + suffix, display: n.DisplayName + suffix, parent: n, boundary: t.s.node(n.BoundaryID), role: roleAttempt,
		siteKey: n.Site, step: n.Step, callee: tm, item: n.Item, index: i, depth: n.Depth, exit: n.Exit, position: n.Position,
	}
	a := t.newNode(v, kindType(tm))
	a.Phase, a.Retry = Pending, i
	if a.Inputs, err = t.attemptInputs(n, a, tm); err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	a.NodeFlag = &NodeFlag{Retried: true}
	t.enter(a, true)
}

// advanceRetry decides, after an attempt has ended, whether there is another. Messages are Argo's.
func (t *turn) advanceRetry(n, last *node) {
	if last.fulfilled() && !last.Phase.Done() { // a daemon that is ready
		t.change(kindChanged, n, nodeChange{Daemoned: ptr(true), PodIP: last.PodIP, Outputs: last.Outputs})
		t.trySettleDaemon(n)
		return
	}
	if !last.Phase.bad() {
		t.finish(n, last.Phase, last.Message, last.Outputs)
		return
	}
	end := func(message string) { t.finish(n, last.Phase, message, last.Outputs) }
	if t.shutdown(last) {
		end("Stopped with strategy '" + t.s.run.Shutdown + "'")
		return
	}
	if t.s.expired && !n.Exit {
		end("retry exceeded workflow deadline " + timeText(t.s.deadline()))
		return
	}
	if message, err := t.refuseRetry(n, last); err != nil {
		t.finish(n, Error, err.Error(), last.Outputs)
		return
	} else if message != nil {
		end(*message)
		return
	}
	t.backOff(n, last)
}

// refuseRetry gives the reason why there is no further attempt, or nil.
func (t *turn) refuseRetry(n, last *node) (*string, error) {
	rs := n.Strategy
	if until, err := t.maxDuration(n); err != nil {
		return nil, err
	} else if !until.IsZero() && t.now.After(until) {
		return ptr("Max duration limit exceeded"), nil
	}
	if !retryAllowed(rs, last) {
		return ptr(last.Message), nil
	}
	if rs.Limit != nil {
		limit, err := strconv.Atoi(rs.Limit.String())
		if err != nil {
			return nil, fmt.Errorf("retryStrategy.limit %q is not a number", rs.Limit.String())
		}
		if len(n.children) > limit {
			return ptr("No more retries left"), nil
		}
	}
	if rs.Expression == "" {
		return nil, nil
	}
	sc := &scope{s: t.s, now: t.now, chance: &t.chance, inputs: n.Inputs, self: n, extra: lastRetry(n, last)}
	again, err := evalBool(rs.Expression, sc)
	if err != nil {
		return nil, fmt.Errorf("retryStrategy.expression: %w", err)
	}
	if !again {
		return ptr("retryStrategy.expression evaluated to false"), nil
	}
	return nil, nil
}

// retryAllowed is the retry policy: OnFailure unless said otherwise, Always if there is an expression.
func retryAllowed(rs *manifest.RetryStrategy, last *node) bool {
	policy := rs.RetryPolicy
	if policy == "" {
		policy = "OnFailure"
		if rs.Expression != "" {
			policy = "Always"
		}
	}
	switch policy {
	case "Always":
		return true
	case "OnError":
		return last.Phase == Error
	case "OnTransientError":
		return last.Phase == Error && last.pod != nil && last.pod.Lost > 0
	}
	return last.Phase == Failed
}

// lastRetry is what a retry's expression and the next attempt can read of the last one.
func lastRetry(n, last *node) map[string]any {
	exit := "-1"
	if last.Outputs != nil && last.Outputs.ExitCode != nil {
		exit = *last.Outputs.ExitCode
	}
	seconds := 0
	if last.StartedAt != nil && last.FinishedAt != nil {
		seconds = int(last.FinishedAt.Sub(*last.StartedAt).Seconds())
	}
	return map[string]any{
		"retries": strconv.Itoa(len(n.children)), "lastRetry.exitCode": exit, "lastRetry.status": string(last.Phase),
		"lastRetry.duration": strconv.Itoa(seconds), "lastRetry.message": last.Message,
	}
}

func (t *turn) maxDuration(n *node) (time.Time, error) {
	if n.Strategy.Backoff == nil || n.Strategy.Backoff.MaxDuration == "" || len(n.children) == 0 {
		return time.Time{}, nil
	}
	d, err := parseDuration(n.Strategy.Backoff.MaxDuration.String())
	if err != nil {
		return time.Time{}, fmt.Errorf("retryStrategy.backoff.maxDuration: %w", err)
	}
	first := t.s.node(n.children[0])
	if first == nil || first.StartedAt == nil {
		return time.Time{}, nil
	}
	return first.StartedAt.Add(d), nil
}

// backOff begins the next attempt now or after the wait that the strategy asks for. As in Argo there is no such wait
// without a limit (reference 1.6). What is refused at each start waits whatever the strategy says.
func (t *turn) backOff(n, last *node) {
	wait, why := refusedWait(last.refused), ""
	if wait > 0 {
		why = ": " + strconv.Itoa(last.refused) + " starts were refused one after the other"
	}
	if b := n.Strategy.Backoff; b != nil && n.Strategy.Limit != nil {
		asked, err := backOffTime(b, len(n.children))
		if err != nil {
			t.finish(n, Error, err.Error(), last.Outputs)
			return
		}
		if asked >= wait {
			wait, why = asked, ""
		}
	}
	if wait == 0 {
		t.newAttempt(n)
		return
	}
	from := t.now
	if last.FinishedAt != nil {
		from = *last.FinishedAt
	}
	at := from.Add(wait)
	if until, _ := t.maxDuration(n); !until.IsZero() && at.After(until) {
		t.finish(n, last.Phase, "Backoff would exceed max duration limit", last.Outputs)
		return
	}
	if !at.After(t.now) {
		t.newAttempt(n)
		return
	}
	message := "Backoff for " + humanDuration(wait) + why
	t.change(kindChanged, n, nodeChange{Message: &message, Why: &message, Wake: &at})
	t.effect(SetTimer{Key: "retry/" + n.ID, At: at})
}

// The waits of what is refused at each start: from this many refusals on, doubled with each further one.
const (
	refusedOften     = 5
	refusedFirstWait = time.Second
	refusedMostWait  = 5 * time.Minute
)

// refusedWait is how long the next attempt waits at least after so many refusals in a row.
func refusedWait(refused int) time.Duration {
	if refused < refusedOften {
		return 0
	}
	return min(refusedFirstWait<<min(refused-refusedOften, 16), refusedMostWait)
}

// countRefusal notes on an attempt that never began how many before it did not either.
func (t *turn) countRefusal(n *node, r executor.Report) {
	p := t.s.node(n.Parent)
	if p == nil || n.Role != roleAttempt || r.Phase != executor.Error || !neverBegan(r.Reason) {
		return
	}
	refused := 1
	if k := len(p.children); k > 1 {
		if before := t.s.node(p.children[k-2]); before != nil && p.children[k-1] == n.ID {
			refused += before.refused
		}
	}
	t.change(kindChanged, n, nodeChange{Refused: refused})
}

// neverBegan tells the reasons of attempts of which nothing was executed.
func neverBegan(reason string) bool {
	return reason == executor.ReasonStart || reason == executor.ReasonImage || reason == executor.ReasonInput
}

// backOffTime is duration × factor^(attempts-1), at most cap.
func backOffTime(b *manifest.Backoff, attempts int) (time.Duration, error) {
	if b.Duration == "" {
		return 0, fmt.Errorf("no base duration specified for retryStrategy")
	}
	d, err := parseDuration(b.Duration.String())
	if err != nil {
		return 0, fmt.Errorf("retryStrategy.backoff.duration: %w", err)
	}
	if b.Factor != nil {
		f, err := strconv.ParseFloat(b.Factor.String(), 64)
		if err != nil {
			return 0, fmt.Errorf("retryStrategy.backoff.factor %q is not a number", b.Factor.String())
		}
		if f > 0 {
			x := float64(d) * math.Pow(f, float64(attempts-1))
			d = time.Duration(math.Min(x, float64(365*24*time.Hour)))
		}
	}
	if b.Cap != "" {
		limit, err := parseDuration(b.Cap.String())
		if err != nil {
			return 0, fmt.Errorf("retryStrategy.backoff.cap: %w", err)
		}
		d = min(d, limit)
	}
	return d, nil
}

// humanDuration words a wait: "2 seconds", "1 minute 30 seconds".
func humanDuration(d time.Duration) string {
	if d < time.Second {
		return d.String()
	}
	s := int(d.Round(time.Second).Seconds())
	out := ""
	for _, u := range []struct {
		name string
		size int
	}{{"hour", 3600}, {"minute", 60}, {"second", 1}} {
		k := s / u.size
		s %= u.size
		if k == 0 {
			continue
		}
		if out != "" {
			out += " "
		}
		out += strconv.Itoa(k) + " " + u.name
		if k > 1 {
			out += "s"
		}
	}
	return out
}
