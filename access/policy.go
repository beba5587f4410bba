package access

import (
	"slices"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// Policy is a set of rules. What no rule allows is refused, and a rule that denies beats every one that allows. The zero
// value refuses everything.
type Policy struct {
	rules  []Rule
	sights *sights
}

// NewPolicy returns a policy of rules.
func NewPolicy(rules ...Rule) Policy {
	return Policy{rules: slices.Clone(rules), sights: &sights{byRole: map[Role]*Sight{}}}
}

// BuiltIn is the policy of the built-in roles.
func BuiltIn() Policy {
	var rules []Rule
	allow := func(role Role, verbs []Verb, kinds ...string) {
		for _, kind := range kinds {
			for _, verb := range verbs {
				rules = append(rules, Rule{Role: role, Resource: kind, Action: string(verb), Object: "*/*"})
			}
		}
	}
	allow(Admin, []Verb{"*"}, "*")

	declares := []string{"ConfigMap", "PersistentVolumeClaim", "WorkflowTemplate", "CronWorkflow", "EventSource", "Sensor", "EventBus", "Application", "ApplicationSet"}
	allow(Developer, []Verb{Get}, "*")
	allow(Developer, []Verb{Create, Update, Delete}, Run, Event, Firing, Repository, MergeRequest, Image)
	allow(Developer, []Verb{Create, Update, Delete}, declares...)
	allow(SensorTrigger, []Verb{Create}, declares...)
	allow(Developer, []Verb{Sync}, "Application")

	allow(Viewer, []Verb{Get}, "*")
	deny := func(role Role, kind string) {
		rules = append(rules, Rule{Role: role, Resource: kind, Action: "*", Object: "*/*", Deny: true})
	}
	deny(Viewer, "Secret")
	// Who else may log in, and how, is the administrators'; what is one's own is everybody's.
	deny(Viewer, User)
	deny(Developer, User)
	for _, role := range []Role{Viewer, Developer} {
		allow(role, []Verb{Get, Create, Delete}, Self)
	}

	// What of these a step may reach follows from its claims: see within.
	for _, role := range []Role{Step, MergeRequestStep} {
		allow(role, []Verb{Get, Create}, Artifact)
		allow(role, []Verb{Get, Update}, Image)
		allow(role, []Verb{Create}, Release, Status, Comment)
		allow(role, []Verb{Get, Create}, Attempt)
	}
	return NewPolicy(rules...)
}

// Can says whether an identity may do something with an object: nil, or an error of kind failure.Refused that says which roles
// may. Namespace is empty for what has none; name is empty where it is not known yet.
func (p Policy) Can(id Identity, verb Verb, kind, namespace, name string) error {
	if !p.permits(id, verb, kind, namespace, name) {
		return p.refusal(id, verb, kind, objectOf(namespace, name))
	}
	if id.Step != nil {
		return within(*id.Step, verb, kind, name)
	}
	return nil
}

// Some says whether there can be an object of a kind with which an identity may do something: what a list is asked before it
// asks about each of its items.
func (p Policy) Some(id Identity, verb Verb, kind string) error {
	if !id.ReadOnly || verb == Get {
		if id.Member.some(verb, kind) {
			return nil
		}
		for _, role := range id.roles() {
			if p.some(role, verb, kind) {
				return nil
			}
		}
	}
	return p.refusal(id, verb, kind, "")
}

func (p Policy) some(role Role, verb Verb, kind string) bool {
	for _, r := range p.rules {
		if role != "" && !r.Deny && (r.about(role, verb, kind) || kind == "*" && r.Resource != Self && r.Role == role && glob(r.Action, string(verb))) {
			return true
		}
	}
	return false
}

// permits says whether a role of somebody's, of those that count where the object is, allows it. Each role is judged by itself: what one is denied
// another may have. What a role of an AppProject denies nobody has whom it is of, as in Argo CD.
func (p Policy) permits(id Identity, verb Verb, kind, namespace, name string) bool {
	if id.ReadOnly && verb != Get {
		return false
	}
	byProject, denied := id.Member.judge(verb, kind, namespace, name)
	if denied {
		return false
	}
	if byProject || p.allows(id.role(), verb, kind, namespace, name) {
		return true
	}
	for _, b := range id.Bindings {
		if b.covers(kind, namespace, name) && p.allows(b.Role, verb, kind, namespace, name) {
			return true
		}
	}
	return false
}

func (p Policy) allows(role Role, verb Verb, kind, namespace, name string) bool {
	if role == "" {
		return false
	}
	allowed := false
	for _, r := range p.rules {
		if !r.about(role, verb, kind) || !glob(r.Object, namespace+"/"+name) {
			continue
		}
		if r.Deny {
			return false
		}
		allowed = true
	}
	return allowed
}

// objectOf names an object in a refusal.
func objectOf(namespace, name string) string {
	switch {
	case namespace == "":
		return name
	case name == "":
		return "in namespace " + namespace
	}
	return namespace + "/" + name
}

// refusal says who asked for what, and which roles may.
func (p Policy) refusal(id Identity, verb Verb, kind, object string) error {
	var may []string
	for _, role := range []Role{Viewer, Developer, Admin} {
		namespace, name, _ := strings.Cut(object, "/")
		if p.allows(role, verb, kind, namespace, name) {
			may = append(may, string(role))
		}
	}
	who := id.String()
	if who == "" {
		who = "nobody"
	}
	var has []string
	if role := id.role(); role != "" {
		has = append(has, string(role))
	}
	for _, b := range id.Bindings {
		has = append(has, b.String())
	}
	if len(has) > 0 {
		who += " (" + strings.Join(has, ", ") + ")"
	}
	if id.ReadOnly && verb != Get {
		return failure.WithHint(failure.Refusedf("%s may only look with this token, not %s %s", who, verb, kind), "use a token of the scope all")
	}
	what := strings.TrimSpace(string(verb) + " " + kind + " " + object)
	if len(may) == 0 {
		return failure.Refusedf("%s may not %s", who, what)
	}
	return failure.WithHint(failure.Refusedf("%s may not %s", who, what), "it needs the role "+strings.Join(may, " or "))
}
