package workflow

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// suspendedKey is who is full while the run is suspended.
const suspendedKey = "suspended"

// holder names a node among the holders of locks.
func (s *State) holder(n *node) string { return s.runHolder() + "/" + n.ID }

func (s *State) runHolder() string { return s.run.Namespace + "/" + s.run.Name }

// atLocks asks for a node's locks. True means that the node waits for the answer.
func (t *turn) atLocks(n *node, fresh bool) bool {
	if n.lock == lockHeld {
		return false
	}
	tm, err := t.s.templateAt(n.Template)
	if err != nil || tm.tree["synchronization"] == nil {
		return false
	}
	sc := t.leafScope(n, tm)
	locks, err := t.locks(tm.tree["synchronization"], sc)
	if err != nil {
		t.refuse(n, fresh, err)
		return true
	}
	if len(locks) == 0 {
		return false
	}
	if fresh {
		n.lock = lockWaiting
		n.Waiting = waitingFor(locks)
		n = t.create(n)
	} else {
		t.change(kindChanged, n, nodeChange{Lock: ptr(lockWaiting), Waiting: ptr(waitingFor(locks))})
	}
	if n != nil {
		t.effect(Acquire{Key: "node/" + n.ID, Holder: t.s.holder(n), Locks: locks, Priority: t.s.priority(), Since: t.s.run.CreatedAt})
	}
	return true
}

func waitingFor(locks []Lock) string {
	names := make([]string, 0, len(locks))
	for _, l := range locks {
		names = append(names, l.Name)
	}
	return "waits for " + strings.Join(names, ", ")
}

func (s *State) priority() int32 {
	if s.spec.Priority == nil {
		return 0
	}
	return *s.spec.Priority
}

// locks renders a synchronization block; the singular forms of 3.x are taken too.
func (t *turn) locks(tree any, sc *scope) ([]Lock, error) {
	done, err := substitute(tree, sc)
	if err != nil {
		return nil, err
	}
	var sync manifest.Synchronization
	if err := decodeValue(done, &sync); err != nil {
		return nil, fmt.Errorf("read synchronization: %w", err)
	}
	if sync.Mutex != nil {
		sync.Mutexes = append(sync.Mutexes, *sync.Mutex)
	}
	if sync.Semaphore != nil {
		sync.Semaphores = append(sync.Semaphores, *sync.Semaphore)
	}
	namespace := func(ns string) string {
		if ns == "" {
			return t.s.run.Namespace
		}
		return ns
	}
	var out []Lock
	for _, m := range sync.Mutexes {
		out = append(out, Lock{Name: namespace(m.Namespace) + "/Mutex/" + m.Name, Limit: 1})
	}
	for _, m := range sync.Semaphores {
		ns := namespace(m.Namespace)
		switch {
		case m.ConfigMapKeyRef != nil:
			out = append(out, Lock{
				Name: ns + "/ConfigMap/" + m.ConfigMapKeyRef.Name + "/" + m.ConfigMapKeyRef.Key,
				Ref:  Ref{Kind: "ConfigMap", Namespace: ns, Name: m.ConfigMapKeyRef.Name}, Key: m.ConfigMapKeyRef.Key,
			})
		case m.Database != nil:
			out = append(out, Lock{Name: ns + "/Database/" + m.Database.Key, Ref: Ref{Kind: "Semaphore", Namespace: ns, Name: m.Database.Key}})
		default:
			return nil, fmt.Errorf("synchronization: a semaphore needs configMapKeyRef or database")
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// gotLock takes the answer to a node's Acquire.
func (t *turn) gotLock(n *node, g Got) {
	if n.lock != lockWaiting {
		return
	}
	switch {
	case g.Error != "":
		t.change(kindChanged, n, nodeChange{Message: &g.Error})
		t.finish(n, Error, g.Error, nil)
	case !g.Granted:
		if g.Waiting != n.Message {
			t.change(kindChanged, n, nodeChange{Message: &g.Waiting, Waiting: &g.Waiting})
		}
	default:
		t.change(kindChanged, n, nodeChange{Lock: ptr(lockHeld), Message: ptr(""), Waiting: ptr("")})
		t.enter(n, false)
	}
}

// gotRunLock takes the answer to the run's own Acquire.
func (t *turn) gotRunLock(g Got) error {
	if t.s.lock != lockWaiting || t.s.run.Phase.Done() {
		return nil
	}
	switch {
	case g.Error != "":
		t.abandon(Error, g.Error)
	case !g.Granted:
		if g.Waiting != t.s.run.Message {
			t.changeRun(kindRunChange, runChange{Message: &g.Waiting})
		}
	default:
		t.changeRun(kindRunChange, runChange{Lock: ptr(lockHeld), Message: ptr("")})
		if t.s.retries > 0 && t.s.run.StartedAt != nil {
			t.resumeRun()
		} else {
			t.beginRun()
		}
	}
	return nil
}

// memoize renders a template's memoize block; nil if it has none.
func (t *turn) memoize(n *node) (*Memo, error) {
	tm, err := t.s.templateAt(n.Template)
	if err != nil || tm.tree["memoize"] == nil {
		return nil, nil //nolint:nilerr // who begins the node says that its template is not there
	}
	done, err := substitute(tm.tree["memoize"], t.leafScope(n, tm))
	if err != nil {
		return nil, err
	}
	var m manifest.Memoize
	if err := decodeValue(done, &m); err != nil {
		return nil, fmt.Errorf("read memoize: %w", err)
	}
	out := &Memo{Key: m.Key, Cache: t.s.run.Namespace + "/"}
	if m.Cache != nil {
		out.Cache += m.Cache.ConfigMap.Name
	}
	if m.MaxAge != "" {
		if out.MaxAge, err = parseDuration(m.MaxAge); err != nil {
			return nil, fmt.Errorf("memoize.maxAge: %w", err)
		}
	}
	return out, nil
}

// atMemo asks for a result that is there already: that of an earlier run, or a memoised one. True means that the node waits for the answer.
func (t *turn) atMemo(n *node, fresh bool) bool {
	tm, err := t.s.templateAt(n.Template)
	if err != nil || n.asked {
		return false
	}
	need := Need{Earlier: t.s.earlierOf(n)}
	if tm.tree["memoize"] == nil && need.Earlier == nil {
		return false
	}
	if need.Memo, err = t.memoize(n); err != nil {
		t.refuse(n, fresh, err)
		return true
	}
	if need.Memo != nil && need.Memo.Key == "" {
		need.Memo = nil
	}
	waiting := ""
	switch {
	case need.Earlier != nil:
		waiting = "looks in run " + need.Earlier.Run
	case need.Memo != nil:
		waiting = "looks in cache " + need.Memo.Cache
	default:
		return false
	}
	if fresh {
		n.memo, n.Waiting = true, waiting
		n = t.create(n)
	} else {
		t.change(kindChanged, n, nodeChange{Memo: ptr(true), Waiting: &waiting})
	}
	if n != nil {
		need.Key = "memo/" + n.ID
		t.effect(need)
	}
	return true
}

// storeMemo keeps the outputs of a node that succeeded, if its template is memoised.
func (t *turn) storeMemo(n *node) {
	if n.Role == roleAttempt || n.Type == NodeTaskGroup || n.Type == NodeStepGroup || n.Template == "" || t.hit == n.ID || !n.asked {
		return
	}
	m, err := t.memoize(n)
	if err != nil || m == nil || m.Key == "" {
		return
	}
	o := n.Outputs
	if o == nil {
		o = &manifest.Outputs{}
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return
	}
	t.effect(PutMemo{Memo: *m, Node: n.ID, Outputs: raw})
}

func sortedRefs(m map[Ref]json.RawMessage) []Ref {
	refs := make([]Ref, 0, len(m))
	for r := range m {
		refs = append(refs, r)
	}
	sortRefs(refs)
	return refs
}

func sortRefs(refs []Ref) {
	sort.Slice(refs, func(i, j int) bool {
		a, b := refs[i], refs[j]
		if a.Kind != b.Kind {
			return a.Kind < b.Kind
		}
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		return a.Name < b.Name
	})
}

// truncate keeps times as the ledger keeps them: UTC, microseconds.
