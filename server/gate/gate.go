// Package gate is the one way in: every route of the server passes it, and what a route does not allow is denied.
package gate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/secret"
)

// Access says who may use a route.
type Access int

// The levels. Nothing is the zero value, so that a route that forgets to say is closed.
const (
	Nobody Access = iota
	// Public routes check for themselves (webhooks verify signatures) or hold nothing secret (health).
	Public
	// User routes take whoever proves to be a person or a robot.
	User
	// Step routes take a step's token.
	Step
	// UserOrStep routes take either; the handler distinguishes.
	UserOrStep
)

// Route is one line of the server's route table.
type Route struct {
	// Pattern is of net/http's ServeMux: "GET /api/v1/runs".
	Pattern string
	Access  Access
	// Door is the part of the port that the route belongs to, for tokens that are worth some parts only.
	Door access.Door
	// Body is the most bytes of a request's body; 0 means that it has none.
	Body int64
	// Timeout bounds the handler; 0 means that it streams and bounds itself.
	Timeout time.Duration
	// Endless tells which requests would go on for ever: they end when the server stops. nil means that each ends by itself
	// and is waited for.
	Endless func(*http.Request) bool
	// Ask is for routes of users and steps; public ones ask for themselves.
	Ask    Ask
	Handle http.HandlerFunc
}

// Ask is what the policy is asked before a route's handler runs. The zero value is nothing that anybody may.
type Ask struct {
	Verb access.Verb
	// Kind of the object; "{kind}" stands for that part of the path. Its namespace and name are the path's.
	Kind string
	// Each says that the handler asks about each object, because the request names several or the answer has several: the gate asks
	// whether there can be one at all.
	Each bool
}

// Of asks the policy whether an identity may do what a request is for.
func (a Ask) Of(policy access.Policy, id Identity, req *http.Request) error {
	if a.Verb == "" || a.Kind == "" {
		return failure.New(failure.Refused, "this route does not say what it is for")
	}
	kind := a.Kind
	if kind == "{kind}" {
		kind = req.PathValue("kind")
	}
	if a.Each {
		return policy.Some(id, a.Verb, kind)
	}
	name := cmp.Or(req.PathValue("name"), req.PathValue("id"), req.PathValue("key"), req.PathValue("repo"))
	if number := req.PathValue("number"); number != "" {
		name += "!" + number
	}
	return policy.Can(id, a.Verb, kind, req.PathValue("namespace"), name)
}

// Identity is who asks.
type Identity = access.Identity

// From gives the identity that the gate found.
func From(ctx context.Context) Identity { return access.From(ctx) }

// Gate identifies callers. Create it with New.
type Gate struct {
	token secret.Value
	steps *steptoken.Issuer
	// policy says who may do what.
	policy   access.Policy
	attempts Attempts
	people   *people.Store
	projects Projects
	metrics  secret.Value
	public   *url.URL
	tries    tries
	now      func() time.Time
	// streams ends the requests of which Route.Endless is true.
	streams    context.Context
	endStreams context.CancelFunc
	watched    watched
	log        *slog.Logger
}

// Options of a Gate.
type Options struct {
	// Token is the admin token. It is nobody's own: its holders say who they are.
	Token secret.Value
	Steps *steptoken.Issuer
	// Policy says who may do what; it is needed, since the zero value refuses everything.
	Policy access.Policy
	// Attempts are needed where Steps is set.
	Attempts Attempts
	// People are those who have credentials of their own, and the sessions of browsers; nil for nobody.
	People *people.Store
	// Projects tells what people have by roles of AppProjects; nil for nothing.
	Projects Projects
	// Metrics is a token that is worth the metrics and nothing else; empty for none.
	Metrics secret.Value
	// Public is the address under which the server is reached from elsewhere; nil if it was not said.
	Public *url.URL
	Now    func() time.Time
	// Log gets what broke in the server while it answered; nil for none.
	Log *slog.Logger
}

// Projects tells what people have by roles of AppProjects.
type Projects interface {
	// Of gives somebody's membership by their name among people. An error is one of the record: it is not known.
	Of(ctx context.Context, person string) (access.Membership, error)
}

// Attempts tells which attempts still run: a step's token ends with its attempt.
type Attempts interface {
	// Alive tells whether the attempt of a token still runs. An error is one of the record: it is not known.
	Alive(ctx context.Context, c steptoken.Claims) (bool, error)
}

// New returns a gate.
func New(o Options) (*Gate, error) {
	g := &Gate{token: o.Token, steps: o.Steps, policy: o.Policy, attempts: o.Attempts, people: o.People, projects: o.Projects, metrics: o.Metrics, public: o.Public, now: o.Now, log: o.Log}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	g.streams, g.endStreams = context.WithCancel(context.Background())
	return g, nil
}

// errors of identification.
var (
	errNoToken  = failure.New(failure.Unauthenticated, "this needs a token: send Authorization: Bearer TOKEN, or log in (tiphys login)")
	errBadToken = failure.New(failure.Unauthenticated, "the token is not valid")
	errOrigin   = failure.New(failure.Refused, "the request comes from another site")
	errStopping = failure.New(failure.Waiting, "the server stops")
	errStep     = failure.New(failure.Refused, "a step's token is not enough for this")
)

// Wrap returns a route's handler behind the gate.
func (g *Gate) Wrap(r Route) http.Handler {
	h := http.Handler(r.Handle)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.Body == 0 && req.ContentLength > 0 {
			Fail(w, failure.New(failure.TooLarge, "this request takes no body"))
			return
		}
		if req.ContentLength > r.Body {
			Fail(w, failure.Errorf(failure.TooLarge, "the body has %d bytes and at most %d are taken", req.ContentLength, r.Body))
			return
		}
		id, err := g.ask(req, r)
		if err != nil {
			if failure.Is(err, failure.Unauthenticated) {
				challenge(w, req)
			}
			Fail(&answer{ResponseWriter: w, g: g, req: req, id: id}, err)
			return
		}
		out := &answer{ResponseWriter: w, g: g, req: req, id: id}
		defer deadlines(out, req, r)()
		req.Body = http.MaxBytesReader(w, req.Body, r.Body)
		ctx := access.With(req.Context(), id)
		if r.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("the request took longer than %s", r.Timeout))
			defer cancel()
		}
		if r.Endless != nil && r.Endless(req) {
			if req.Method == http.MethodHead {
				return // there is nothing to stream, and the next request on the connection would wait for the end
			}
			var cancel context.CancelCauseFunc
			ctx, cancel = context.WithCancelCause(ctx)
			defer cancel(nil)
			defer context.AfterFunc(g.streams, func() { cancel(errStopping) })()
			defer g.watched.add(&stream{req: req, route: r, id: id, end: cancel})()
		}
		h.ServeHTTP(out, req.WithContext(ctx))
	})
}

// EndStreams ends, now and from now on, the requests that would go on for ever. Their clients ask the next server.
func (g *Gate) EndStreams() { g.endStreams() }

// Always is [Route.Endless] of a route that only streams.
func Always(*http.Request) bool { return true }

// Following is [Route.Endless] of a log: endless if the query parameter asks to follow it.
func Following(parameter string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		v := r.URL.Query().Get(parameter)
		return v == "1" || v == "true"
	}
}

// ask tells who asks, if they may do what a route is for.
func (g *Gate) ask(req *http.Request, r Route) (Identity, error) {
	id, err := g.admit(req, r)
	if err == nil && r.Access != Public {
		err = r.Ask.Of(g.policy, id, req)
	}
	return id, err
}

func (g *Gate) admit(req *http.Request, r Route) (Identity, error) {
	switch r.Access {
	case Public:
		id, err := g.Enter(req, r.Door)
		if err != nil {
			return Identity{}, nil //nolint:nilerr // a public route has no need of an identity
		}
		return id, nil
	case User, Step, UserOrStep:
	default:
		return Identity{}, failure.New(failure.Unauthenticated, "nobody may use this route")
	}
	id, err := g.Enter(req, r.Door)
	if err != nil {
		return id, err
	}
	if id.Step != nil && r.Access == User {
		return id, errStep
	}
	if id.Step == nil && r.Access == Step {
		return id, failure.New(failure.Unauthenticated, "only a step's token may use this")
	}
	return id, nil
}

// Enter tells who asks at a door, with what their credential is worth there.
func (g *Gate) Enter(req *http.Request, d access.Door) (Identity, error) {
	id, err := g.identify(req)
	if err != nil {
		return Identity{}, err
	}
	if g.projects != nil && d == access.DoorAPI && id.Step == nil {
		if id.Member, err = g.projects.Of(req.Context(), id.Person); err != nil {
			return Identity{}, failure.Mark(failure.Waiting, fmt.Errorf("find out what %s has by roles of projects: %w", id.Actor, err))
		}
	}
	return id.At(d)
}

// identify tells who asks.
func (g *Gate) identify(req *http.Request) (Identity, error) {
	if tok := bearer(req); tok != "" {
		// A browser adds what it was once told for Basic to every request, whoever's page makes it.
		if _, _, basic := req.BasicAuth(); basic && !sameSite(req) {
			return Identity{}, errOrigin
		}
		return g.byToken(req, tok)
	}
	return g.bySession(req)
}

func (g *Gate) byToken(req *http.Request, tok string) (Identity, error) {
	switch {
	case g.steps != nil && steptoken.Is(tok):
		return g.step(req.Context(), tok)
	case g.people != nil && people.IsToken(tok):
		return g.people.ByToken(req.Context(), tok, claim(req))
	case !g.metrics.IsZero() && g.metrics.Is(tok):
		return Identity{Actor: "robot:metrics", Verified: true, Role: access.Viewer, Only: []access.Scope{access.ScopeMetrics}}, nil
	case !g.token.IsZero() && g.token.Is(tok):
		return access.Administrator(claim(req)), nil
	}
	return Identity{}, errBadToken
}

func (g *Gate) step(ctx context.Context, tok string) (Identity, error) {
	claims, err := g.steps.Verify(tok)
	if err != nil {
		return Identity{}, errBadToken
	}
	alive, err := g.attempts.Alive(ctx, claims)
	if err != nil {
		return Identity{}, failure.Mark(failure.Waiting, fmt.Errorf("look for the step of this token: %w", err))
	}
	if !alive {
		return Identity{}, failure.New(failure.Unauthenticated, "the step that this token belongs to has ended")
	}
	return Identity{Actor: "step:" + claims.Run + "/" + claims.Node, Verified: true, Step: &claims}, nil
}

// ClaimHeader is where a holder of the admin token says who acts, as Git does with a committer's name. It is worth what the caller's word is.
const ClaimHeader = "Tiphys-User"

// maxClaim is the most of a name that is kept, in bytes.
const maxClaim = 100

// claim is the name that a caller gives, on one line.
func claim(req *http.Request) string {
	name := req.Header.Get(ClaimHeader)
	if name == "" {
		name, _, _ = req.BasicAuth()
	}
	name = strings.Join(strings.FieldsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(name) > maxClaim {
		name = strings.ToValidUTF8(name[:maxClaim], "")
	}
	return strings.TrimSpace(strings.TrimSuffix(name, "(unverified)"))
}

func sameSite(req *http.Request) bool {
	// Applications and previews are of the same site, and not of the same origin.
	if site := req.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return false
	}
	origin := req.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, req.Host)
}

// LoopbackHost reports whether a Host header names this machine itself.
func LoopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func bearer(req *http.Request) string {
	auth := req.Header.Get("Authorization")
	if tok, ok := strings.CutPrefix(auth, "Bearer "); ok {
		return strings.TrimSpace(tok)
	}
	// git and registry clients speak Basic: the password is the token.
	if _, password, ok := req.BasicAuth(); ok {
		return password
	}
	return ""
}

// challenge says how to prove who one is. The screens have a form for it: at Basic a browser would ask by itself, and
// keep the answer to the screens waiting. Git and the registry's clients know nothing else.
func challenge(w http.ResponseWriter, req *http.Request) {
	if strings.HasPrefix(req.URL.Path, "/api/") {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tiphys"`)
	}
}

// Fail answers with an error in the API's shape. What the error means decides on the status, and who asked on how much is told.
func Fail(w http.ResponseWriter, err error) { FailWith(w, failure.HTTPStatus(err), err) }

// FailWith is [Fail] with a status that a protocol prescribes.
func FailWith(w http.ResponseWriter, code int, err error) {
	body := struct {
		Code    int    `json:"code"`
		Kind    string `json:"kind"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
	}{code, failure.FromHTTP(code).String(), failure.Tell(w, err), failure.HintOf(err)}
	if kind := failure.KindOf(err); kind != failure.Unclassified {
		body.Kind = kind.String()
	}
	failure.SetRetryAfter(w.Header(), err)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if code == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="tiphys"`)
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
