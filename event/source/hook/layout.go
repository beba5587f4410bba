package hook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
)

// maskedHeader takes the place of a secret in the recorded headers; the words are Argo's.
const maskedHeader = "*** Masked Auth Secret ***"

// data lays the event out as Argo does for the type: "header" for a webhook, "headers" for a forge. body is valid JSON; an empty one
// is null.
func (h *hook) data(header http.Header, body []byte, g *event.Git) (json.RawMessage, error) {
	type layout struct {
		Header   http.Header       `json:"header,omitempty"`
		Headers  http.Header       `json:"headers,omitempty"`
		Metadata map[string]string `json:"metadata,omitempty"`
		Git      *event.Git        `json:"git,omitempty"`
	}
	if len(body) == 0 {
		body = []byte("null")
	}
	d := layout{Metadata: h.metadata, Git: g}
	if d.Metadata == nil {
		d.Metadata = h.context.Metadata
	}
	switch h.kind {
	case "generic":
	case "webhook":
		d.Header = masked(header)
	default:
		d.Headers = masked(header)
	}
	if h.kind == forge.GitHub && gjson.ParseBytes(body).IsObject() {
		for _, name := range []string{"X-GitHub-Event", "X-GitHub-Delivery"} {
			var err error
			if body, err = sjson.SetBytes(body, name, header.Get(name)); err != nil {
				return nil, fmt.Errorf("add %s to the body: %w", name, err)
			}
		}
	}
	around, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	body = compact(body)
	data := append(make([]byte, 0, len(around)+len(body)+len(`"body":,`)), `{"body":`...)
	data = append(data, body...)
	if len(around) > len("{}") {
		data = append(data, ',')
	}
	return append(data, around[1:]...), nil
}

// compact gives valid JSON as json.Marshal writes it, which is what Argo hands to parameters. Most forges send it so already, and
// then it costs a glance.
func compact(body []byte) []byte {
	text, escaped := false, false
	for i, c := range body {
		switch {
		case c == '<', c == '>', c == '&', c == 0xe2 && bytes.HasPrefix(body[i:], []byte("\u2028"[:2])):
			return marshalled(body)
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case !text && (c == ' ' || c == '\n' || c == '\t' || c == '\r'):
			return marshalled(body)
		}
	}
	return body
}

func marshalled(body []byte) []byte {
	out, err := json.Marshal(json.RawMessage(body))
	if err != nil {
		return body // it is valid
	}
	return out
}

// masked copies headers without what proves identity.
func masked(header http.Header) http.Header {
	out := header.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "X-Gitlab-Token", "Cookie"} {
		if len(out.Values(name)) > 0 {
			out.Set(name, maskedHeader)
		}
	}
	return out
}
