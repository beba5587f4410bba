package workflow

import (
	"bytes"
	"encoding/json"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/workflow/expression"
)

// nodeID is Argo's: the run's name, and for all but the root the FNV-1a hash of the node's name.
func (s *State) nodeID(name string) string { return nodeID(s.run.Name, name) }

func nodeID(run, name string) string {
	if name == run {
		return run
	}
	return run + "-" + fnvText(name)
}

func fnvText(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return strconv.FormatUint(uint64(h.Sum32()), 10)
}

// podName is Argo's v2 pod name: run-template-hash, cut so that it fits Kubernetes' 253 characters.
func (s *State) podName(n *node) string {
	if n.Name == s.run.Name {
		return s.run.Name
	}
	prefix := s.run.Name
	if n.TemplateName != "" && !strings.Contains(n.Name, ".inline") {
		prefix += "-" + n.TemplateName
	}
	const longest = 253 - 10 - 1
	if len(prefix) > longest {
		prefix = prefix[:longest]
	}
	return prefix + "-" + fnvText(n.Name)
}

// strftime gives one field of a time by its letter, as {{workflow.creationTimestamp.Y}} does.
func strftime(t time.Time, letter byte) (any, bool) {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'e': "_2",
		'f': "000000", 'F': "2006-01-02", 'H': "15", 'I': "03", 'L': "000", 'm': "01", 'M': "04", 'p': "PM", 'S': "05",
		'T': "15:04:05", 'y': "06", 'Y': "2006", 'Z': "MST", 'z': "-0700", 'D': "01/02/06", 'R': "15:04",
		'r': "03:04:05 PM", 'x': "01/02/06", 'X': "15:04:05", 'v': "_2-Jan-2006", 'h': "Jan",
	}
	t = t.UTC()
	switch letter {
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	case 'j':
		return leftPad(strconv.Itoa(t.YearDay()), 3), true
	case 'w':
		return strconv.Itoa(int(t.Weekday())), true
	case 'f':
		return leftPad(strconv.Itoa(t.Nanosecond()/1000), 6), true
	case 'L':
		return leftPad(strconv.Itoa(t.Nanosecond()/1000000), 3), true
	}
	layout, ok := layouts[letter]
	if !ok {
		return nil, false
	}
	return t.Format(layout), true
}

func leftPad(s string, n int) string {
	for len(s) < n {
		s = "0" + s
	}
	return s
}

// unmarshalNumbers is json.Unmarshal that keeps numbers as they are written.
func unmarshalNumbers(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(v)
}

// cache is what can be derived again at any time.
type cache struct {
	manifest   map[string]any
	globals    map[string]any
	templates  map[string]*template
	indexes    map[string]map[string]int
	specs      map[Ref]map[string]any
	graphs     map[string]*graph
	within     map[string]*template // by node, where names of steps hold tags
	aggregates map[string]any
	results    map[string]resultRefs // by key of the template
	evaluator  *expression.Evaluator
	touched    map[string]bool
}

func newCache() cache {
	return cache{
		templates: map[string]*template{}, indexes: map[string]map[string]int{}, specs: map[Ref]map[string]any{},
		graphs: map[string]*graph{}, within: map[string]*template{}, aggregates: map[string]any{}, results: map[string]resultRefs{},
		evaluator: expression.New(),
	}
}

// index finds a template of a scope by its name.
func (c *cache) index(scope string, list []any) map[string]int {
	if m := c.indexes[scope]; m != nil {
		return m
	}
	m := make(map[string]int, len(list))
	for i, x := range list {
		tree, _ := x.(map[string]any)
		if name := text(tree["name"]); name != "" {
			if _, ok := m[name]; !ok {
				m[name] = i
			}
		}
	}
	c.indexes[scope] = m
	return m
}

// forget drops what was derived from a node that has changed out of order.
func (c *cache) forget(id string) {
	delete(c.graphs, id)
	delete(c.within, id)
	c.aggregates = map[string]any{}
}

// find gives the node with a name. Ids are 32-bit hashes, so that two names of a large run can share one; the later
// node then has a dash and a number behind it.
func (s *State) find(name string) *node {
	id := s.nodeID(name)
	for i := 1; ; i++ {
		n := s.node(id)
		if n == nil || n.Name == name {
			return n
		}
		id = s.nodeID(name) + "-" + strconv.Itoa(i)
	}
}

// freeID gives the id that a new node of this name has.
func (s *State) freeID(name string) string {
	id := s.nodeID(name)
	for i := 1; s.node(id) != nil; i++ {
		id = s.nodeID(name) + "-" + strconv.Itoa(i)
	}
	return id
}
