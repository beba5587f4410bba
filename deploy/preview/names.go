package preview

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/gosimple/slug"
)

// slugLength is Argo CD's for branch_slug, and for slugify where no other is given.
const slugLength = 50

// branchSlug makes a DNS label of a branch, as the pullRequest generator of Argo CD does: letters beyond a-z are spelled out, and
// what is too long is cut between words.
func branchSlug(branch string) string {
	return cut(slug.Make(strings.ReplaceAll(strings.TrimSpace(branch), "_", "-")), slugLength)
}

// cut shortens a slug to whole words, or within its first word if that is too long.
func cut(text string, length int) string {
	if len(text) <= length {
		return text
	}
	if at := strings.LastIndexByte(text[:length+1], '-'); at >= 0 {
		return text[:at]
	}
	return text[:length]
}

// slugify has Argo CD's arguments: [length] [cut between words] text. The text is normalized first, so that nothing is spelled out.
func slugify(args ...any) (string, error) {
	length, smart := slugLength, true
	if len(args) == 0 || len(args) > 3 {
		return "", errors.New("slugify: the arguments are a length, whether to cut between words, and a text, of which the first two may be left out")
	}
	text, ok := args[len(args)-1].(string)
	if !ok {
		return "", errors.New("slugify: the last argument must be a text")
	}
	if len(args) > 1 {
		if length, ok = args[0].(int); !ok || length < 0 {
			return "", fmt.Errorf("slugify: %v is no length", args[0])
		}
	}
	if len(args) > 2 {
		if smart, ok = args[1].(bool); !ok {
			return "", fmt.Errorf("slugify: %v is neither true nor false", args[1])
		}
	}
	name := normalize(text)
	switch {
	case !smart:
		return slug.Make(name[:min(length, len(name))]), nil
	case length > 0:
		return cut(slug.Make(name), length), nil
	}
	return slug.Make(name), nil
}

var notInName = regexp.MustCompile(`[^-a-z0-9.]`)

// normalize makes a DNS subdomain name, as Argo CD does.
func normalize(text string) string {
	name := notInName.ReplaceAllString(strings.ToLower(text), "-")
	return strings.Trim(name[:min(253, len(name))], "-.")
}

// dnsName tells whether a text is the name of a Kubernetes object: a DNS subdomain.
func dnsName(name string) bool {
	return len(name) <= 253 && subdomain.MatchString(name)
}

var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
