package workflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
)

// SnapshotVersion is that of what [State.Snapshot] gives. It is raised whenever State has another field, or [Apply] derives something else
// from the same entries: then what earlier versions kept says something else than a replay would.
const SnapshotVersion = 1

// savedState is a State without what can be derived from it.
type savedState struct {
	Run      Run                 `json:"run"`
	Start    submitted           `json:"start"`
	Nodes    []savedNode         `json:"nodes"` // in order of creation
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
	Node Node `json:"node"`
	Plan plan `json:"plan"`

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

// Snapshot gives the state in a form that [RestoreState] reads, so that a run need not be replayed from its start. Two states that decide
// alike give the same bytes.
func (s *State) Snapshot() ([]byte, error) {
	out := savedState{
		Run: s.run, Start: s.start, Nodes: make([]savedNode, 0, len(s.nodes)), Count: s.count, Root: s.root, Exit: s.exit, Hook: s.hook, Pods: s.pods,
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
	for _, n := range s.order {
		if !n.gone {
			out.Nodes = append(out.Nodes, n.saved())
		}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("keep the state of run %s/%s: %w", s.run.Namespace, s.run.Name, err)
	}
	return raw, nil
}

// RestoreState reads what [State.Snapshot] of this version gave.
func RestoreState(raw []byte) (*State, error) {
	var in savedState
	if err := json.Unmarshal(raw, &in); err != nil {
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
	s.order = make([]*node, 0, len(in.Nodes))
	for i := range in.Nodes {
		n := in.Nodes[i].node()
		if n.ID == "" || s.nodes[n.ID] != nil {
			return nil, fmt.Errorf("read the kept state of run %s/%s: node %q is there twice or has no id", s.run.Namespace, s.run.Name, n.ID)
		}
		s.nodes[n.ID] = n
		s.order = append(s.order, n)
	}
	return s, s.loadSpec()
}

// keep copies a map into one that is not nil.
func keep[V any](to, from map[string]V) {
	for k, v := range from {
		to[k] = v
	}
}

func (n *node) saved() savedNode {
	return savedNode{
		Node: n.Node, Plan: n.plan, Planned: n.planned, BlockedOn: n.blockedOn, Settled: n.settled, Lock: n.lock, Memo: n.memo, Asked: n.asked, Need: n.need,
		Pod: n.pod, Active: n.active, Stopped: n.stopped, Wake: n.wake, Expect: n.expect, Refused: n.refused, Children: n.children, Open: n.open, Bad: n.bad,
		Running: n.running, Failures: n.failures, Hooks: n.hooks, HooksOut: n.hooksOut, Counted: n.counted,
	}
}

func (n savedNode) node() *node {
	return &node{
		Node: n.Node, plan: n.Plan, planned: n.Planned, blockedOn: n.BlockedOn, settled: n.Settled, lock: n.Lock, memo: n.Memo, asked: n.Asked, need: n.Need,
		pod: n.Pod, active: n.Active, stopped: n.Stopped, wake: n.Wake, expect: n.Expect, refused: n.Refused, children: n.Children, open: n.Open, bad: n.Bad,
		running: n.Running, failures: n.Failures, hooks: n.Hooks, hooksOut: n.HooksOut, counted: n.Counted,
	}
}
