package workflow

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// computeLabels evaluates workflowMetadata.labelsFrom. An expression that fails, gives no text or gives one that no label can have
// is an error, as in Argo (updateWorkflowMetadata in workflow/controller/operator.go).
func (t *turn) computeLabels(spec map[string]any) error {
	from := asMap(asMap(spec["workflowMetadata"])["labelsFrom"])
	labels := map[string]string{}
	for _, k := range sortedKeys(from) {
		code := text(asMap(from[k])["expression"])
		v, err := evalAny(code, &scope{s: t.s, now: t.now, chance: &t.chance})
		if err != nil {
			return fmt.Errorf("failed to evaluate label %q expression %q: %w", k, code, err)
		}
		value, ok := v.(string)
		if !ok {
			return fmt.Errorf("failed to evaluate label %q expression %q: its value is of type %T and must be a string", k, code, v)
		}
		if faults := validation.IsValidLabelValue(value); len(faults) > 0 {
			return fmt.Errorf("invalid label value %q for label %q and expression %q: %s", value, k, code, strings.Join(faults, "; "))
		}
		labels[k] = value
	}
	if len(labels) > 0 {
		t.changeRun(kindRunChange, runChange{Labels: labels})
	}
	return nil
}
