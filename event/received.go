package event

import (
	"encoding/json"
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/ledger"
)

// Received is the body of an entry "event.received". The entry's subject is [Subject] and its unique key
// [DeliveryKey]; a replay's cause is the event that it repeats. Seq inside is 0: the entry has it.
type Received struct {
	Event Event `json:"event"`
}

var _ ledger.Encoder = Received{}

// recorded is how a [Received] is written: the data as it is beside the event, and what stands in the data not once more.
type recorded struct {
	Event Event `json:"event"`
	// GitInData says that the event's Git is the "git" key of the data.
	GitInData bool            `json:"gitInData,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
}

// EncodeBody implements [ledger.Encoder].
func (r Received) EncodeBody() (json.RawMessage, error) {
	out := recorded{Event: r.Event}
	out.Event.Data = nil
	if r.Event.Git != nil && gjson.GetBytes(r.Event.Data, "git").IsObject() {
		out.Event.Git, out.GitInData = nil, true
	}
	text, err := json.Marshal(out)
	if err != nil || len(r.Event.Data) == 0 {
		return text, err
	}
	// The data, which is most of it, is copied and not looked through again.
	whole := make([]byte, 0, len(text)+len(r.Event.Data)+len(`,"data":`))
	whole = append(whole, text[:len(text)-1]...)
	whole = append(whole, `,"data":`...)
	whole = append(whole, r.Event.Data...)
	return append(whole, '}'), nil
}

// MarshalJSON implements json.Marshaler: as it is recorded.
func (r Received) MarshalJSON() ([]byte, error) { return r.EncodeBody() }

// UnmarshalJSON implements json.Unmarshaler.
func (r *Received) UnmarshalJSON(text []byte) error {
	var in recorded
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	r.Event = in.Event
	if in.Data != nil {
		r.Event.Data = in.Data
	}
	if in.GitInData {
		if err := json.Unmarshal([]byte(gjson.GetBytes(r.Event.Data, "git").Raw), &r.Event.Git); err != nil {
			return fmt.Errorf("read git of event %s: %w", r.Event.ID, err)
		}
	}
	return nil
}
