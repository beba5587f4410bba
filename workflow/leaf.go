package workflow

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
)

// The messages of leaves that are stopped, in Argo's words.
const (
	deadlineMessage    = "Step exceeded its deadline"
	podDeadlineMessage = "Pod was active on the node longer than the specified deadline"
)

// lostLimit is how often an attempt that went away with its machine is made again.
const lostLimit = 3

func shutdownMessage(strategy string) string { return "workflow shutdown with strategy:  " + strategy }

// stopMessage is why work that has not begun must not begin; empty if it may.
func (t *turn) stopMessage(n *node) string {
	switch {
	case t.shutdown(n):
		return shutdownMessage(t.s.run.Shutdown)
	case t.s.expired && !n.Exit:
		return deadlineMessage
	}
	return ""
}

// startPod renders a leaf's template and asks for its pod, or its request.
func (t *turn) startPod(n *node, fresh bool, tm *template) {
	if message := t.stopMessage(n); message != "" {
		if fresh {
			n = t.create(n)
		}
		if n != nil {
			t.finish(n, Failed, message, nil)
		}
		return
	}
	typed, raw, err := t.render(n, tm)
	if err != nil {
		t.refuse(n, fresh, err)
		return
	}
	pod := &podStart{Attempt: t.s.attempts[n.ID], Template: raw, HTTP: n.Type == NodeHTTP, Asks: typed.Data != nil}
	if err := t.deadlineOf(n, typed, pod); err != nil {
		t.refuse(n, fresh, err)
		return
	}
	if fresh {
		n.pod, n.Phase, n.Attempt = pod, Pending, pod.Attempt
		n = t.create(n)
	} else {
		t.change(kindStarted, n, nodeChange{Phase: Pending, Pod: pod, Message: ptr(""), Waiting: ptr("")})
	}
	if n == nil || t.err != nil {
		return
	}
	switch {
	case n.Type == NodeHTTP:
		t.request(n, typed, pod)
		return
	case typed.Data != nil:
		t.listArtifacts(n, typed.Data, pod)
		return
	}
	t.effect(StartPod{Node: n.ID, Attempt: pod.Attempt})
	t.pendingTimer(n, typed)
	if typed.ContainerSet != nil {
		t.createContainers(n, typed.ContainerSet)
	}
}

// render replaces the tags of a leaf's template. The result is recorded with the node: the pod is made from it.
func (t *turn) render(n *node, tm *template) (*manifest.Template, json.RawMessage, error) {
	sc := t.leafScope(n, tm)
	done, err := substitute(tm.leaf, sc)
	if err != nil {
		return nil, nil, err
	}
	var typed manifest.Template
	if err := decodeValue(done, &typed); err != nil {
		return nil, nil, fmt.Errorf("read template %s: %w", tm.name, err)
	}
	if n.Type == NodeHTTP && typed.HTTP == nil || n.Type == NodeSuspend && typed.Suspend == nil {
		return nil, nil, fmt.Errorf("template %s is empty", tm.name)
	}
	if err := t.s.mountRunVolumes(n, &typed); err != nil {
		return nil, nil, err
	}
	raw, err := json.Marshal(typed)
	if err != nil {
		return nil, nil, fmt.Errorf("record template %s: %w", tm.name, err)
	}
	return &typed, raw, nil
}

func (t *turn) leafScope(n *node, tm *template) *scope {
	sc := &scope{s: t.s, now: t.now, chance: &t.chance, inputs: n.Inputs, self: n, outputs: &tm.loose.Outputs, stepName: n.Step}
	sc.declared, _ = tm.tree["inputs"].(map[string]any)
	if sc.inputs == nil {
		sc.inputs = &manifest.Inputs{}
	}
	sc.extra = t.retryValues(n)
	return sc
}

// retryValues are retries and lastRetry.… within an attempt; before the first they have the values that Argo gives
// them, so that what names them can be replaced.
func (t *turn) retryValues(n *node) map[string]any {
	p := t.s.node(n.Parent)
	if n.Role != roleAttempt || p == nil {
		return nil
	}
	values := map[string]any{"lastRetry.exitCode": "0", "lastRetry.status": "", "lastRetry.duration": "0", "lastRetry.message": ""}
	if k := len(p.children); k > 0 && n.Retry > 0 {
		if last := t.s.node(p.children[min(k, n.Retry)-1]); last != nil {
			values = lastRetry(p, last)
		}
	}
	values["retries"] = strconv.Itoa(n.Retry)
	return values
}

// deadlineOf finds the earliest moment at which the attempt must end.
func (t *turn) deadlineOf(n *node, typed *manifest.Template, pod *podStart) error {
	set := func(at time.Time, reason string) {
		if pod.Deadline == nil || at.Before(*pod.Deadline) {
			pod.Deadline, pod.Reason = &at, reason
		}
	}
	if a := typed.ActiveDeadlineSeconds.Text(); a != "" {
		seconds, err := strconv.ParseInt(a, 10, 64)
		if err != nil {
			return fmt.Errorf("activeDeadlineSeconds %q is not a number of seconds", a)
		}
		set(t.now.Add(time.Duration(seconds)*time.Second), podDeadlineMessage)
	}
	if typed.Timeout != "" {
		d, err := parseDuration(typed.Timeout)
		if err != nil {
			return fmt.Errorf("timeout: %w", err)
		}
		begin := t.now
		if n.StartedAt != nil {
			begin = *n.StartedAt
		}
		set(begin.Add(d), deadlineMessage)
	}
	if p := t.s.node(n.Parent); n.Role == roleAttempt && p != nil {
		until, err := t.maxDuration(p)
		if err != nil {
			return err
		}
		if !until.IsZero() {
			set(until, podDeadlineMessage)
		}
	}
	if at := t.s.deadline(); at != nil && !n.Exit {
		set(*at, deadlineMessage)
	}
	return nil
}

func (t *turn) pendingTimer(n *node, typed *manifest.Template) {
	if typed.PendingTimeout == "" {
		return
	}
	if d, err := parseDuration(typed.PendingTimeout); err == nil {
		t.effect(SetTimer{Key: "pending/" + n.ID, At: t.now.Add(d)})
	}
}

// createContainers makes the nodes of a container set's containers below its pod.
func (t *turn) createContainers(n *node, set *manifest.ContainerSetTemplate) {
	for i, c := range set.Containers {
		v := invocation{
			name: n.Name + "." + c.Name, display: c.Name, parent: n, boundary: n, role: roleContainer, step: c.Name, index: i,
			depth: n.Depth, exit: n.Exit,
		}
		for _, d := range c.Dependencies {
			v.after = append(v.after, t.s.nodeID(n.Name+"."+d))
		}
		k := t.newNode(v, NodeContainer)
		k.Phase, k.TemplateName, k.TemplateScope = Pending, n.TemplateName, n.TemplateScope
		t.create(k)
	}
}

// report takes what an executor says about an attempt. What is said of an attempt that is over changes nothing.
func (t *turn) report(r executor.Report) error {
	n := t.s.node(r.ID.Node)
	if n == nil || n.pod == nil || n.pod.Attempt != r.ID.Attempt || n.Phase.Done() {
		return nil
	}
	if !r.Phase.Done() {
		t.progressed(n, r)
		return nil
	}
	if r.Phase == executor.Error && r.Reason == executor.ReasonLost && n.stopped == "" && n.pod.Lost < lostLimit && t.stopMessage(n) == "" {
		t.again(n, r)
		return nil
	}
	t.countRefusal(n, r)
	t.closeContainers(n, r)
	phase, message := t.verdict(n, r)
	var typed manifest.Template
	if err := json.Unmarshal(n.pod.Template, &typed); err != nil {
		return fmt.Errorf("read recorded template of node %s: %w", n.ID, err)
	}
	if failed := failedSidecar(&typed, r); phase == Succeeded && failed != "" {
		phase, message = Failed, failed
	}
	outputs, missing := collect(&typed, r)
	if phase == Succeeded && missing != "" {
		phase, message = Error, missing
	}
	t.cancelPending(n)
	outputs, why := t.boundResult(n, outputs)
	if why != nil || r.Host != "" && n.HostNodeName == "" {
		t.change(kindChanged, n, nodeChange{Host: r.Host, PodIP: r.IP, Why: why})
	}
	t.finish(n, phase, message, outputs)
	return nil
}

func (t *turn) cancelPending(n *node) {
	if n.Phase != Pending {
		return
	}
	var typed struct {
		PendingTimeout string `json:"pendingTimeout"`
	}
	if json.Unmarshal(n.pod.Template, &typed) == nil && typed.PendingTimeout != "" {
		t.effect(CancelTimer{Key: "pending/" + n.ID})
	}
}

// progressed takes news of an attempt that goes on.
func (t *turn) progressed(n *node, r executor.Report) {
	if r.Phase != executor.Running {
		if r.Message != "" && r.Message != n.Message {
			t.change(kindChanged, n, nodeChange{Message: &r.Message})
		}
		return
	}
	c := nodeChange{PodIP: r.IP, Host: r.Host}
	first := n.Phase != Running
	if first {
		c.Phase = Running
		if n.Message != "" {
			c.Message = ptr("")
		}
		t.cancelPending(n)
	}
	daemon := t.s.isDaemon(n) && n.Daemoned == nil && ready(r)
	if !first && !daemon && (r.IP == "" || r.IP == n.PodIP) {
		return
	}
	wasActive := n.active
	if daemon {
		c.Daemoned = ptr(true)
	}
	t.change(kindStarted, n, c)
	if first {
		t.runningContainers(n)
		t.runningHooks(n)
	}
	if daemon {
		if wasActive {
			t.free(n)
		}
		t.trySettleDaemon(n)
	}
}

func (s *State) isDaemon(n *node) bool {
	tm, err := s.templateAt(n.Template)
	return err == nil && tm.loose.Daemon != nil && *tm.loose.Daemon
}

// ready reports whether the main container passes its readiness probe; an executor that says nothing of
// containers says Running only when it does.
func ready(r executor.Report) bool {
	for _, c := range r.Containers {
		if c.Name == "main" {
			return c.Ready
		}
	}
	return true
}

// trySettleDaemon lets the steps behind a daemon go on while it runs.
func (t *turn) trySettleDaemon(n *node) {
	if n.settled {
		return
	}
	t.change(kindSettled, n, nodeChange{Settled: ptr(true)})
	t.tell(n)
}

// killDaemons ends the daemons of a steps or dag template that has ended.
func (t *turn) killDaemons(b *node) { t.killDaemonsOf(b.ID) }

func (t *turn) killDaemonsOf(boundary string) {
	for _, id := range append([]string(nil), t.s.daemons[boundary]...) {
		n := t.s.node(id)
		if n == nil || n.Phase.Done() {
			continue
		}
		t.killDaemon(n)
	}
}

// killDaemon ends a daemon, and of one that is tried again the attempt that is under way.
func (t *turn) killDaemon(n *node) {
	if n.pod != nil {
		t.effect(StopPod{Node: n.ID, Attempt: n.pod.Attempt})
	}
	t.finish(n, Succeeded, "", n.Outputs)
	if n.Type != NodeRetry {
		return
	}
	if n.wake != nil {
		t.effect(CancelTimer{Key: "retry/" + n.ID})
	}
	for _, c := range t.s.childrenOf(n) {
		if !c.Phase.Done() {
			t.killDaemon(c)
		}
	}
}

// again opens a new attempt at a pod that went away with its machine; the old one stays as evidence.
func (t *turn) again(n *node, r executor.Report) {
	started, finished := r.StartedAt, r.FinishedAt
	ended := &Attempt{Node: n.ID, Name: n.Name, Attempt: n.pod.Attempt, Phase: Error, Reason: r.Reason, Message: r.Message, Host: r.Host}
	if !started.IsZero() {
		ended.StartedAt = &started
	}
	if finished.IsZero() {
		finished = t.now
	}
	ended.FinishedAt = &finished
	pod := *n.pod
	pod.Attempt++
	pod.Lost++
	pod.Template = nil // unchanged: Apply keeps it
	why := "attempt " + strconv.Itoa(ended.Attempt) + " was lost with its machine; begun again"
	t.change(kindAttempt, n, nodeChange{Phase: Pending, Pod: &pod, Ended: ended, Why: &why})
	t.effect(StartPod{Node: n.ID, Attempt: pod.Attempt})
}

// verdict says what a final report means for the run.
func (t *turn) verdict(n *node, r executor.Report) (Phase, string) {
	switch r.Phase {
	case executor.Succeeded:
		return Succeeded, ""
	case executor.Failed:
		switch {
		case n.stopped != "":
			return Failed, n.stopped
		case r.Reason == executor.ReasonDeadline:
			if n.pod.Reason != "" {
				return Failed, n.pod.Reason
			}
			return Failed, podDeadlineMessage
		case r.Message == "" && r.ExitCode != nil:
			return Failed, "main: Error (exit code " + strconv.Itoa(*r.ExitCode) + ")"
		case r.Message == "":
			return Failed, "the pod failed" + because(r.Reason)
		}
		return Failed, r.Message
	}
	switch {
	case n.stopped != "":
		return Failed, n.stopped
	case r.Message == "" && r.Reason == executor.ReasonLost:
		return Error, "the pod was lost with its machine"
	case r.Message == "":
		return Error, "the pod could not be run" + because(r.Reason)
	}
	return Error, r.Message
}

// failedSidecar is the message of a sidecar that failed; empty if none did. One that was killed or asked to end, which all are in the end,
// has not (inferFailedReason in workflow/controller/operator.go of Argo).
func failedSidecar(typed *manifest.Template, r executor.Report) string {
	for _, side := range typed.Sidecars {
		for _, c := range r.Containers {
			ended := c.State.Terminated
			if c.Name != side.Name || ended == nil {
				continue
			}
			switch ended.ExitCode {
			case 0, 128 + 9, 128 + 15:
			default:
				return side.Name + ": Error (exit code " + strconv.Itoa(int(ended.ExitCode)) + ")"
			}
		}
	}
	return ""
}

func because(reason string) string {
	if reason == "" {
		return "; the executor does not say why"
	}
	return ": " + reason
}

// collect makes the node's outputs of what was reported. Missing says which declared output is not there and has
// no default.
func collect(typed *manifest.Template, r executor.Report) (*manifest.Outputs, string) {
	o := &manifest.Outputs{Result: r.Result}
	missing := ""
	if r.ExitCode != nil {
		o.ExitCode = ptr(strconv.Itoa(*r.ExitCode))
	}
	for _, p := range typed.Outputs.Parameters {
		out := p
		if v, ok := r.Parameters[p.Name]; ok {
			out.Value = manifest.NewAnyString(v)
		} else if p.ValueFrom != nil && p.ValueFrom.Default != nil {
			out.Value = p.ValueFrom.Default
		} else if p.ValueFrom != nil && p.ValueFrom.Path != "" {
			if missing == "" {
				missing = "output parameter '" + p.Name + "' has no value: there is no file " + p.ValueFrom.Path
			}
			if r.Phase != executor.Succeeded {
				continue
			}
		}
		o.Parameters = append(o.Parameters, out)
	}
	saved := map[string]manifest.Artifact{}
	for _, a := range r.Saved {
		saved[a.Name] = a
	}
	for _, a := range typed.Outputs.Artifacts {
		got, ok := saved[a.Name]
		switch {
		case ok:
			got.GlobalName = a.GlobalName
			if got.Path == "" {
				got.Path = a.Path
			}
			if got.Archive == nil {
				got.Archive = a.Archive
			}
			o.Artifacts = append(o.Artifacts, got)
			delete(saved, a.Name)
		case !a.Optional && missing == "":
			missing = "output artifact '" + a.Name + "' was not saved: there is no file " + a.Path
		}
	}
	for _, a := range r.Saved {
		if _, extra := saved[a.Name]; extra {
			o.Artifacts = append(o.Artifacts, a)
		}
	}
	if o.Result == nil && o.ExitCode == nil && len(o.Parameters)+len(o.Artifacts) == 0 {
		o = nil
	}
	return o, missing
}

func (t *turn) runningContainers(n *node) {
	for _, c := range t.s.childrenOf(n) {
		if c.Type == NodeContainer && c.Phase == Pending {
			t.change(kindStarted, c, nodeChange{Phase: Running})
		}
	}
}

// closeContainers ends the nodes of a container set with their pod.
func (t *turn) closeContainers(n *node, r executor.Report) {
	for _, c := range byDependency(t.s.childrenOf(n)) {
		if c.Type != NodeContainer {
			continue
		}
		phase, message := Succeeded, ""
		if r.Phase != executor.Succeeded {
			phase, message = t.unrun(c)
		}
		for _, st := range r.Containers {
			term := st.State.Terminated
			if st.Name != c.Step || term == nil {
				continue
			}
			phase = Succeeded
			if term.ExitCode != 0 {
				phase, message = Failed, "Error (exit code "+strconv.Itoa(int(term.ExitCode))+")"
			}
		}
		t.finish(c, phase, message, nil)
	}
}

// byDependency orders the containers of a set so that each comes behind those that it depends on.
func byDependency(list []*node) []*node {
	known := map[string]*node{}
	for _, n := range list {
		known[n.ID] = n
	}
	out, seen := make([]*node, 0, len(list)), map[string]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if n == nil || seen[n.ID] {
			return
		}
		seen[n.ID] = true
		for _, id := range n.After {
			visit(known[id])
		}
		out = append(out, n)
	}
	for _, n := range list {
		visit(n)
	}
	return out
}

// unrun is the end of a container of a set that was not run. In Argo one whose dependency failed ends itself with an exit code
// (the loop over Dependencies in cmd/argoexec/commands/emissary.go), and so has failed itself.
func (t *turn) unrun(c *node) (Phase, string) {
	for _, id := range c.After {
		if before := t.s.node(id); before != nil && before.Phase.bad() {
			return Failed, fmt.Sprintf("dependency %q failed, so that this container was not run", before.Step)
		}
	}
	return Omitted, ""
}

// startSuspend lets a suspend node wait for a person or for its duration.
func (t *turn) startSuspend(n *node, fresh bool, tm *template) {
	if message := t.stopMessage(n); message != "" {
		if fresh {
			n = t.create(n)
		}
		if n != nil {
			t.finish(n, Failed, message, nil)
		}
		return
	}
	typed, raw, err := t.render(n, tm)
	if err != nil {
		t.refuse(n, fresh, err)
		return
	}
	pod := &podStart{Template: raw}
	waiting := "waits to be resumed"
	if d := typed.Suspend.Duration.String(); d != "" {
		wait, err := parseDuration(d)
		if err != nil {
			t.refuse(n, fresh, fmt.Errorf("suspend duration: %w", err))
			return
		}
		at := t.now.Add(wait)
		pod.Deadline = &at
		waiting = "waits until " + at.Format(time.RFC3339)
	}
	if fresh {
		n.pod, n.Phase, n.Why = pod, Running, waiting
		n.Outputs = suppliedOutputs(&typed.Outputs)
		n = t.create(n)
	} else {
		t.change(kindStarted, n, nodeChange{Phase: Running, Pod: pod, Why: &waiting, Message: ptr(""), Waiting: ptr(""), Outputs: suppliedOutputs(&typed.Outputs)})
	}
	if n == nil || t.err != nil {
		return
	}
	if pod.Deadline != nil {
		t.effect(SetTimer{Key: "node/" + n.ID, At: *pod.Deadline})
	}
	t.runningHooks(n)
}

func suppliedOutputs(o *manifest.Outputs) *manifest.Outputs {
	if len(o.Parameters) == 0 {
		return nil
	}
	return &manifest.Outputs{Parameters: append([]manifest.Parameter(nil), o.Parameters...)}
}

// resumeNode ends a suspend node well, if its supplied outputs all have a value.
func (t *turn) resumeNode(n *node, values map[string]string) error {
	o := n.Outputs
	if o != nil {
		c := &manifest.Outputs{}
		for _, p := range o.Parameters {
			if v, ok := values[p.Name]; ok {
				p.Value = manifest.NewAnyString(v)
			}
			if p.Value == nil && p.ValueFrom != nil {
				if p.ValueFrom.Default == nil {
					return fmt.Errorf("raw output parameter '%s' has not been set and does not have a default value", p.Name)
				}
				p.Value = p.ValueFrom.Default
			}
			p.ValueFrom = nil
			c.Parameters = append(c.Parameters, p)
		}
		o = c
	}
	t.finish(n, Succeeded, "", o)
	return nil
}

// fired takes a timer that is due. A timer that came too late changes nothing.
func (t *turn) fired(key string) error {
	if key == "deadline" {
		t.expire()
		return nil
	}
	verb, id, _ := cutKey(key)
	n := t.s.node(id)
	if n == nil || n.Phase.Done() {
		return nil
	}
	switch verb {
	case "node":
		if n.asks() {
			t.finish(n, Failed, n.pod.Reason, nil)
			return nil
		}
		if n.Type != NodeSuspend {
			return nil
		}
		if err := t.resumeNode(n, nil); err != nil {
			t.finish(n, Failed, err.Error(), nil)
		}
	case "retry":
		if n.Type == NodeRetry && n.wake != nil && n.open == 0 {
			t.change(kindChanged, n, nodeChange{Message: ptr(""), Why: ptr(""), Wake: &time.Time{}})
			t.newAttempt(n)
		}
	case "pending":
		if n.Phase == Pending && n.pod != nil {
			t.stopPod(n, "pending timeout exceeded")
		}
	}
	return nil
}

func (t *turn) stopPod(n *node, message string) {
	if n.stopped != "" {
		return
	}
	t.change(kindChanged, n, nodeChange{Stopped: message})
	t.effect(StopPod{Node: n.ID, Attempt: n.pod.Attempt})
}
