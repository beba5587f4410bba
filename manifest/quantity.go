package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxQuantity is the most characters of a quantity, such as 500m or 1Gi.
	maxQuantity = 64
	// maxExponent is the largest exponent of ten in one.
	maxExponent = 30
)

// QuantityError says why a text is not tried as a quantity. apimachinery works some exponents out to the last digit: reading
// "1.0001e-99999999" takes a processor for minutes, and so does comparing "1e99999999" with anything.
// nil does not say that the text is a quantity.
func QuantityError(text string) error {
	if len(text) > maxQuantity {
		return fmt.Errorf("a quantity has at most %d characters", maxQuantity)
	}
	_, exponent, found := strings.Cut(strings.ToLower(text), "e")
	if !found || exponent == "" {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(exponent))
	if err == nil && (n > maxExponent || n < -maxExponent) || err != nil && strings.Trim(exponent, "+-0123456789 ") == "" {
		return fmt.Errorf("the exponent of a quantity is from -%d to %d", maxExponent, maxExponent)
	}
	return nil
}

// quantityFields are the fields of the Kubernetes kinds that are read here which hold quantities, or maps of them (k8s.io/api).
var quantityFields = []string{"limits", "requests", "sizeLimit", "divisor", "capacity", "allocatedResources", "overhead"}

// CheckQuantities refuses a tree (map[string]any, []any, string, numbers) whose quantities must not be read, see [QuantityError],
// before somebody decodes it into Kubernetes' types. Only fields that hold quantities are looked at.
func CheckQuantities(tree any) error { return checkQuantities(tree, "", false) }

func checkQuantities(node any, path string, within bool) error {
	switch v := node.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := checkQuantities(v[key], JoinPath(path, key), slices.Contains(quantityFields, key) || within && isScalar(v[key])); err != nil {
				return err
			}
		}
	case []any:
		for i, item := range v {
			if err := checkQuantities(item, IndexPath(path, i), false); err != nil {
				return err
			}
		}
	case string:
		return quantityAt(path, v, within)
	case json.Number:
		return quantityAt(path, v.String(), within)
	}
	return nil
}

func isScalar(node any) bool {
	switch node.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// quantityAt checks a value that would be read as a quantity. Others of a field with such a name are texts of any length: an env
// variable's value.
func quantityAt(path, text string, within bool) error {
	if !within || !startsQuantity(text) {
		return nil
	}
	if err := QuantityError(text); err != nil && strings.Trim(text, "+-.0123456789eE ") == "" {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func startsQuantity(text string) bool {
	return text != "" && strings.ContainsRune("+-.0123456789", rune(text[0]))
}
