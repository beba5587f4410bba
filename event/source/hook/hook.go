// Package hook is the sources that others call over HTTP: webhooks, generic senders and the forges. All share the one port.
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
)

// DefaultMaxBody is the largest body of a delivery where the source says nothing, in bytes (Argo's default).
const DefaultMaxBody = 1 << 20

// Prefix is where all webhooks are served.
const Prefix = "/webhooks/"

// hook is one event of an EventSource.
type hook struct {
	source.Definition
	settings
	kind   string
	filter *source.Filter
	tools  source.Tools
}

// refused is a delivery that did not become an event, and how it is answered.
type refused source.Answer

func refuse(status int, format string, args ...any) *refused {
	return &refused{Status: status, Reason: fmt.Sprintf(format, args...)}
}

// Run implements source.Source: a hook only answers.
func (h *hook) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Routes implements source.Receiver: /webhooks/<namespace>/<eventsource>/<event>, and
// /webhooks/<namespace>/<eventsource><endpoint> for an endpoint that the definition declares.
func (h *hook) Routes() []source.Route {
	base := Prefix + h.Namespace + "/" + h.Source + "/"
	routes := []source.Route{{Path: base + h.Event}}
	if endpoint := strings.TrimPrefix(h.context.Endpoint, "/"); endpoint != "" && endpoint != h.Event {
		routes = append(routes, source.Route{Path: base + endpoint, Declared: true})
	}
	return routes
}

func (h *hook) method() string {
	if h.context.Method == "" || h.forge != "" {
		return http.MethodPost
	}
	return h.context.Method
}

// Receive implements source.Receiver. It verifies the raw bytes before it looks at them. Refusals answer with 401 for a wrong
// signature only, and 503 for what may pass.
func (h *hook) Receive(ctx context.Context, req *http.Request) source.Answer {
	all, no := h.read(ctx, req)
	if no != nil {
		return source.Answer(*no)
	}
	// One that is not recorded has the sender send all again; those that were are known by then.
	answer := source.Answer{Status: http.StatusOK, Filtered: true}
	for i, e := range all {
		receipt, err := h.tools.Sink.Deliver(ctx, e)
		if err != nil {
			text := "the event could not be recorded; send it again"
			if errors.Is(err, ledger.ErrNoSpace) {
				text = "the event could not be recorded, because this server's disk is full; send it again when there is room"
			}
			return source.Answer{Status: http.StatusServiceUnavailable, Reason: text, Err: err}
		}
		if i == 0 {
			answer.Receipt = receipt
		}
		answer.Filtered = answer.Filtered && e.Filtered != ""
	}
	return answer
}

// read makes the events of a delivery: one, or one for each change that it tells.
func (h *hook) read(ctx context.Context, req *http.Request) ([]event.Event, *refused) {
	if req.Method != h.method() {
		return nil, refuse(http.StatusMethodNotAllowed, "event %s wants %s, got %s", h.Event, h.method(), req.Method)
	}
	body, no := h.bytes(req)
	if no != nil {
		return nil, no
	}
	secrets, err := h.secrets(ctx)
	if err != nil {
		no := refuse(http.StatusServiceUnavailable, "the secret of this webhook cannot be read now: %v", err)
		no.Err = err
		return nil, no
	}
	now := h.tools.Clock.Now()
	host := h.forge
	if host == "" {
		host = forge.Detect(req.Header)
	}
	verified, err := forge.Verify(host, req.Header, body, secrets, now)
	if err != nil {
		return nil, refuse(http.StatusUnauthorized, "%v", err)
	}
	return h.events(host, verified, req, body, now)
}

// bytes reads the body, no more of it than is allowed.
func (h *hook) bytes(req *http.Request) ([]byte, *refused) {
	limit := int64(DefaultMaxBody)
	if h.context.MaxPayloadSize != nil && *h.context.MaxPayloadSize > 0 {
		limit = *h.context.MaxPayloadSize
	}
	tooLarge := func() *refused {
		refusal := refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes; raise maxPayloadSize of the event source if that is right", limit)
		refusal.Close = true
		return refusal
	}
	if req.ContentLength > limit {
		return nil, tooLarge()
	}
	if req.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, limit+1))
	if err != nil {
		var limited *http.MaxBytesError
		if errors.As(err, &limited) {
			return nil, tooLarge()
		}
		refusal := refuse(http.StatusBadRequest, "the body could not be read: %v", err)
		refusal.Close = true
		return nil, refusal
	}
	if int64(len(body)) > limit {
		return nil, tooLarge()
	}
	return body, nil
}

var _ source.Open = (*hook)(nil)

// Unauthenticated implements [source.Open].
func (h *hook) Unauthenticated() bool {
	return h.token == nil && h.signing == nil && h.hmac == nil && h.bearer == nil
}

func (h *hook) secrets(ctx context.Context) (forge.Secrets, error) {
	s := forge.Secrets{HMACHeader: h.context.HMACHeader}
	for _, want := range []struct {
		from *corev1.SecretKeySelector
		to   **secret.Value
	}{{h.token, &s.Token}, {h.signing, &s.Signing}, {h.hmac, &s.HMAC}, {h.bearer, &s.Bearer}} {
		if want.from == nil {
			continue
		}
		value, err := h.tools.Secrets.Secret(ctx, h.Namespace, want.from.Name, want.from.Key)
		if err != nil {
			return s, fmt.Errorf("read secret %s/%s key %s: %w", h.Namespace, want.from.Name, want.from.Key, err)
		}
		*want.to = &value
	}
	return s, nil
}

// maxRepeated bounds what the events of one delivery repeat of its body, in bytes.
const maxRepeated = 16 << 20

// events are what a delivery tells. All have its whole body.
func (h *hook) events(host, verified string, req *http.Request, raw []byte, now time.Time) ([]event.Event, *refused) {
	body, no := h.body(req, raw)
	if no != nil {
		return nil, no
	}
	meanings := []*event.Git{nil}
	if host != "" {
		all, err := forge.NormaliseValid(host, req.Header, body)
		if err != nil && h.forge != "" {
			return nil, refuse(http.StatusBadRequest, "%v", err)
		}
		// A webhook of no forge's own type is an event without git where it only looks like one.
		if err == nil {
			meanings = all
		}
	}
	if n := len(meanings); n > 1 && n*len(body) > maxRepeated {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the delivery has %d changes and %d bytes, which each of their events would have: push in smaller parts", n, len(body))
	}
	events := make([]event.Event, 0, len(meanings))
	for i, g := range meanings {
		e := event.Event{ID: h.tools.NewID(), Type: h.kind, Source: h.Source, Subject: h.Event, Namespace: h.Namespace,
			Time: now.UTC(), Verified: verified, Git: g}
		h.identify(&e, host, req.Header, raw, i)
		if no := h.fill(&e, req.Header, body); no != nil {
			return nil, no
		}
		events = append(events, e)
	}
	return events, nil
}

// identify says who sent an event and by what it is known when it is sent again; n counts the events of its delivery.
func (h *hook) identify(e *event.Event, host string, header http.Header, raw []byte, n int) {
	if g := e.Git; g != nil && g.Sender.Login != "" {
		e.Actor = "user:" + g.Sender.Login
	}
	instance := h.Namespace + "/" + h.Source
	if e.Git != nil && e.Git.Instance != "" {
		instance = e.Git.Instance
	}
	e.Delivery = forge.DeliveryID(host, header, instance, raw)
	if h.forge != "" { // what others send may be the same twice
		e.Content = forge.ContentID(e.Verified, host, instance, raw)
	}
	if n == 0 {
		return
	}
	for _, id := range []*string{&e.Delivery, &e.Content} {
		if *id != "" {
			*id += fmt.Sprintf("/change-%d", n+1)
		}
	}
}

// fill builds the data in Argo's layout for the type, with our key "git" beside it, and asks the source's filter.
func (h *hook) fill(e *event.Event, header http.Header, body []byte) *refused {
	data, err := h.data(header, body, e.Git)
	if err != nil {
		return refuse(http.StatusInternalServerError, "the event could not be put together: %v", err)
	}
	e.Data = data
	e.Filtered = h.filter.Leaves(data)
	return nil
}

// body gives the JSON that stands under "body" (argo-events 1.9, eventsources/sources/webhook and github).
func (h *hook) body(req *http.Request, raw []byte) ([]byte, *refused) {
	contentType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	form := strings.TrimSpace(contentType) == "application/x-www-form-urlencoded"
	switch {
	case h.raw:
		quoted, err := json.Marshal(raw) // base64, as everything that is not said to be JSON
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the body could not be encoded: %v", err)
		}
		return quoted, nil
	case h.kind == "generic": // JSON, whatever the sender calls it
	case req.Method == http.MethodGet:
		return formJSON(req.URL.Query())
	case form:
		values, err := url.ParseQuery(string(raw))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the body is not a form: %v", err)
		}
		if payload := values.Get("payload"); h.forge != "" && payload != "" {
			raw = []byte(payload)
			break
		}
		return formJSON(values)
	}
	if !json.Valid(raw) {
		return nil, refuse(http.StatusBadRequest, "the body is not JSON")
	}
	return raw, nil
}

func formJSON(values url.Values) ([]byte, *refused) {
	out, err := json.Marshal(map[string][]string(values))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the form could not be encoded: %v", err)
	}
	return out, nil
}
