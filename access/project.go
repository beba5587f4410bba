package access

import "slices"

// ApplicationLog is the log of an Application's pod, by the Application's namespace and name.
const ApplicationLog = "ApplicationLog"

// ProjectRule is one line of a role of an AppProject that somebody has.
type ProjectRule struct {
	// Project and Role name it for people.
	Project, Role string
	// Kind is Application or ApplicationLog, Action a verb or "*".
	Kind, Action string
	// Object is a pattern of the name of an Application, or of NAMESPACE/NAME.
	Object string
	Deny   bool
}

// Membership is what somebody has by roles of AppProjects.
type Membership struct {
	Rules []ProjectRule
	// Applications have the project of each Application, by namespace/name: of those whose projects the rules are of.
	Applications map[string]string
}

// same says whether two memberships give the same.
func (m Membership) same(o Membership) bool {
	if !slices.Equal(m.Rules, o.Rules) || len(m.Applications) != len(o.Applications) {
		return false
	}
	for key, project := range m.Applications {
		if o.Applications[key] != project {
			return false
		}
	}
	return true
}

// judge says whether roles of the project that an Application is of allow a verb, and whether one of them denies it, which counts whatever else
// somebody has.
func (m Membership) judge(verb Verb, kind, namespace, name string) (allowed, denied bool) {
	project := m.Applications[namespace+"/"+name]
	if project == "" {
		return false, false
	}
	for _, r := range m.Rules {
		if r.Project != project || r.Kind != kind || !glob(r.Action, string(verb)) || !glob(r.Object, name) && !glob(r.Object, namespace+"/"+name) {
			continue
		}
		if r.Deny {
			return false, true
		}
		allowed = allowed || verb == Get || verb == Sync || verb == Delete
	}
	return allowed, false
}

// some says whether there can be an Application with which a role of a project lets somebody do something.
func (m Membership) some(verb Verb, kind string) bool {
	return slices.ContainsFunc(m.Rules, func(r ProjectRule) bool {
		return !r.Deny && (kind == "*" || r.Kind == kind) && glob(r.Action, string(verb))
	})
}
