// Package source turns what comes in from outside, a delivery by HTTP or a tick of a calendar, into an event. It
// records nothing: whoever calls it answers 2xx only after the event is in the ledger.
package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// DefaultMaxBody is the largest body of a delivery where the source says nothing, in bytes (Argo's default).
const DefaultMaxBody = 1 << 20

// Prefix is where all webhooks are served.
const Prefix = "/webhooks/"

// Lookup finds a key of a Secret. Any error is taken for a transient one: a sender that is told otherwise may
// give up for good.
type Lookup func(ctx context.Context, namespace, name, key string) (secret.Value, error)

// Options of a [Receiver]; Now and NewID are required.
type Options struct {
	Now   func() time.Time
	NewID func() string
	// MaxBody limits sources that do not say; 0 means [DefaultMaxBody].
	MaxBody int64
}

// Receiver turns deliveries for one EventSource into events. It is safe for concurrent use.
type Receiver struct {
	Namespace, Name string
	lookup          Lookup
	options         Options
	hooks           []*hook
	routes          []Route
	byPath          map[string]*hook
}

// Route is a path at which one event of a source is received.
type Route struct {
	Path    string `json:"path"`
	Subject string `json:"subject"`
	Type    string `json:"type"`
	// Method is GET or POST.
	Method string `json:"method"`
}

// Refusal says why a delivery did not become an event, and how to answer it.
type Refusal struct { //nolint:errname // an answer to a sender; where nothing is wrong it is not an error
	Status int
	// Reason is for the sender and the log; it holds no secret.
	Reason string
	// Dropped says that the source's filter left the event out: the answer is 200, and nothing is wrong.
	Dropped bool
	// Close says that the connection must be closed: the body was not read to its end.
	Close bool
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reason }

func refuse(status int, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Reason: fmt.Sprintf(format, args...)}
}

// hook is one event of the source.
type hook struct {
	subject, kind, forge string
	context              manifest.WebhookContext
	metadata             map[string]string
	filter               *filter
	jsonBody             bool

	token, signing, hmac, bearer *corev1.SecretKeySelector
}

// New makes a receiver of an EventSource's events that come by HTTP. Types that are not run are errors by name;
// calendars are left to [NewCalendar]. With errors the receiver has the events that can be received.
func New(es *manifest.EventSource, lookup Lookup, options Options) (*Receiver, []manifest.Diagnostic) {
	r := &Receiver{Namespace: namespaceOf(es), Name: es.Name, lookup: lookup, options: options}
	if r.options.MaxBody == 0 {
		r.options.MaxBody = DefaultMaxBody
	}
	diagnostics := manifest.ValidateEventSource(es)
	names := es.Spec.Names()
	for kind, events := range names {
		if kind == "calendar" {
			continue
		}
		for _, name := range events {
			h, filterText := hookOf(&es.Spec, kind, name)
			path := manifest.JoinPath("spec."+kind, name)
			if h == nil {
				diagnostics = append(diagnostics, manifest.Diagnostic{Severity: manifest.SeverityError, Path: path,
					Message: fmt.Sprintf("event source type %q is understood but not run by this version", kind),
					Hint:    "send its events to a webhook source instead"})
				continue
			}
			compiled, err := compileFilter(filterText)
			if err != nil {
				diagnostics = append(diagnostics, manifest.Diagnostic{Severity: manifest.SeverityError,
					Path: path + ".filter.expression", Message: err.Error()})
				continue
			}
			h.subject, h.kind, h.filter = name, kind, compiled
			r.hooks = append(r.hooks, h)
		}
	}
	slices.SortFunc(r.hooks, func(a, b *hook) int { return strings.Compare(a.subject, b.subject) })
	r.route()
	return r, diagnostics
}

func namespaceOf(es *manifest.EventSource) string {
	if es.Namespace == "" {
		return "default"
	}
	return es.Namespace
}

func contextOf(c *manifest.WebhookContext) manifest.WebhookContext {
	if c == nil {
		return manifest.WebhookContext{}
	}
	return *c
}

// hookOf reads the definition of one event; nil for a type that is not run.
func hookOf(spec *manifest.EventSourceSpec, kind, name string) (*hook, *manifest.EventSourceFilter) {
	var h *hook
	var f *manifest.EventSourceFilter
	switch kind {
	case "webhook":
		d := spec.Webhook[name]
		h, f = &hook{context: d.WebhookContext, metadata: d.Metadata}, d.Filter
	case "generic":
		d := spec.Generic[name]
		h, f = &hook{metadata: d.Metadata, jsonBody: d.JSONBody, bearer: d.AuthSecret}, d.Filter
	case "gitlab":
		d := spec.GitLab[name]
		h, f = &hook{forge: forge.GitLab, context: contextOf(d.Webhook), metadata: d.Metadata, token: d.SecretToken, signing: d.SigningToken}, d.Filter
	case "github":
		d := spec.GitHub[name]
		h, f = &hook{forge: forge.GitHub, context: contextOf(d.Webhook), metadata: d.Metadata, hmac: d.WebhookSecret}, d.Filter
	case "gitea":
		d := spec.Gitea[name]
		h, f = &hook{forge: forge.Gitea, context: contextOf(d.Webhook), metadata: d.Metadata, hmac: d.WebhookSecret}, d.Filter
	case "bitbucket":
		d := spec.Bitbucket[name]
		h, f = &hook{forge: forge.Bitbucket, context: contextOf(d.Webhook), metadata: d.Metadata, hmac: d.WebhookSecret}, d.Filter
	case "bitbucketserver":
		d := spec.BitbucketServer[name]
		h, f = &hook{forge: forge.BitbucketServer, context: contextOf(d.Webhook), metadata: d.Metadata, hmac: d.WebhookSecret}, d.Filter
	default:
		return nil, nil
	}
	if h.bearer == nil {
		h.bearer = h.context.AuthSecret
	}
	if h.hmac == nil {
		h.hmac = h.context.HMACSecret
	}
	return h, f
}

// Routes are the paths to serve: /webhooks/<namespace>/<eventsource>/<event>, and
// /webhooks/<namespace>/<eventsource><endpoint> for an endpoint that the definition declares.
func (r *Receiver) Routes() []Route { return slices.Clone(r.routes) }

func (r *Receiver) route() {
	base := Prefix + r.Namespace + "/" + r.Name
	r.byPath = map[string]*hook{}
	add := func(h *hook, path string) {
		// An event's own path comes before an endpoint that looks like it.
		if r.byPath[path] == nil {
			r.byPath[path] = h
			r.routes = append(r.routes, Route{Path: path, Subject: h.subject, Type: h.kind, Method: h.method()})
		}
	}
	for _, h := range r.hooks {
		add(h, base+"/"+h.subject)
	}
	for _, h := range r.hooks {
		if endpoint := strings.TrimPrefix(h.context.Endpoint, "/"); endpoint != "" {
			add(h, base+"/"+endpoint)
		}
	}
}

func (h *hook) method() string {
	if h.context.Method == "" || h.forge != "" {
		return http.MethodPost
	}
	return h.context.Method
}

// Receive makes an event of a delivery. It verifies the raw bytes before it looks at them. The event has no
// sequence yet. Refusals answer with 401 for a wrong signature only, and 503 for what may pass.
func (r *Receiver) Receive(ctx context.Context, req *http.Request) (event.Event, *Refusal) {
	found := r.byPath[req.URL.Path]
	if found == nil {
		return event.Event{}, refuse(http.StatusNotFound, "event source %s/%s has no event at %s", r.Namespace, r.Name, req.URL.Path)
	}
	if req.Method != found.method() {
		return event.Event{}, refuse(http.StatusMethodNotAllowed, "event %s wants %s, got %s", found.subject, found.method(), req.Method)
	}
	body, refusal := r.read(found, req)
	if refusal != nil {
		return event.Event{}, refusal
	}
	secrets, err := r.secrets(ctx, found)
	if err != nil {
		return event.Event{}, refuse(http.StatusServiceUnavailable, "the secret of this webhook cannot be read now: %v", err)
	}
	now := r.options.Now()
	detected := forge.Detect(req.Header)
	host := found.forge
	if host == "" {
		host = detected
	}
	verified, err := forge.Verify(host, req.Header, body, secrets, now)
	if err != nil {
		return event.Event{}, refuse(http.StatusUnauthorized, "%v", err)
	}
	return r.event(found, host, verified, req, body, now)
}

func (r *Receiver) read(h *hook, req *http.Request) ([]byte, *Refusal) {
	limit := r.options.MaxBody
	if h.context.MaxPayloadSize != nil && *h.context.MaxPayloadSize > 0 {
		limit = *h.context.MaxPayloadSize
	}
	tooLarge := func() *Refusal {
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

func (r *Receiver) secrets(ctx context.Context, h *hook) (forge.Secrets, error) {
	s := forge.Secrets{HMACHeader: h.context.HMACHeader}
	for _, want := range []struct {
		from *corev1.SecretKeySelector
		to   **secret.Value
	}{{h.token, &s.Token}, {h.signing, &s.Signing}, {h.hmac, &s.HMAC}, {h.bearer, &s.Bearer}} {
		if want.from == nil {
			continue
		}
		if r.lookup == nil {
			return s, fmt.Errorf("read secret %s/%s: there is no store of secrets", r.Namespace, want.from.Name)
		}
		value, err := r.lookup(ctx, r.Namespace, want.from.Name, want.from.Key)
		if err != nil {
			return s, fmt.Errorf("read secret %s/%s key %s: %w", r.Namespace, want.from.Name, want.from.Key, err)
		}
		*want.to = &value
	}
	return s, nil
}

// event builds the data in Argo's layout for the type, with our key "git" beside it.
func (r *Receiver) event(h *hook, host, verified string, req *http.Request, raw []byte, now time.Time) (event.Event, *Refusal) {
	e := event.Event{ID: r.options.NewID(), Type: h.kind, Source: r.Name, Subject: h.subject, Namespace: r.Namespace,
		Time: now.UTC(), Verified: verified}
	body, refusal := h.body(req, raw)
	if refusal != nil {
		return event.Event{}, refusal
	}
	if host != "" {
		g, err := forge.NormaliseValid(host, req.Header, body)
		if err != nil && h.forge != "" {
			return event.Event{}, refuse(http.StatusBadRequest, "%v", err)
		}
		// A webhook of no forge's own type is an event without git where it only looks like one.
		if err == nil {
			e.Git = g
		}
	}
	if g := e.Git; g != nil && g.Sender.Login != "" {
		e.Actor = "user:" + g.Sender.Login
	}
	instance := r.Namespace + "/" + r.Name
	if e.Git != nil && e.Git.Instance != "" {
		instance = e.Git.Instance
	}
	e.Delivery = forge.DeliveryID(host, req.Header, instance, raw)
	data, err := h.data(req.Header, body, e.Git)
	if err != nil {
		return event.Event{}, refuse(http.StatusInternalServerError, "the event could not be put together: %v", err)
	}
	e.Data = data
	pass, err := h.filter.pass(data)
	if err != nil || !pass {
		reason := "the event source's filter is not true for this event"
		if err != nil {
			reason = fmt.Sprintf("the event source's filter failed: %v", err)
		}
		return e, &Refusal{Status: http.StatusOK, Reason: reason, Dropped: true}
	}
	return e, nil
}

// body gives the JSON that stands under "body" (argo-events 1.9, eventsources/sources/webhook and github).
func (h *hook) body(req *http.Request, raw []byte) ([]byte, *Refusal) {
	contentType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	form := strings.TrimSpace(contentType) == "application/x-www-form-urlencoded"
	switch {
	case h.kind == "generic":
		if h.jsonBody {
			break
		}
		quoted, err := json.Marshal(raw) // base64, as everything that is not said to be JSON
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the body could not be encoded: %v", err)
		}
		return quoted, nil
	case h.kind == "webhook" && req.Method == http.MethodGet:
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

func formJSON(values url.Values) ([]byte, *Refusal) {
	out, err := json.Marshal(map[string][]string(values))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the form could not be encoded: %v", err)
	}
	return out, nil
}
