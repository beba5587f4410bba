package workflow

import (
	"encoding/json"
	"iter"
	"sort"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
)

// State is one run as the engine sees it. It has one owner and is changed in place, by [Apply] only; what else it
// holds is derived from that and can be derived again. Begin with [NewState].
type State struct {
	run   Run
	start submitted

	spec   manifest.WorkflowSpec // typed view of what is not templated per node
	nodes  map[string]*node      // those that are awake; see node
	order  []*node               // in order of creation; removed ones are skipped, those that are asleep are nil; see all
	asleep asleep
	count  int // nodes ever created

	root string // id of the entrypoint's node
	exit string // id of the exit handler's node
	hook map[string]string

	pods     int // pods that take a place of spec.parallelism
	progress [2]int
	outputs  manifest.Outputs
	lock     lockState
	blocked  map[string][]string // nodes that wait for a place, in order, by who is full: a boundary or "" for the run
	attempts map[string]int      // next attempt by node id, for nodes that were removed by a retry
	objects  map[Ref]json.RawMessage
	retries  int
	expired  bool                // the run's deadline has passed
	daemons  map[string][]string // daemons that are ready, by boundary

	cache cache
}

// NewState is a run that has not been submitted.
func NewState() *State {
	return &State{
		nodes:    map[string]*node{},
		hook:     map[string]string{},
		blocked:  map[string][]string{},
		daemons:  map[string][]string{},
		attempts: map[string]int{},
		objects:  map[Ref]json.RawMessage{},
		cache:    newCache(),
	}
}

// node is a node with what only the engine needs.
type node struct {
	Node
	plan

	planned   bool   // not yet shown: it waits for a place
	blockedOn string // who is full, while planned
	gone      bool   // removed by a manual retry, or never begun
	settled   bool   // it and its hooks have ended, or it is a daemon that is ready
	lock      lockState
	memo      bool // it waits for a memoised result
	asked     bool // it has asked for one
	need      bool // it waits for objects
	pod       *podStart
	active    bool // it takes a place of its boundary's parallelism
	stopped   string
	wake      *time.Time // when a retry goes on
	expect    int        // children that a loop will have
	refused   int        // attempts in a row, this one the last, that never began

	children []string
	open     int // children that have not settled
	bad      int // children that settled as Failed or Error
	running  int // direct invocations below this boundary that run (parallelism)
	failures int // invocations below this boundary that ended badly
	hooks    map[string]string
	hooksOut int  // hooks that have not settled
	counted  bool // part of the progress
}

// plan is what a node was made from. It is recorded when the node is created.
type plan struct {
	// Template is the key of its template; see templateAt.
	Template string `json:"template,omitempty"`
	// Site is the step ("0/1") or task ("3") of the boundary's template that made it, or the hook's name.
	Site string `json:"site,omitempty"`
	// Name of the step or task.
	Step string `json:"step,omitempty"`
	// Role says what the node is to its parent.
	Role role `json:"role,omitempty"`
	// Item is the loop item, Index its place.
	Item  json.RawMessage `json:"item,omitempty"`
	Index int             `json:"index,omitempty"`
	Depth int             `json:"depth,omitempty"`
	// Exit marks everything below an exit handler: Stop does not end it.
	Exit bool `json:"exit,omitempty"`
	// Retry is the number of earlier attempts of a node made by a retry.
	Retry int `json:"retry,omitempty"`
	// Strategy is the rendered retry strategy of a Retry node.
	Strategy *manifest.RetryStrategy `json:"strategy,omitempty"`
}

// role says what a node is to its parent.
type role string

const (
	roleStep      role = ""          // a step, task or entrypoint: an invocation of a template
	roleGroup     role = "group"     // a step group, or the group of a looped task
	roleAttempt   role = "attempt"   // one attempt of a retry
	roleHook      role = "hook"      // a lifecycle hook
	roleExit      role = "exit"      // an exit handler
	roleContainer role = "container" // a container of a container set
)

// lockState is where a holder stands with its locks.
type lockState string

const (
	lockNone    lockState = ""
	lockWaiting lockState = "waiting"
	lockHeld    lockState = "held"
)

// podStart is what a pod, request or timer was started with.
type podStart struct {
	Attempt int `json:"attempt"`
	// Template is the rendered template.
	Template json.RawMessage `json:"template,omitempty"`
	// Deadline ends the attempt; Reason says which rule set it.
	Deadline *time.Time `json:"deadline,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	// Lost counts the attempts before this one that went away with their machine.
	Lost int `json:"lost,omitempty"`
	// HTTP marks a request instead of a pod.
	HTTP bool `json:"http,omitempty"`
	// Asks marks a question, such as a list of artifacts, instead of a pod.
	Asks bool `json:"asks,omitempty"`
}

// Run is the summary of the run.
func (s *State) Run() Run {
	r := s.run
	r.Progress = s.progressText()
	if len(s.outputs.Parameters)+len(s.outputs.Artifacts) > 0 {
		o := s.outputs
		r.Outputs = &o
	}
	return r
}

// Node gives a node by its id, without Children and OutboundNodes. Nodes that only wait for a place are not there.
func (s *State) Node(id string) (Node, bool) {
	n := s.node(id)
	if n == nil || n.planned {
		return Node{}, false
	}
	return n.Node, true
}

// Nodes yields the nodes in order of creation, without Children and OutboundNodes.
func (s *State) Nodes() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		for _, n := range s.all() {
			if !n.gone && !n.planned && !yield(n.Node) {
				return
			}
		}
	}
}

// Attempts lists the pods that the run still waits for, for a server that starts again.
func (s *State) Attempts() []executor.ID {
	var ids []executor.ID
	for _, n := range s.live() {
		if !n.gone && n.live() {
			ids = append(ids, executor.ID{Owner: s.run.UID, Node: n.ID, Attempt: n.pod.Attempt})
		}
	}
	return ids
}

// live says that a pod of the node has not ended.
func (n *node) live() bool { return n.pod != nil && n.Type == NodePod && !n.Phase.Done() }

// Want says whether a run still waits for an attempt at a pod.
type Want string

// What a run wants of an attempt: Wanted that it runs, Stopped that it ends, Over that nothing is heard of it any more.
const (
	Wanted  Want = "wanted"
	Stopped Want = "stopped"
	Over    Want = "over"
)

// Wants says what the run wants of an attempt. It is how a stop is remembered that came before the start.
func (s *State) Wants(id string, attempt int) Want {
	n := s.node(id)
	switch {
	case n == nil || n.pod == nil || n.pod.Attempt != attempt || n.Phase.Done() || s.run.Phase.Done():
		return Over
	case n.stopped != "":
		return Stopped
	}
	return Wanted
}

// Workflow is the merged manifest that is run, as JSON.
func (s *State) Workflow() json.RawMessage { return s.start.Workflow }

// Done reports whether the run has ended.
func (s *State) Done() bool { return s.run.Phase.Done() }

func (s *State) progressText() string {
	if s.progress[1] == 0 {
		return ""
	}
	return itoa(s.progress[0]) + "/" + itoa(s.progress[1])
}

// children gives the nodes below n in order of creation.
func (s *State) childrenOf(n *node) []*node {
	out := make([]*node, 0, len(n.children))
	for _, id := range n.children {
		if c := s.node(id); c != nil {
			out = append(out, c)
		}
	}
	return out
}

// fulfilled is Argo's: ended, or a daemon that is ready.
func (n *node) fulfilled() bool {
	return n.Phase.Done() || n.Daemoned != nil && *n.Daemoned && n.Phase != Pending
}

func (p Phase) bad() bool { return p == Failed || p == Error }

// leaf reports whether a node of this type is a piece of work of its own.
func (t NodeType) leaf() bool {
	switch t {
	case NodePod, NodeHTTP, NodeSuspend, NodeSkipped, NodeContainer, NodePlugin:
		return true
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
