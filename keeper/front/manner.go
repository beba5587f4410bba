package front

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tiphys/tiphys/keeper/clients"
)

// Manner is how requests of a route are answered or sent on, beyond where they go. Its zero value changes nothing.
type Manner struct {
	// Rewrite is the path that a request goes on with; $1 to $9 are the groups of the route's expression. What follows a "?" is put before the
	// request's own query.
	Rewrite string `json:"rewrite,omitempty"`
	// AppRoot is where a request for "/" is sent.
	AppRoot string `json:"appRoot,omitempty"`
	// Redirect is where every request is sent, with Code. $request_uri, $host and $scheme in it are the request's own.
	Redirect string `json:"redirect,omitempty"`
	Code     int    `json:"code,omitempty"`
	// Encrypted sends requests without TLS to the same address with it: those of other machines, or all.
	Encrypted Encrypted `json:"encrypted,omitempty"`
	// MaxBody bounds the body of a request in bytes; 0 is no bound.
	MaxBody int64 `json:"maxBody,omitempty"`
	// Host is the host name that the application is told; the request's own if empty.
	Host string `json:"host,omitempty"`
	// Prefix is the application's X-Forwarded-Prefix; none if empty.
	Prefix string `json:"prefix,omitempty"`
	// Clients are the networks whose requests are answered; all if there is none.
	Clients []netip.Prefix `json:"clients,omitempty"`
	CORS    *CORS          `json:"cors,omitempty"`
	Cookie  *Cookie        `json:"cookie,omitempty"`
}

// Encrypted says which requests must have TLS.
type Encrypted string

// The values of Encrypted. Nobody hears what is said over this machine's loopback.
const (
	EncryptedElsewhere Encrypted = "elsewhere" // those that do not come over loopback
	EncryptedAlways    Encrypted = "always"
)

// CORS answers for an application what pages of other origins may do; see https://fetch.spec.whatwg.org/#http-cors-protocol.
type CORS struct {
	// Origins are "*", whole origins, or those with one label for any: "https://*.example.org".
	Origins     []string `json:"origins"`
	Methods     string   `json:"methods"`
	Headers     string   `json:"headers"`
	Expose      string   `json:"expose,omitempty"`
	Credentials bool     `json:"credentials,omitempty"`
	MaxAge      int      `json:"maxAge"` // seconds
}

// Redirectable tells whether a status sends a client elsewhere.
func Redirectable(code int) bool {
	return slices.Contains([]int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}, code)
}

// check refuses what nobody could mean, so that a table has bounds.
func (m *Manner) check() error {
	if m == nil {
		return nil
	}
	if m.Redirect != "" && !Redirectable(m.Code) {
		return fmt.Errorf("%d does not send a client elsewhere", m.Code)
	}
	texts := []string{m.Rewrite, m.AppRoot, m.Redirect, m.Host, m.Prefix}
	if m.CORS != nil {
		texts = append(append(texts, m.CORS.Methods, m.CORS.Headers, m.CORS.Expose), m.CORS.Origins...)
	}
	if m.Cookie != nil {
		texts = append(texts, m.Cookie.Name, m.Cookie.Path)
	}
	sum := 0
	for _, text := range texts {
		if sum += len(text); sum > maxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("an answer has a text that is too long, or has a control character: %.100q", text)
		}
	}
	if len(m.Clients) > maxClients {
		return fmt.Errorf("a route has %d networks of clients; at most %d are taken", len(m.Clients), maxClients)
	}
	return nil
}

// maxClients bounds the networks of a route.
const maxClients = 256

// answer answers a request that does not go on to the application, and reports whether it did.
func (m *Manner) answer(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case !m.lets(r):
		Page(w, http.StatusForbidden, "Not from here", "This application takes requests of certain networks only.")
	case m.wantsTLS(r):
		w.Header().Set("Connection", "close")
		http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusPermanentRedirect)
	case m.Redirect != "":
		w.Header().Set("Location", m.location(r))
		w.WriteHeader(m.Code)
	case m.AppRoot != "" && r.URL.Path == "/":
		w.Header().Set("Location", m.AppRoot)
		w.WriteHeader(http.StatusFound)
	case m.MaxBody > 0 && r.ContentLength > m.MaxBody:
		m.tooLarge(w)
	case m.CORS != nil && r.Method == http.MethodOptions:
		m.CORS.allow(w.Header(), r)
		w.WriteHeader(http.StatusNoContent)
	default:
		return false
	}
	return true
}

func (m *Manner) tooLarge(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	Page(w, http.StatusRequestEntityTooLarge, "Too large", fmt.Sprintf("This application takes bodies of %d bytes at most.", m.MaxBody))
}

// lets says whether a request's client is one that is answered.
func (m *Manner) lets(r *http.Request) bool {
	if len(m.Clients) == 0 {
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(m.Clients, func(p netip.Prefix) bool { return p.Contains(from.Addr().Unmap()) })
}

// secure says whether the client speaks TLS, with this machine or with a proxy in front that says so.
func secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

func (m *Manner) wantsTLS(r *http.Request) bool {
	if m.Encrypted == "" || secure(r) {
		return false
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return m.Encrypted == EncryptedAlways || err != nil || !from.Addr().Unmap().IsLoopback()
}

func (m *Manner) location(r *http.Request) string {
	if !strings.Contains(m.Redirect, "$") {
		return m.Redirect
	}
	scheme := "http"
	if secure(r) {
		scheme = "https"
	}
	return strings.NewReplacer("$request_uri", r.URL.RequestURI(), "$host", Host(r.Host), "$scheme", scheme).Replace(m.Redirect)
}

// errTooLong says that a rewriting made too much of a path.
var errTooLong = errors.New("the rewritten path is too long")

// send changes a request on its way to the application.
func (a *attempt) send(out *http.Request) {
	m := a.manner
	if m.Host != "" {
		out.Host = m.Host
	}
	if m.Prefix != "" {
		out.Header.Set("X-Forwarded-Prefix", m.Prefix)
	}
	if m.Rewrite == "" || a.pattern == nil {
		return
	}
	target, query, more := strings.Cut(m.Rewrite, "?")
	made, fits := rewritten(a.pattern, a.path, target)
	if !fits {
		a.broken = errTooLong
		return
	}
	own := out.URL.RawQuery
	out.URL = &url.URL{Scheme: out.URL.Scheme, Host: out.URL.Host, Path: made, RawQuery: own}
	switch {
	case more && query == "": // as nginx has it: a "?" at the end leaves out the request's own
		out.URL.RawQuery = ""
	case more && own != "":
		out.URL.RawQuery = query + "&" + own
	case more:
		out.URL.RawQuery = query
	}
}

// receive changes an answer on its way to the client.
func (a *attempt) receive(response *http.Response) {
	if a.manner.CORS != nil && response.Request != nil {
		a.manner.CORS.allow(response.Header, response.Request)
	}
	if c := a.manner.Cookie; c != nil && a.sticks != a.stuck {
		response.Header.Add("Set-Cookie", c.set(a.sticks).String())
	}
}

// allow says what a page may do, if it is one of the origins.
func (c *CORS) allow(h http.Header, r *http.Request) {
	origin := r.Header.Get("Origin")
	for _, name := range []string{"Allow-Origin", "Allow-Credentials", "Allow-Methods", "Allow-Headers", "Expose-Headers", "Max-Age"} {
		h.Del("Access-Control-" + name)
	}
	switch {
	case slices.Contains(c.Origins, "*"):
		h.Set("Access-Control-Allow-Origin", "*")
	case !slices.ContainsFunc(c.Origins, func(pattern string) bool { return matchesOrigin(pattern, origin) }):
		h.Add("Vary", "Origin")
		return
	default:
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
	}
	h.Set("Access-Control-Allow-Methods", c.Methods)
	h.Set("Access-Control-Allow-Headers", c.Headers)
	h.Set("Access-Control-Max-Age", fmt.Sprint(c.MaxAge))
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if c.Expose != "" {
		h.Set("Access-Control-Expose-Headers", c.Expose)
	}
}

// matchesOrigin compares an origin with one of a list, whose "*" stands for one label.
func matchesOrigin(pattern, origin string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return origin == pattern
	}
	rest, ok := strings.CutPrefix(origin, before)
	if !ok {
		return false
	}
	label, ok := strings.CutSuffix(rest, after)
	return ok && label != "" && !strings.ContainsAny(label, "./:@")
}

// bounded is a body of which no more than a bound is read.
type bounded struct {
	io.ReadCloser
	left int64
	over atomic.Bool
}

var errTooLarge = errors.New("the body of the request is too large")

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		b.over.Store(true)
		n, b.left = int(b.left), 0
		return n, errTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// bound bounds the body of a request.
func (a *attempt) bound(w http.ResponseWriter, r *http.Request, to route) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	if !converses(r, to) {
		a.body = clients.NewBody(r.Body, http.NewResponseController(w))
		r.Body = a.body
	}
	if a.manner != nil && a.manner.MaxBody > 0 {
		a.size = &bounded{ReadCloser: r.Body, left: a.manner.MaxBody}
		r.Body = a.size
	}
}
