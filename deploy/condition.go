package deploy

import (
	"slices"
	"time"
)

// Condition is something that is so of an object and that somebody should know: Argo CD's status.conditions.
type Condition struct {
	// Type is one of Argo CD's; see below.
	Type    string `json:"type"`
	Message string `json:"message"`
	// Since is when it became so.
	Since time.Time `json:"lastTransitionTime"`
}

// The types of conditions, Argo CD's.
const (
	// ConditionInvalidSpec: the definition cannot be read, or asks for what this server or the project does not have.
	ConditionInvalidSpec = "InvalidSpecError"
	// ConditionComparison: what should run could not be found out or compared.
	ConditionComparison = "ComparisonError"
	// ConditionSync: the automated sync failed and is not tried again.
	ConditionSync = "SyncError"
	// ConditionDeletion: objects could not be deleted.
	ConditionDeletion = "DeletionError"
	// ConditionUnknown: it could not be looked after, and that is tried again.
	ConditionUnknown = "UnknownError"
	// ConditionShared: objects that it wants belong to another Application.
	ConditionShared = "SharedResourceWarning"
	// ConditionEmpty: its sources hold no object, so that it is in sync with nothing. It is our own.
	ConditionEmpty = "EmptySourceWarning"
	// ConditionErrorOccurred is an ApplicationSet's: its Applications stay as they are.
	ConditionErrorOccurred = "ErrorOccurred"
)

// Conditions are those of an object, at most one of each type.
type Conditions []Condition

// Set notes that something is so, or with an empty message that it is not. The list is changed in a copy; a condition whose
// message stays keeps its time.
func (c Conditions) Set(kind, message string, now time.Time) Conditions {
	at := slices.IndexFunc(c, func(one Condition) bool { return one.Type == kind })
	switch {
	case at < 0 && message == "":
		return c
	case at >= 0 && c[at].Message == message:
		return c
	}
	next := slices.DeleteFunc(slices.Clone(c), func(one Condition) bool { return one.Type == kind })
	if message != "" {
		next = append(next, Condition{Type: kind, Message: message, Since: now.UTC()})
	}
	slices.SortFunc(next, func(a, b Condition) int {
		if a.Type < b.Type {
			return -1
		}
		return 1
	})
	if len(next) == 0 {
		return nil
	}
	return next
}

// Message gives what is so of a type; empty if it is not.
func (c Conditions) Message(kind string) string {
	for _, one := range c {
		if one.Type == kind {
			return one.Message
		}
	}
	return ""
}
