package manifest

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// hugeQuantities take apimachinery minutes to read, or to compare.
var hugeQuantities = []string{"1e99999999", "1.5e99999999", "1.0001e-99999999", "123456789012345678901234567890e99999999",
	"0.123456789012345678901E99999999", "1e99999999999999999999", "1e+99999999", "-1e31", strings.Repeat("9", 1<<20)}

func TestQuantitiesAreReadInNoTime(t *testing.T) {
	for _, text := range hugeQuantities {
		o := one(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: a\n    resources: {limits: {cpu: \""+text+"\"}}\n")
		var pod corev1.Pod
		diagnostics := o.Into(&pod)
		if !Failed(diagnostics) || !strings.Contains(diagnostics[0].Message, "quantity") || diagnostics[0].Position.Line != 7 {
			t.Errorf("%.40q: %.300v", text, diagnostics)
		}
		for field, tree := range map[string]any{
			"a.limits.cpu":       map[string]any{"a": map[string]any{"limits": map[string]any{"cpu": text}}},
			"[1].requests.x":     []any{"", map[string]any{"requests": map[string]any{"x": text}}},
			"emptyDir.sizeLimit": map[string]any{"emptyDir": map[string]any{"sizeLimit": text}},
		} {
			if err := CheckQuantities(tree); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
				t.Errorf("%.40q in %s: %v", text, field, err)
			}
		}
	}
	for _, text := range []string{"1", "500m", "1Gi", "2E", "1e3", "1E-3", "12e6", "0.5", "", "5e", "e", "{{inputs.parameters.cpu}}"} {
		if err := QuantityError(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if err := CheckQuantities(map[string]any{"limits": map[string]any{"cpu": text}, "env": []any{map[string]any{"value": "5e1234567"}}}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
