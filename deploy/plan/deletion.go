package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// DeletionHooks are those of the objects that are hooks of a deletion.
func DeletionHooks(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.DeleteFunc(slices.Clone(objects), func(o *unstructured.Unstructured) bool {
		return !isHookOf(o, PreDelete) && !isHookOf(o, PostDelete)
	})
}

func isHookOf(o *unstructured.Unstructured, phase Phase) bool {
	in, _ := hooksOf(o)
	return slices.Contains(in, phase)
}

// NextDeletion decides the next step of the deletion of an Application. As in Argo CD the PreDelete hooks come first; then the objects go, the last
// wave first, each wave when the one before is gone; then come the PostDelete hooks. Namespaces go at the end, since the hooks lie in them. What is to
// stay is released. A hook that fails ends the deletion as Failed, and everything that is still there stays.
func NextDeletion(in Input) Step {
	p := newPlanner(in)
	if !p.op.Done() {
		p.remove()
	}
	return Step{Operation: p.op, Actions: p.actions, Wake: p.wake, Stuck: p.stuck}
}

// remove takes the parts of a deletion one after the other, up to the first that is not through.
func (p *planner) remove() {
	p.op.Message = ""
	before, after := p.deletionHooks(PreDelete), p.deletionHooks(PostDelete)
	hooks := append(slices.Clone(before), after...)
	p.update(hooks, true)
	if p.clear(hooks); len(p.actions) > 0 {
		return
	}
	if why := p.failure(hooks); why != "" {
		p.finish(Failed, "a hook failed, and what is left stays: %s", why)
		return
	}
	for _, part := range []func() bool{
		p.confirmed,
		func() bool { return p.all(before) },
		p.leave,
		p.objectsGo,
		func() bool { return p.all(after) },
		p.namespacesGo,
		func() bool { return p.leaveTheRest(hooks) },
	} {
		if !part() {
			return
		}
	}
	p.finish(Succeeded, "deleted")
}

func (p *planner) deletionHooks(phase Phase) []Task {
	var tasks []Task
	for _, o := range p.in.Desired {
		hooked, _ := hooksOf(o)
		tasks = append(tasks, hookTasks(o, hooked, p.in, phase)...)
	}
	slices.SortStableFunc(tasks, compareTasks)
	return tasks
}

// all runs hooks, one wave after the other.
func (p *planner) all(hooks []Task) bool {
	for _, g := range group(hooks) {
		if !p.group(g) {
			p.waits("waits for the hook", hooksThat(g, func(t Task) bool { return p.op.Results[t.ID()].Phase != Succeeded }))
			return false
		}
	}
	return true
}

func hooksThat(tasks []Task, is func(Task) bool) []deploy.Key {
	var keys []deploy.Key
	for _, t := range tasks {
		if is(t) {
			keys = append(keys, t.Key)
		}
	}
	return keys
}

// maxNamed is how many objects a message names.
const maxNamed = 5

func (p *planner) waits(what string, keys []deploy.Key) {
	names := make([]string, 0, maxNamed)
	for i, k := range keys {
		if i == maxNamed {
			names = append(names, fmt.Sprintf("%d more", len(keys)-i))
			break
		}
		names = append(names, k.Kind+" "+k.Name)
	}
	p.op.Message = what + " " + strings.Join(names, ", ")
}

// top are the live objects of the Application that no other owns, the last wave first, and within a wave in the reverse order of kinds.
func (p *planner) top(is func(*unstructured.Unstructured) bool) []*unstructured.Unstructured {
	if p.in.KeepObjects {
		return nil
	}
	var found []*unstructured.Unstructured
	for _, o := range p.in.Live {
		if len(o.GetOwnerReferences()) == 0 && is(o) {
			found = append(found, o)
		}
	}
	slices.SortStableFunc(found, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(-cmp.Compare(waveOf(a), waveOf(b)), -cmp.Compare(kindRank(a.GetKind()), kindRank(b.GetKind())),
			cmp.Compare(deploy.KeyOf(a).String(), deploy.KeyOf(b).String()))
	})
	return found
}

func isNamespace(o *unstructured.Unstructured) bool {
	return deploy.KeyOf(o).Group == "" && o.GetKind() == "Namespace"
}

// stays reports whether an object outlives the Application: it is protected, or a definition of a kind, as in Argo CD, or a namespace that nobody wrote.
func (p *planner) stays(o *unstructured.Unstructured) bool {
	return OptionsOf(o, p.in.Options).NoDelete || o.GetKind() == "CustomResourceDefinition" || !p.in.Options.Preview && deploy.KeyOf(o) == p.in.Made
}

// confirmed waits until somebody has confirmed the deletion, if one of the objects asks for that.
func (p *planner) confirmed() bool {
	var asks []deploy.Key
	for _, o := range p.top(func(o *unstructured.Unstructured) bool {
		return !p.stays(o) && OptionsOf(o, p.in.Options).ConfirmDelete
	}) {
		if o.GetDeletionTimestamp() == nil {
			asks = append(asks, deploy.KeyOf(o))
		}
	}
	if len(asks) == 0 || p.in.Options.Confirmed {
		return true
	}
	p.waits("it is deleted when somebody has confirmed it (Delete=confirm), because of", asks)
	p.stuck = p.op.Message + ": tiphys app sync --confirmed"
	return false
}

// leave releases what stays.
func (p *planner) leave() bool {
	for _, o := range p.top(p.stays) {
		p.actions = append(p.actions, Action{Key: deploy.KeyOf(o), Release: true})
	}
	return len(p.actions) == 0
}

func (p *planner) objectsGo() bool {
	return p.goes(p.top(func(o *unstructured.Unstructured) bool { return !isNamespace(o) && !isHookOf(o, PostDelete) }))
}

func (p *planner) namespacesGo() bool { return p.goes(p.top(isNamespace)) }

// leaveTheRest releases the hooks that no delete policy removes.
func (p *planner) leaveTheRest(hooks []Task) bool {
	rest := p.top(func(*unstructured.Unstructured) bool { return true })
	for _, o := range rest {
		key := deploy.KeyOf(o)
		goes := slices.ContainsFunc(hooks, func(t Task) bool { return t.Key == key && slices.Contains(t.Policies, hookSucceeded) })
		if o.GetDeletionTimestamp() == nil {
			p.actions = append(p.actions, Action{Key: key, Delete: goes, Release: !goes})
		}
	}
	return len(rest) == 0
}

// goes deletes the first wave of what is left, and reports whether nothing is left.
func (p *planner) goes(left []*unstructured.Unstructured) bool {
	var leaving []deploy.Key
	var since time.Time
	for _, o := range left {
		if waveOf(o) != waveOf(left[0]) {
			break
		}
		if at := o.GetDeletionTimestamp(); at != nil {
			leaving = append(leaving, deploy.KeyOf(o))
			if since.IsZero() || at.Time.Before(since) {
				since = at.Time
			}
			continue
		}
		p.actions = append(p.actions, Action{Key: deploy.KeyOf(o), Delete: true})
	}
	if len(leaving) > 0 {
		p.waits("waits until it is gone:", leaving)
		if late := since.Add(deadline(p.in.Options.Deadline, DefaultDeadline)); !p.in.Now.Before(late) {
			p.stuck = fmt.Sprintf("%s (since %s)", p.op.Message, since.UTC().Format(time.RFC3339))
		} else {
			p.due(late)
		}
	}
	return len(left) == 0
}
