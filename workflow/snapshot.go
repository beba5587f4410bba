package workflow

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/tiphys/tiphys/manifest"
)

// SnapshotVersion is that of what [State.Snapshot] gives. It is raised whenever State has another field, or [Apply] derives something else
// from the same entries: then what earlier versions kept says something else than a replay would.
const SnapshotVersion = 2

// A snapshot is the length of its head in bytes, in eight of them, the head in JSON, and then the nodes in CBOR, one after the other in order of
// creation. Of a large run nearly all is nodes, and CBOR (RFC 8949) is read several times faster than JSON.

// savedState is the head: a State without its nodes, and without what can be derived from it.
type savedState struct {
	Run      Run                 `json:"run"`
	Start    submitted           `json:"start"`
	Nodes    int                 `json:"nodes"` // how many there are
	Count    int                 `json:"count"`
	Root     string              `json:"root,omitempty"`
	Exit     string              `json:"exit,omitempty"`
	Hook     map[string]string   `json:"hook,omitempty"`
	Pods     int                 `json:"pods,omitempty"`
	Progress [2]int              `json:"progress"`
	Outputs  manifest.Outputs    `json:"outputs"`
	Lock     lockState           `json:"lock,omitempty"`
	Blocked  map[string][]string `json:"blocked,omitempty"`
	Attempts map[string]int      `json:"attempts,omitempty"`
	Objects  []pinned            `json:"objects,omitempty"`
	Retries  int                 `json:"retries,omitempty"`
	Expired  bool                `json:"expired,omitempty"`
	Daemons  map[string][]string `json:"daemons,omitempty"`
}

// savedNode is a node.
type savedNode struct {
	Node Node   `json:"node"`           // without what is in Rest
	Plan plan   `json:"plan"`           // without what is in Rest
	Rest []byte `json:"rest,omitempty"` // nodeRest in JSON

	Planned   bool              `json:"planned,omitempty"`
	BlockedOn string            `json:"blockedOn,omitempty"`
	Settled   bool              `json:"settled,omitempty"`
	Lock      lockState         `json:"lock,omitempty"`
	Memo      bool              `json:"memo,omitempty"`
	Asked     bool              `json:"asked,omitempty"`
	Need      bool              `json:"need,omitempty"`
	Pod       *podStart         `json:"pod,omitempty"`
	Active    bool              `json:"active,omitempty"`
	Stopped   string            `json:"stopped,omitempty"`
	Wake      *time.Time        `json:"wake,omitempty"`
	Expect    int               `json:"expect,omitempty"`
	Refused   int               `json:"refused,omitempty"`
	Children  []string          `json:"children,omitempty"`
	Open      int               `json:"open,omitempty"`
	Bad       int               `json:"bad,omitempty"`
	Running   int               `json:"running,omitempty"`
	Failures  int               `json:"failures,omitempty"`
	Hooks     map[string]string `json:"hooks,omitempty"`
	HooksOut  int               `json:"hooksOut,omitempty"`
	Counted   bool              `json:"counted,omitempty"`
}

// nodeRest is what of a node has values of any type or a form of JSON of its own, which only JSON gives back as it was.
type nodeRest struct {
	Inputs   *manifest.Inputs        `json:"inputs,omitempty"`
	Outputs  *manifest.Outputs       `json:"outputs,omitempty"`
	Strategy *manifest.RetryStrategy `json:"strategy,omitempty"`
}

// nodeForm writes and reads nodes as they are: strings that are not UTF-8 too, times to the nanosecond, and as many children as a node may have.
type nodeForm struct {
	write cbor.EncMode
	read  cbor.DecMode
}

func newNodeForm() (nodeForm, error) {
	const most = 1 << 27 // the library's own limits are for what comes from outside
	write, err := cbor.EncOptions{Sort: cbor.SortBytewiseLexical, Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		return nodeForm{}, err
	}
	read, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid, MaxArrayElements: most, MaxMapPairs: most}.DecMode()
	return nodeForm{write, read}, err
}

// Snapshot gives the state in a form that [RestoreState] reads, so that a run need not be replayed from its start. Two states that decide
// alike give the same bytes.
func (s *State) Snapshot() ([]byte, error) {
	raw, err := s.snapshot()
	if err != nil {
		return nil, fmt.Errorf("keep the state of run %s/%s: %w", s.run.Namespace, s.run.Name, err)
	}
	return raw, nil
}

func (s *State) snapshot() ([]byte, error) {
	form, err := newNodeForm()
	if err != nil {
		return nil, err
	}
	var nodes bytes.Buffer
	count, writer := 0, form.write.NewEncoder(&nodes)
	for _, n := range s.order {
		if n.gone {
			continue
		}
		saved, err := n.saved()
		if err != nil {
			return nil, err
		}
		if err := writer.Encode(saved); err != nil {
			return nil, err
		}
		count++
	}
	head, err := json.Marshal(s.head(count))
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(head)+nodes.Len()), uint64(len(head)))
	return append(append(out, head...), nodes.Bytes()...), nil
}

// head gives what is saved of a state that has so many nodes.
func (s *State) head(nodes int) savedState {
	out := savedState{
		Run: s.run, Start: s.start, Nodes: nodes, Count: s.count, Root: s.root, Exit: s.exit, Hook: s.hook, Pods: s.pods,
		Progress: s.progress, Outputs: s.outputs, Lock: s.lock, Blocked: s.blocked, Attempts: s.attempts, Retries: s.retries, Expired: s.expired,
		Daemons: s.daemons,
	}
	out.Start.Objects = nil // they are among the others
	for ref, body := range s.objects {
		out.Objects = append(out.Objects, pinned{Ref: ref, Body: body})
	}
	slices.SortFunc(out.Objects, func(a, b pinned) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return out
}

// RestoreState reads what [State.Snapshot] of this version gave.
func RestoreState(raw []byte) (*State, error) {
	if len(raw) < 8 {
		return nil, fmt.Errorf("read the kept state of a run: it has %d bytes", len(raw))
	}
	size, raw := binary.BigEndian.Uint64(raw), raw[8:]
	if size > uint64(len(raw)) {
		return nil, fmt.Errorf("read the kept state of a run: its head claims to have %d bytes, of %d", size, len(raw))
	}
	var in savedState
	if err := json.Unmarshal(raw[:size], &in); err != nil {
		return nil, fmt.Errorf("read the kept state of a run: %w", err)
	}
	s := NewState()
	s.run, s.start, s.count, s.root, s.exit, s.pods, s.progress, s.outputs = in.Run, in.Start, in.Count, in.Root, in.Exit, in.Pods, in.Progress, in.Outputs
	s.lock, s.retries, s.expired = in.Lock, in.Retries, in.Expired
	keep(s.hook, in.Hook)
	keep(s.blocked, in.Blocked)
	keep(s.attempts, in.Attempts)
	keep(s.daemons, in.Daemons)
	for _, p := range in.Objects {
		s.objects[p.Ref] = p.Body
	}
	if err := s.restoreNodes(in.Nodes, raw[size:]); err != nil {
		return nil, fmt.Errorf("read the kept state of run %s/%s: %w", s.run.Namespace, s.run.Name, err)
	}
	return s, s.loadSpec()
}

// restoreNodes reads so many nodes, and no more.
func (s *State) restoreNodes(count int, raw []byte) error {
	if count < 0 || count > len(raw) {
		return fmt.Errorf("it claims to have %d nodes, in %d bytes", count, len(raw))
	}
	form, err := newNodeForm()
	if err != nil {
		return err
	}
	s.order, s.nodes = make([]*node, 0, count), make(map[string]*node, count)
	for range count {
		var saved savedNode
		if raw, err = form.read.UnmarshalFirst(raw, &saved); err != nil {
			return err
		}
		n, err := saved.node()
		if err != nil {
			return err
		}
		if n.ID == "" || s.nodes[n.ID] != nil {
			return fmt.Errorf("node %q is there twice or has no id", n.ID)
		}
		s.nodes[n.ID] = n
		s.order = append(s.order, n)
	}
	if len(raw) > 0 {
		return fmt.Errorf("%d bytes follow the last node", len(raw))
	}
	return nil
}

// keep copies a map into one that is not nil.
func keep[V any](to, from map[string]V) {
	for k, v := range from {
		to[k] = v
	}
}

// saved gives a node in the form in which it is kept.
func (n *node) saved() (savedNode, error) {
	out := savedNode{
		Node: n.Node, Plan: n.plan, Planned: n.planned, BlockedOn: n.blockedOn, Settled: n.settled, Lock: n.lock, Memo: n.memo, Asked: n.asked, Need: n.need,
		Pod: n.pod, Active: n.active, Stopped: n.stopped, Wake: n.wake, Expect: n.expect, Refused: n.refused, Children: n.children, Open: n.open, Bad: n.bad,
		Running: n.running, Failures: n.failures, Hooks: n.hooks, HooksOut: n.hooksOut, Counted: n.counted,
	}
	rest := nodeRest{Strategy: n.Strategy}
	out.Plan.Strategy = nil
	if n.Inputs != nil && len(n.Inputs.Artifacts) > 0 {
		rest.Inputs, out.Node.Inputs = n.Inputs, nil
	}
	if n.Outputs != nil && len(n.Outputs.Artifacts) > 0 {
		rest.Outputs, out.Node.Outputs = n.Outputs, nil
	}
	if rest == (nodeRest{}) {
		return out, nil
	}
	var err error
	out.Rest, err = json.Marshal(rest)
	return out, err
}

// node gives back the node that was kept.
func (n *savedNode) node() (*node, error) {
	out := &node{
		Node: n.Node, plan: n.Plan, planned: n.Planned, blockedOn: n.BlockedOn, settled: n.Settled, lock: n.Lock, memo: n.Memo, asked: n.Asked, need: n.Need,
		pod: n.Pod, active: n.Active, stopped: n.Stopped, wake: n.Wake, expect: n.Expect, refused: n.Refused, children: n.Children, open: n.Open, bad: n.Bad,
		running: n.Running, failures: n.Failures, hooks: n.Hooks, hooksOut: n.HooksOut, counted: n.Counted,
	}
	if len(n.Rest) == 0 {
		return out, nil
	}
	var rest nodeRest
	if err := json.Unmarshal(n.Rest, &rest); err != nil {
		return nil, fmt.Errorf("node %q: %w", n.Node.ID, err)
	}
	out.Strategy = rest.Strategy
	if rest.Inputs != nil {
		out.Inputs = rest.Inputs
	}
	if rest.Outputs != nil {
		out.Outputs = rest.Outputs
	}
	return out, nil
}
