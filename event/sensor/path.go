package sensor

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// maxModifiers bounds the modifiers of a path: each may double a text (@tostr).
	maxModifiers = 4
	// maxIndex is the largest index of a list that a value is put at: the list is filled up.
	maxIndex = 10_000
)

// checkPath refuses a path by which a small document would make a large value.
func checkPath(path string) error {
	if strings.Count(path, "@") > maxModifiers {
		return fmt.Errorf("path %.80q has more than %d modifiers", path, maxModifiers)
	}
	return nil
}

// checkDestination refuses a path that would fill a list up far.
func checkDestination(path string) error {
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == ':' || r == '|' }) {
		if strings.Trim(part, "0123456789") != "" {
			continue
		}
		if n, err := strconv.Atoi(part); err != nil || n > maxIndex {
			return fmt.Errorf("index %.20s is larger than %d", part, maxIndex)
		}
	}
	return checkPath(path)
}
