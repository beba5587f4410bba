package sensor

import (
	"encoding/json"
	"fmt"

	"github.com/tiphys/tiphys/script"
)

// runLua runs a script with the global "event" and gives what it returns.
func runLua(source string, data []byte) (any, error) {
	var input any
	if err := json.Unmarshal(data, &input); err != nil {
		return nil, fmt.Errorf("event data is not json: %w", err)
	}
	return script.Lua(source, "event", input)
}
