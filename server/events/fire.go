package events

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/server/runs"
	"github.com/tiphys/tiphys/workflow"
)

// queue is the outbox queue of firings; lease bounds one attempt.
const (
	queue = "trigger"
	lease = 2 * time.Minute
)

// The labels that runs from Git carry.
const (
	LabelRepo   = "tiphys.dev/repo"
	LabelBranch = "tiphys.dev/branch"
	LabelTag    = "tiphys.dev/tag"
	LabelCommit = "tiphys.dev/commit"
	LabelMR     = "tiphys.dev/mr"
	LabelEvent  = "tiphys.dev/event"
	labelFiring = "tiphys.dev/firing"
	labelSensor = "events.argoproj.io/sensor"
	labelTrig   = "events.argoproj.io/trigger"
)

func (c *Controller) fireAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-c.work:
			c.fire(ctx, f, 1)
		}
	}
}

// leftovers carries out firings that an earlier process left, that failed, or that found the queue full.
func (c *Controller) leftovers(ctx context.Context) {
	for ctx.Err() == nil {
		works, err := c.o.Ledger.Outbox().Claim(ctx, queue, 32, lease)
		if err != nil && ctx.Err() == nil {
			c.o.Log.Error("claim firings", "error", err)
		}
		for _, w := range works {
			var f sensor.Firing
			if err := json.Unmarshal(w.Body, &f); err != nil {
				c.o.Log.Error("decode firing", "key", w.Key, "error", err)
				continue
			}
			c.fire(ctx, f, w.Attempt)
		}
		if len(works) > 0 {
			continue
		}
		next, err := c.o.Ledger.Outbox().Next(ctx, queue)
		d := 5 * time.Second
		if err == nil && !next.IsZero() {
			d = min(d, max(next.Sub(c.o.Now()), time.Millisecond))
		}
		wait(ctx, nil, d)
	}
}

// fire carries a firing out once and records how that went.
func (c *Controller) fire(ctx context.Context, f sensor.Firing, attempt int) {
	row, err := c.o.Ledger.Row(ctx, event.TableFiring, f.Key)
	if err != nil || row.State != "pending" {
		return // settled by another hand
	}
	if !c.rates.wait(ctx, f, c.o.Now) {
		return
	}
	result, err := c.carryOut(ctx, f, row.Seq)
	if ctx.Err() != nil {
		return
	}
	c.o.Fault("fired")
	settled := event.Settled{Key: f.Key, Attempt: attempt, Result: result}
	kind := event.KindDone
	var again time.Duration
	if err != nil {
		kind, settled.Error = event.KindFailed, err.Error()
		again, settled.Dead = nextTry(f, attempt, err)
		c.o.Log.Error("firing failed", "firing", f.Key, "attempt", attempt, "dead", settled.Dead, "error", err)
	}
	err = c.o.Ledger.Write(ctx, func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "sensor:" + f.Sensor, Kind: kind, Subject: "firing/" + f.Key, Cause: row.Seq, Body: settled})
		if err != nil {
			return err
		}
		if kind == event.KindDone || settled.Dead {
			return tx.Cancel(queue, f.Key)
		}
		raw, err := json.Marshal(f)
		if err != nil {
			return err
		}
		return tx.Enqueue(ledger.Work{Queue: queue, Key: f.Key, Due: tx.Now().Add(again), Cause: row.Seq, Body: raw})
	})
	if err != nil && ctx.Err() == nil {
		c.o.Log.Error("settle firing", "firing", f.Key, "error", err)
	}
	if settled.Dead && f.DLQ != nil {
		c.fire(ctx, *f.DLQ, 1)
	}
}

// errFinal marks failures that no repetition mends.
var errFinal = errors.New("cannot be carried out")

// nextTry says when a failed firing is tried again, or that it is a dead letter.
func nextTry(f sensor.Firing, attempt int, err error) (time.Duration, bool) {
	steps, wait, factor := backoff(f.RetryStrategy)
	var invalid *workflow.InvalidError
	if attempt >= steps || errors.Is(err, errFinal) || errors.As(err, &invalid) {
		return 0, true
	}
	return time.Duration(float64(wait) * math.Pow(factor, float64(attempt-1))), false
}

// backoff reads a retry strategy: how often, the first wait and its growth. Durations are Go's, or nanoseconds as
// Argo Events takes bare numbers.
func backoff(b *manifest.EventBackoff) (steps int, wait time.Duration, factor float64) {
	steps, wait, factor = 1, time.Second, 1
	if b == nil {
		return steps, wait, factor
	}
	steps = max(int(b.Steps), 1)
	if text := b.Duration.Text(); text != "" {
		if d, err := time.ParseDuration(text); err == nil {
			wait = d
		} else if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			wait = time.Duration(n)
		}
	}
	if n, err := strconv.ParseFloat(b.Factor.Text(), 64); err == nil && n >= 1 {
		factor = n
	}
	return steps, wait, factor
}

// Redrive sends a dead letter again.
func (c *Controller) Redrive(ctx context.Context, key, actor string) error {
	return c.o.Ledger.Write(ctx, func(tx ledger.Tx) error {
		row, err := tx.Get(event.TableFiring, key)
		if err != nil {
			return fmt.Errorf("firing %s: %w", key, err)
		}
		if row.State != "dead" {
			return fmt.Errorf("firing %s is %s: only a dead one can be sent again: %w", key, row.State, ledger.ErrExists)
		}
		var fr event.FiringRow
		if err := json.Unmarshal(row.Body, &fr); err != nil {
			return fmt.Errorf("decode firing %s: %w", key, err)
		}
		rec, err := tx.Append(ledger.Draft{Actor: actor, Kind: event.KindRedriven, Subject: "firing/" + key, Cause: row.Seq, Body: event.Settled{Key: key}})
		if err != nil {
			return err
		}
		return tx.Enqueue(ledger.Work{Queue: queue, Key: key, Due: tx.Now(), Cause: rec.Seq, Body: fr.Firing})
	})
}

func (c *Controller) carryOut(ctx context.Context, f sensor.Firing, cause int64) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lease/2, fmt.Errorf("the trigger took longer than %s", lease/2))
	defer cancel()
	t := f.Template
	switch f.Type {
	case "argoWorkflow":
		return c.workflow(ctx, f, t.ArgoWorkflow.Operation, t.ArgoWorkflow.Source, cause)
	case "k8s":
		return c.workflow(ctx, f, t.K8S.Operation, t.K8S.Source, cause)
	case "http":
		return c.request(ctx, f)
	case "log":
		c.o.Log.Info("log trigger", "sensor", f.Sensor, "trigger", f.Trigger, "events", f.Events)
		return "logged", nil
	}
	return "", fmt.Errorf("trigger type %q is understood but not run by this version (use http): %w", f.Type, errFinal)
}

// workflow makes a run of the trigger's object, once however often it is tried.
func (c *Controller) workflow(ctx context.Context, f sensor.Firing, operation string, src *manifest.TriggerSource, cause int64) (string, error) {
	raw := f.Resource
	if raw == nil {
		var err error
		if raw, err = c.fetch(ctx, f, src); err != nil {
			return "", err
		}
	}
	objects, diags := manifest.Decode("trigger "+f.Trigger, raw)
	if manifest.Failed(diags) || len(objects) != 1 {
		return "", fmt.Errorf("the trigger's object: %w: %w", errOr(manifest.FirstError(diags), "it is not one object"), errFinal)
	}
	if operation != "" && operation != "create" && operation != "submit" {
		return "", fmt.Errorf("operation %q is understood but not run by this version (use submit or create): %w", operation, errFinal)
	}
	if objects[0].Kind != "Workflow" {
		return c.define(ctx, f, objects)
	}
	source := ""
	if f.Resource == nil && src.Git != nil {
		source = src.Git.URL
	}
	return c.submit(ctx, f, objects[0], source, cause)
}

func errOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

func (c *Controller) define(ctx context.Context, f sensor.Firing, objects []manifest.Object) (string, error) {
	ch, err := c.o.Definitions.Apply(ctx, "sensor:"+f.Sensor, "sensor:"+f.Sensor, objects)
	if err != nil {
		return "", fmt.Errorf("apply the trigger's object: %w", err)
	}
	return fmt.Sprint(append(ch.Set, ch.Unchanged...)), nil
}

func (c *Controller) submit(ctx context.Context, f sensor.Firing, obj manifest.Object, source string, cause int64) (string, error) {
	sum := sha256.Sum256([]byte(f.Key))
	mark := hex.EncodeToString(sum[:8])
	labels, seq, err := c.labels(ctx, f)
	if err != nil {
		return "", err
	}
	labels[labelFiring] = mark
	run, err := c.o.Runs.Submit(ctx, runs.Submission{
		Object: obj, Namespace: namespaceOf(f), Labels: labels, Actor: "sensor:" + f.Sensor, Cause: cause, Event: seq,
		Events: slices.Sorted(maps.Values(f.Events)), Source: source, Unique: "run-of/" + f.Key,
	})
	if errors.Is(err, ledger.ErrExists) {
		rows, lerr := c.o.Ledger.List(ctx, ledger.Query{Table: "run", Labels: map[string]string{labelFiring: mark}, Limit: 1})
		if lerr == nil && len(rows) == 1 {
			return "run/" + rows[0].Key, nil
		}
	}
	if err != nil {
		return "", err
	}
	return "run/" + runs.Key(run.Namespace, run.Name), nil
}

func namespaceOf(f sensor.Firing) string {
	for i := range f.Sensor {
		if f.Sensor[i] == '/' {
			return f.Sensor[:i]
		}
	}
	return "default"
}

// labels say what a run was made for; seq is the event's entry.
func (c *Controller) labels(ctx context.Context, f sensor.Firing) (map[string]string, int64, error) {
	out := map[string]string{labelSensor: f.Sensor, labelTrig: f.Trigger}
	var latest int64
	for _, seq := range f.Events {
		e, err := c.bySeq(ctx, seq)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read event %d: %w", seq, err)
		}
		if seq > latest {
			latest = seq
			out[LabelEvent] = e.ID
		}
		gitLabels(e.Git, out)
	}
	return out, latest, nil
}

func gitLabels(g *event.Git, out map[string]string) {
	if g == nil {
		return
	}
	set := func(k, v string) {
		if v != "" {
			out[k] = v
		}
	}
	set(LabelRepo, g.Repo.FullName)
	set(LabelBranch, g.Branch)
	set(LabelTag, g.Tag)
	set(LabelCommit, g.SHA)
	if g.PR != nil {
		set(LabelMR, strconv.Itoa(g.PR.Number))
		set(LabelBranch, g.PR.SourceBranch)
		set(LabelCommit, g.PR.HeadSHA)
	}
}

// fetch reads the trigger's object from where its source says, and puts the parameters in.
func (c *Controller) fetch(ctx context.Context, f sensor.Firing, src *manifest.TriggerSource) ([]byte, error) {
	if src == nil {
		return nil, fmt.Errorf("the trigger has no source: %w", errFinal)
	}
	var raw []byte
	var err error
	switch {
	case src.Git != nil:
		raw, err = c.o.File(ctx, src.Git.URL, revision(src.Git), src.Git.FilePath)
	case src.ConfigMap != nil:
		raw, err = c.configMap(ctx, namespaceOf(f), src.ConfigMap.Name, src.ConfigMap.Key)
	case src.URL != nil:
		raw, err = get(ctx, src.URL.Path)
	default:
		return nil, fmt.Errorf("this source of a trigger's object is understood but not run by this version (use resource, inline, git, configmap or url): %w", errFinal)
	}
	if err != nil {
		return nil, fmt.Errorf("read the trigger's object: %w", err)
	}
	objects, diags := manifest.Decode("trigger "+f.Trigger, raw)
	if err := manifest.FirstError(diags); err != nil || len(objects) != 1 {
		return nil, fmt.Errorf("the trigger's object: %w: %w", errOr(err, "it is not one object"), errFinal)
	}
	return sensor.Apply(objects[0].Tree.JSON(), f.Parameters)
}

// revision is where a Git source points: a commit or ref, a tag, a branch, or the default branch.
func revision(g *manifest.TriggerGit) string {
	switch {
	case g.Ref != "":
		return g.Ref
	case g.Tag != "":
		return "refs/tags/" + g.Tag
	case g.Branch != "":
		return "refs/heads/" + g.Branch
	}
	return "HEAD"
}

func (c *Controller) configMap(ctx context.Context, namespace, name, key string) ([]byte, error) {
	d, err := c.o.Definitions.Get(ctx, "ConfigMap", namespace, name)
	if err != nil {
		return nil, err
	}
	var cm struct {
		Data map[string]string `json:"data"`
	}
	if err := json.Unmarshal(d.Object, &cm); err != nil {
		return nil, fmt.Errorf("decode ConfigMap %s: %w", name, err)
	}
	text, ok := cm.Data[key]
	if !ok {
		return nil, fmt.Errorf("ConfigMap %s has no key %q", name, key)
	}
	return []byte(text), nil
}

// maxFetched bounds what is read over HTTP, in bytes.
const maxFetched = 4 << 20

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxFetched))
}

// request carries out an http trigger. Unlike in Argo an answer of 400 or more is a failure unless the policy
// allows it.
func (c *Controller) request(ctx context.Context, f sensor.Firing) (string, error) {
	h := f.Template.HTTP
	method := h.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, h.URL, bytes.NewReader(f.Payload))
	if err != nil {
		return "", fmt.Errorf("make request: %w: %w", err, errFinal)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", f.Key)
	for k, v := range h.Headers {
		req.Header.Set(k, v)
	}
	for k, v := range f.Headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	allowed := resp.StatusCode < http.StatusBadRequest
	if f.Policy != nil && f.Policy.Status != nil {
		allowed = false
		for _, code := range f.Policy.Status.Allow {
			allowed = allowed || int(code) == resp.StatusCode
		}
	}
	if !allowed {
		return "", fmt.Errorf("%s %s answered %s", method, h.URL, resp.Status)
	}
	return resp.Status, nil
}

// rates keeps triggers to their rate limits.
type rates struct {
	mu   sync.Mutex
	next map[string]time.Time
}

// wait returns when a firing's trigger may fire, false if ctx ended first.
func (r *rates) wait(ctx context.Context, f sensor.Firing, now func() time.Time) bool {
	if f.RateLimit == nil || f.RateLimit.RequestsPerUnit <= 0 {
		return true
	}
	unit := map[string]time.Duration{"Minute": time.Minute, "Hour": time.Hour}[f.RateLimit.Unit]
	if unit == 0 {
		unit = time.Second
	}
	r.mu.Lock()
	key := f.Sensor + "/" + f.Trigger
	at := r.next[key]
	if n := now(); at.Before(n) {
		at = n
	}
	r.next[key] = at.Add(unit / time.Duration(f.RateLimit.RequestsPerUnit))
	r.mu.Unlock()
	d := at.Sub(now())
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
