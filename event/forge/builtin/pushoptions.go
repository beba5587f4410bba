package builtin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/event/forge"
)

// maxOptionMRs is how many merge requests one push may open; as GitLab.
const maxOptionMRs = 10

// mrOptions are GitLab's push options for merge requests
// (https://docs.gitlab.com/topics/git/commit/#push-options-for-merge-requests).
type mrOptions struct {
	create, draft, ready, removeSource, autoMerge, squash bool
	target, title, description                            string
	titleSet, descriptionSet                              bool
	labels, unlabels                                      []string
	// warnings are shown to the person who pushes; they do not keep the push from succeeding.
	warnings []string
}

// any reports whether a merge request is meant at all.
func (o mrOptions) any() bool {
	return o.create || o.draft || o.ready || o.removeSource || o.autoMerge || o.squash || o.target != "" || o.titleSet ||
		o.descriptionSet || len(o.labels) > 0 || len(o.unlabels) > 0
}

// parseOptions reads push options. Git allows no line feed in them, so \n in a description stands for one.
func parseOptions(options []string) mrOptions {
	var o mrOptions
	for _, option := range options {
		key, value, hasValue := strings.Cut(option, "=")
		value = strings.TrimSpace(strings.ToValidUTF8(value, "\uFFFD"))
		if needs, known := optionNeedsValue[key]; known && needs && (!hasValue || value == "" && key != "merge_request.description") {
			o.warn("push option %q needs a value: %s=VALUE", key, key)
			continue
		}
		if !o.set(key, value) {
			o.warn("push option %q is not supported and was ignored", cut(key, 100))
		}
	}
	return o
}

var optionNeedsValue = map[string]bool{
	"merge_request.target": true, "merge_request.title": true, "merge_request.description": true,
	"merge_request.label": true, "merge_request.unlabel": true,
}

func (o *mrOptions) warn(format string, args ...any) {
	o.warnings = append(o.warnings, "warning: "+fmt.Sprintf(format, args...))
}

func (o *mrOptions) set(key, value string) bool {
	on := value != "false"
	switch key {
	case "merge_request.create":
		o.create = on
	case "merge_request.draft":
		o.draft, o.ready = on, !on
	case "merge_request.ready":
		o.ready, o.draft = on, !on
	case "merge_request.remove_source_branch":
		o.removeSource = on
	case "merge_request.squash":
		o.squash = on
	case "merge_request.merge_when_pipeline_succeeds", "merge_request.auto_merge", "merge_request.merge_when_checks_pass":
		o.autoMerge = on
	case "merge_request.target":
		if checkBranch(value) != nil {
			o.warn("%q is not a branch name; the option was ignored", cut(value, 100))
			return true
		}
		o.target = value
	case "merge_request.title":
		o.title, o.titleSet = cut(value, maxTitle), true
	case "merge_request.description":
		o.description, o.descriptionSet = cut(strings.ReplaceAll(value, `\n`, "\n"), maxBody), true
	case "merge_request.label":
		o.labels = append(o.labels, cut(value, maxLabel))
	case "merge_request.unlabel":
		o.unlabels = append(o.unlabels, cut(value, maxLabel))
	default:
		return false
	}
	return true
}

// apply changes a merge request as the options say and returns what that was.
func (o mrOptions) apply(m *forge.MergeRequest) (actions []string) {
	edited := false
	set := func(to *string, value string, given bool) {
		if given && *to != value {
			*to, edited = value, true
		}
	}
	set(&m.Title, o.title, o.titleSet)
	set(&m.Body, o.description, o.descriptionSet)
	set(&m.Target, o.target, o.target != "")
	for _, flag := range []struct {
		to *bool
		on bool
	}{{&m.RemoveSource, o.removeSource}, {&m.AutoMerge, o.autoMerge}, {&m.Squash, o.squash}} {
		if flag.on && !*flag.to {
			*flag.to, edited = true, true
		}
	}
	if edited {
		actions = append(actions, "edit")
	}
	actions = append(actions, setDraft(m, o.draft || o.titleSet && draftTitle(o.title), o.ready)...)
	return append(actions, relabel(m, o.labels, o.unlabels)...)
}

// draftTitle follows GitLab: a title that starts with "Draft:", "[Draft]" or "(Draft)".
func draftTitle(title string) bool {
	t := strings.ToLower(strings.TrimSpace(title))
	for _, prefix := range []string{"draft:", "[draft]", "(draft)"} {
		if strings.HasPrefix(t, prefix) {
			return true
		}
	}
	return false
}

func setDraft(m *forge.MergeRequest, draft, ready bool) []string {
	switch {
	case draft && !m.Draft:
		m.Draft = true
		return []string{"draft"}
	case ready && !draft && m.Draft:
		m.Draft = false
		return []string{"ready"}
	}
	return nil
}

// relabel adds and removes labels; they are kept sorted.
func relabel(m *forge.MergeRequest, add, remove []string) (actions []string) {
	labels := slices.Clone(m.Labels)
	for _, l := range add {
		if l = strings.TrimSpace(l); l != "" && !slices.Contains(labels, l) && len(labels) < maxLabels {
			labels = append(labels, l)
		}
	}
	labels = slices.DeleteFunc(labels, func(l string) bool { return slices.Contains(remove, l) })
	slices.Sort(labels)
	added, removed := difference(labels, m.Labels), difference(m.Labels, labels)
	m.Labels = labels
	if len(added) > 0 {
		actions = append(actions, "label")
	}
	if len(removed) > 0 {
		actions = append(actions, "unlabel")
	}
	return actions
}

// difference is what a has and b has not.
func difference(a, b []string) []string {
	var only []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			only = append(only, s)
		}
	}
	return only
}
