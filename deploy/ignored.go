package deploy

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
)

// AnnotationIgnoreKinds is on an Application and names kinds of objects that are kept without effect where the target has no such kind: Kind.group, Kind
// alone for the core group, *.group for all of a group, separated by commas. What has the kind heeds the object as ever.
const AnnotationIgnoreKinds = "tiphys.dev/ignore-kinds"

// AnnotationInert is on an object that a target keeps without effect. A target writes it, with what it says to people, and takes it from nobody.
const AnnotationInert = "target.tiphys.dev/kept-without-effect"

// Inert says that an object is kept without effect; see [AnnotationIgnoreKinds].
func Inert(o *unstructured.Unstructured) bool { return o.GetAnnotations()[AnnotationInert] != "" }

// Ignored are kinds that an Application has kept without effect; read by [ReadIgnored].
type Ignored []string

// maxIgnored bounds how many kinds an Application can name.
const maxIgnored = 200

// ReadIgnored reads the value of [AnnotationIgnoreKinds]. The error says what to write.
func ReadIgnored(text string) (Ignored, error) {
	var list Ignored
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		kind, group, grouped := strings.Cut(entry, ".")
		switch {
		case kind == "*" && !grouped:
			return nil, fmt.Errorf("annotation %s: %q would be every kind: name the kinds (Role.rbac.authorization.k8s.io) or a group (*.rbac.authorization.k8s.io)", AnnotationIgnoreKinds, entry)
		case kind != "*" && !kindName(kind), grouped && len(validation.IsDNS1123Subdomain(group)) > 0:
			return nil, fmt.Errorf("annotation %s: %q is no kind: write Kind.group, Role.rbac.authorization.k8s.io for instance, Kind alone for the core group, or *.group", AnnotationIgnoreKinds, entry)
		case networkPolicy(kind):
			return nil, fmt.Errorf("annotation %s: %q: a network policy is enforced or refused, and never kept without effect", AnnotationIgnoreKinds, entry)
		}
		list = append(list, entry)
	}
	if len(list) > maxIgnored {
		return nil, fmt.Errorf("annotation %s names %d kinds: at most %d, use *.group", AnnotationIgnoreKinds, len(list), maxIgnored)
	}
	return list, nil
}

// Has says whether a kind is among them. A network policy of whatever group never is.
func (g Ignored) Has(group, kind string) bool {
	return !networkPolicy(kind) && (slices.Contains(g, KindEntry(group, kind)) || group != "" && slices.Contains(g, "*."+group))
}

// KindEntry is a kind as [AnnotationIgnoreKinds] has it.
func KindEntry(group, kind string) string {
	if group == "" {
		return kind
	}
	return kind + "." + group
}

func networkPolicy(kind string) bool { return strings.HasSuffix(kind, "NetworkPolicy") }

func kindName(kind string) bool {
	return kind != "" && len(kind) <= 63 && !strings.ContainsFunc(kind, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}
