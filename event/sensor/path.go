package sensor

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

const (
	// maxPath is the most bytes of a path.
	maxPath = 4096
	// maxModifiers bounds the modifiers of a path: each may double a text (@tostr).
	maxModifiers = 4
	// maxGrowth is how many times what it finds a path may give: by [a,a] and {a,a}, which can be put behind each other.
	maxGrowth = 64
	// maxIndex is the largest index of a list that a value is put at: the list is filled up.
	maxIndex = 10_000
)

// checkPath refuses a path by which a small document would make a large value.
func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("path %.80q has more than %d characters", path, maxPath)
	}
	if strings.Count(path, "@") > maxModifiers {
		return fmt.Errorf("path %.80q has more than %d modifiers", path, maxModifiers)
	}
	// @pretty indents what is deep, and @dig gives what is in each other once for each level.
	if found := refused.FindStringSubmatch(path); found != nil {
		return fmt.Errorf("path %.80q: modifier @%s is not there, as it can make much of a little", path, found[1])
	}
	if growth(path) > maxGrowth {
		return fmt.Errorf("path %.80q may give more than %d times what it finds", path, maxGrowth)
	}
	return nil
}

// refused finds the modifiers that a path may not have (https://github.com/tidwall/gjson/blob/master/SYNTAX.md).
var refused = regexp.MustCompile(`(?:^|[^\pL\pN_-])@(pretty|dig)\b`)

// growth is how many times what it finds a path may give: with as many selectors as it has commas, in each of as many lists
// and objects as it makes.
func growth(path string) float64 {
	made := 0
	for i := range len(path) {
		if (path[i] == '[' || path[i] == '{') && (i == 0 || path[i-1] != '\\') {
			made++
		}
	}
	if made == 0 {
		return 1
	}
	commas := float64(strings.Count(path, ","))
	return math.Pow(commas/float64(made)+1, float64(made))
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
