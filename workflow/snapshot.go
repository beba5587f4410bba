package workflow

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
)

// SnapshotVersion is that of what [State.Snapshot] gives. It is raised whenever State has another field, or [Apply] derives something else
// from the same entries: then what earlier versions kept says something else than a replay would.
const SnapshotVersion = 4

// A snapshot is the SHA-256 of what follows; the length of its head in eight bytes; the head in JSON; and the pieces of its nodes, each compressed
// for itself. Of a large run nearly all is nodes, and of those a run that goes on needs few: a piece is read when somebody asks for one of its nodes.

// savedState is the head: a State without its nodes, and without what can be derived from it.
type savedState struct {
	Run      Run                 `json:"run"`
	Start    submitted           `json:"start"`
	Pieces   []savedPiece        `json:"pieces"`
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
	pieces, bodies, err := s.pieces()
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(s.head(pieces))
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint64(make([]byte, sha256.Size, sha256.Size+8+len(head)+len(bodies)), uint64(len(head)))
	out = append(append(out, head...), bodies...)
	sum := sha256.Sum256(out[sha256.Size:])
	copy(out, sum[:])
	return out, nil
}

// head gives what is saved of a state whose nodes are in these pieces.
func (s *State) head(pieces []savedPiece) savedState {
	out := savedState{
		Run: s.run, Start: s.start, Pieces: pieces, Count: s.count, Root: s.root, Exit: s.exit, Hook: s.hook, Pods: s.pods,
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

// RestoreState reads what [State.Snapshot] of this version gave, and keeps raw.
func RestoreState(raw []byte) (*State, error) {
	if len(raw) < sha256.Size+8 {
		return nil, fmt.Errorf("read the kept state of a run: it has %d bytes", len(raw))
	}
	if sha256.Sum256(raw[sha256.Size:]) != [sha256.Size]byte(raw) {
		return nil, errors.New("read the kept state of a run: it is not what was kept")
	}
	raw = raw[sha256.Size:]
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
	if err := s.layDown(in.Pieces, raw[size:]); err != nil {
		return nil, fmt.Errorf("read the kept state of run %s/%s: %w", s.run.Namespace, s.run.Name, err)
	}
	return s, s.loadSpec()
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
