package sensor

import (
	"fmt"
	"time"

	"github.com/tiphys/tiphys/budget"
)

// maxOutput bounds what one template, script or parameter may produce, in bytes.
const maxOutput = 1 << 20

// errTooLarge says that a template or script made more than it may.
var errTooLarge = fmt.Errorf("result is larger than %d bytes", maxOutput)

// render executes a text template with .Input; an empty result and "<no value>" are errors, as in Argo. now is the event's time,
// so that a replay gives the same.
func render(b *budget.Budget, text string, input any, now time.Time) (string, error) {
	if err := b.Step(int64(len(text))); err != nil {
		return "", err
	}
	t, err := budget.ParseTemplate(text, budget.NewSprigs(), functions(b, now))
	if err != nil {
		return "", fmt.Errorf("parse template: %w", err)
	}
	out, err := t.Execute(b, maxOutput, map[string]any{"Input": input}, nil)
	if err != nil {
		return "", fmt.Errorf("execute template: %w", err)
	}
	switch out {
	case "", "<no value>":
		return "", fmt.Errorf("template gives no value")
	}
	return out, nil
}
