package access

import (
	"strings"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/failure"
)

// Verb is what somebody wants to do.
type Verb string

// The verbs, named as Argo CD names its actions.
const (
	Get    Verb = "get"
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
	// Sync is to have an Application synced, refreshed or rolled back.
	Sync Verb = "sync"
	// Override is to go beyond the rules of a protected ref: to push to it, to merge in spite of them, and to change them.
	Override Verb = "override"
)

// The kinds that are no kinds of manifests.
const (
	Run          = "Run"
	Log          = "Log"
	Event        = "Event"
	Firing       = "Firing"
	Release      = "Release"
	Repository   = "Repository"
	MergeRequest = "MergeRequest"
	Image        = "Image"
	Artifact     = "Artifact"
	// Attempt is what a step is: it may ask who it is, and hand over its own outputs and logs.
	Attempt = "Attempt"
	Status  = "Status"
	Comment = "Comment"
	Ledger  = "Ledger"
	Server  = "Server"
	// User is who may use the server, with their tokens; Self is what one has of that oneself.
	User = "User"
	Self = "Self"
)

// Rule is one line of a policy, as Argo CD writes them: "p, role, resource, action, object, allow". Each part but the role may
// hold "*" for anything; the object is NAMESPACE/NAME.
type Rule struct {
	Role     Role
	Resource string
	Action   string
	Object   string
	Deny     bool
}

// ParseRule reads a line: "p, role:developer, applications, sync, shop/*, allow". Resources are Argo CD's names or kinds.
func ParseRule(line string) (Rule, error) {
	parts := strings.Split(line, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	if len(parts) != 6 || parts[0] != "p" {
		return Rule{}, failure.Invalidf("policy line %q: write p, ROLE, RESOURCE, ACTION, NAMESPACE/NAME, allow or deny", line)
	}
	for _, part := range parts[1:] {
		if part == "" {
			return Rule{}, failure.Invalidf("policy line %q: a part is empty; write * for anything", line)
		}
		if _, err := budget.ParseGlob(part); err != nil {
			return Rule{}, failure.Invalidf("policy line %q: %v", line, err)
		}
	}
	r := Rule{Role: Role(strings.TrimPrefix(parts[1], "role:")), Resource: kindOf(parts[2]), Action: parts[3], Object: parts[4]}
	switch parts[5] {
	case "allow":
	case "deny":
		r.Deny = true
	default:
		return Rule{}, failure.Invalidf("policy line %q: end it with allow or deny", line)
	}
	return r, nil
}

// String writes the line.
func (r Rule) String() string {
	effect := "allow"
	if r.Deny {
		effect = "deny"
	}
	return strings.Join([]string{"p", "role:" + string(r.Role), r.Resource, r.Action, r.Object, effect}, ", ")
}

// kindOf is the kind that Argo CD's resource is of; another word is a kind already.
func kindOf(resource string) string {
	switch resource {
	case "applications":
		return "Application"
	case "applicationsets":
		return "ApplicationSet"
	case "projects":
		return "AppProject"
	case "repositories":
		return Repository
	case "logs":
		return Log
	}
	return resource
}

// about reports whether the rule speaks of a verb and a kind at all.
func (r Rule) about(role Role, verb Verb, kind string) bool {
	return r.Role == role && glob(r.Action, string(verb)) && glob(r.Resource, kind)
}

// glob matches text with a pattern, as Argo CD's RBAC does by its util/glob: "*" stands for any text, slashes too.
func glob(pattern, text string) bool {
	if strings.ContainsAny(pattern, `?[{\`) {
		return budget.MatchGlob(pattern, text)
	}
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(text, part)
		}
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text, rest = after, more
	}
}
