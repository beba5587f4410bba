package hook

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// Whatever shape a body has, it becomes what encoding/json makes of it.
func TestCompactIsWhatMarshalWrites(t *testing.T) {
	pieces := []string{`{"a":1}`, `{"a": 1}`, "[1,\n2]", `"<b>&"`, `"\" x"`, `"a\\"`, `{"a\"b":" c "}`, "\"\u2028\"", `"é "`, "[ ]", `"\\\" "`, "null", "\t1"}
	rapid.Check(t, func(r *rapid.T) {
		body := []byte("[" + rapid.SampledFrom(pieces).Draw(r, "first") + "," + rapid.SampledFrom(pieces).Draw(r, "second") + "]")
		want, err := json.Marshal(json.RawMessage(body))
		if err != nil {
			r.Fatal(err)
		}
		if got := compact(body); string(got) != string(want) {
			r.Errorf("compact(%s) = %s, want %s", body, got, want)
		}
	})
}
