package ledger

import (
	"encoding/json"
	"fmt"
)

// Encoded is a body that was marshalled before the decision began, so that the one writer need not do it. It is made by
// [Encode] and given as [Draft.Body].
type Encoded struct {
	json  json.RawMessage
	value any
}

// Encoder is a body that marshals itself where encoding/json would do work twice.
type Encoder interface {
	// EncodeBody gives valid JSON of which encoding/json reads the same value as of its own.
	EncodeBody() (json.RawMessage, error)
}

// Encode marshals a body. The value must not be changed afterwards: projections look at it.
func Encode(v any) (Encoded, error) {
	var raw json.RawMessage
	var err error
	if own, ok := v.(Encoder); ok {
		raw, err = own.EncodeBody()
	} else {
		raw, err = json.Marshal(v)
	}
	if err != nil {
		return Encoded{}, fmt.Errorf("encode body: %w", err)
	}
	return Encoded{json: raw, value: v}, nil
}

// JSON is the body as it will be recorded.
func (e Encoded) JSON() json.RawMessage { return e.json }

// Value is what it was made from.
func (e Encoded) Value() any { return e.value }

// Read gives an entry's body as a T: the value that it was marshalled from, where the entry is just being appended, or else
// decoded. The value is shared with whoever appended it and must not be changed.
func Read[T any](e Entry) (T, error) {
	if v, ok := e.Value.(T); ok {
		return v, nil
	}
	var body T
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return body, fmt.Errorf("read entry %d (%s): %w", e.Seq, e.Kind, err)
	}
	return body, nil
}
