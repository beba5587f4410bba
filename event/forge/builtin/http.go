package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Services of Git's smart HTTP protocol (gitprotocol-http(5)).
const (
	serviceFetch = "git-upload-pack"
	servicePush  = "git-receive-pack"
)

var protocolPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9=:._-]{1,200}$`) })

// Handler serves /git/REPO.git/…; the path must still have its /git/ in front.
func (r *Remote) Handler() http.Handler { return http.HandlerFunc(r.serve) }

func (r *Remote) serve(w http.ResponseWriter, req *http.Request) {
	rest, ok := strings.CutPrefix(req.URL.Path, "/git/")
	name, op, ok2 := splitPath(rest)
	if !ok || !ok2 || CheckName(name) != nil {
		http.Error(w, "there is no such repository: use /git/NAME.git or /git/OWNER/NAME.git", http.StatusNotFound)
		return
	}
	service, ok := requestedService(w, req, op)
	if !ok {
		return
	}
	who, err := r.opt.Callers.Caller(req)
	if failure.Is(err, failure.Refused) {
		r.fail(w, err)
		return
	}
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="Tiphys"`)
		http.Error(w, "authentication is required: use any user name and a token as the password", http.StatusUnauthorized)
		return
	}
	missing, err := r.findForService(req.Context(), name, service, who.Creates)
	if err != nil {
		r.fail(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	if op == "info/refs" {
		r.advertise(w, req, name, service, missing)
		return
	}
	if missing {
		if _, err := r.CreateRepository(req.Context(), who.Actor, forge.Repository{Name: name, Owner: who.Actor.Name}); err != nil && !errors.Is(err, ledger.ErrExists) {
			r.fail(w, err)
			return
		}
	}
	if service == servicePush {
		r.receive(w, req, name, who)
		return
	}
	r.transfer(w, req, name, service, nil)
}

// splitPath takes the repository's name and the operation out of a path.
func splitPath(path string) (name, op string, ok bool) {
	for _, op := range []string{"info/refs", serviceFetch, servicePush} {
		if name, ok := strings.CutSuffix(path, "/"+op); ok {
			return strings.TrimSuffix(name, ".git"), op, true
		}
	}
	for _, dumb := range []string{".git/HEAD", ".git/objects/"} {
		if name, _, ok := strings.Cut(path, dumb); ok {
			return name, "dumb", true
		}
	}
	return "", "", false
}

// requestedService checks method, query and content type; it answers itself if they are wrong.
func requestedService(w http.ResponseWriter, req *http.Request, op string) (string, bool) {
	if op == "info/refs" {
		service := req.URL.Query().Get("service")
		switch {
		case req.Method != http.MethodGet:
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
		case service == serviceFetch || service == servicePush:
			return service, true
		default:
			http.Error(w, "only Git's smart HTTP protocol is spoken here; use git 1.6.6 or newer", http.StatusForbidden)
		}
		return "", false
	}
	switch {
	case op == "dumb":
		http.Error(w, "only Git's smart HTTP protocol is spoken here; clone with git", http.StatusForbidden)
	case req.Method != http.MethodPost:
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
	case req.Header.Get("Content-Type") != "application/x-"+op+"-request":
		http.Error(w, "the content type must be application/x-"+op+"-request", http.StatusUnsupportedMediaType)
	default:
		return op, true
	}
	return "", false
}

// findForService reports whether the repository is yet to be made by this push.
func (r *Remote) findForService(ctx context.Context, name, service string, admin bool) (missing bool, err error) {
	_, err = r.Repository(ctx, name)
	if errors.Is(err, forge.ErrNotFound) && service == servicePush && (r.opt.CreateOnPush || admin) {
		return true, nil
	}
	return false, err
}

// fail answers with an error. The log's part of it is the gate's.
func (r *Remote) fail(w http.ResponseWriter, err error) {
	failure.SetRetryAfter(w.Header(), err)
	http.Error(w, failure.Tell(w, err), failure.HTTPStatus(err))
}

// protocolEnv hands on the protocol version that the client asks for.
func protocolEnv(req *http.Request) []string {
	if v := req.Header.Get("Git-Protocol"); protocolPattern().MatchString(v) {
		return []string{"GIT_PROTOCOL=" + v}
	}
	return nil
}

func (r *Remote) advertise(w http.ResponseWriter, req *http.Request, name, service string, missing bool) {
	dir := r.dir(name)
	if missing {
		dir = filepath.Join(r.opt.Dir, emptyRepository) // made by the push itself, not by asking
	}
	ctx, cancel := context.WithTimeout(req.Context(), git.Timeout)
	defer cancel()
	cmd := r.git.Command(ctx, git.Call{Dir: dir, Env: protocolEnv(req),
		Args: []string{strings.TrimPrefix(service, "git-"), "--stateless-rpc", "--http-backend-info-refs", dir}})
	stderr := git.NewBuffer(4 << 10)
	out := &pacedWriter{w: w, control: http.NewResponseController(w), idle: r.opt.Idle}
	cmd.Stdout, cmd.Stderr = out, stderr
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	line := "# service=" + service + "\n"
	if _, err := fmt.Fprintf(out, "%04x%s0000", len(line)+4, line); err != nil {
		return
	}
	if err := git.Describe(ctx, service, cmd.Run(), stderr.String()); err != nil && req.Context().Err() == nil {
		r.log.Error("advertise refs", "repository", name, "error", err)
	}
}

// receive carries one push.
func (r *Remote) receive(w http.ResponseWriter, req *http.Request, name string, who forge.Caller) {
	id, err := r.newID()
	if err != nil {
		r.fail(w, err)
		return
	}
	token, err := r.newID()
	if err != nil {
		r.fail(w, err)
		return
	}
	live := &livePush{id: id, token: token, repo: name, actor: who.Actor, administers: who.Administers}
	r.mu.Lock()
	r.live[id] = live
	r.mu.Unlock()
	r.transfer(w, req, name, servicePush, []string{
		envSocket + "=" + r.socket, envPush + "=" + id, envToken + "=" + token, envRepo + "=" + name,
	})
	if err := r.finish(req.Context(), live); err != nil {
		r.log.Error("finish push", "repository", name, "push", id, "error", err)
	}
}

// transfer runs git between the request's body and the response, holding nothing of a pack in memory.
func (r *Remote) transfer(w http.ResponseWriter, req *http.Request, name, service string, env []string) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), r.opt.Longest, errors.New("the transfer took too long"))
	defer cancel()
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // a server that cannot has it anyway (HTTP/2) or reads the body first
	body, err := r.body(req, control)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
		return
	}
	dir := r.dir(name)
	cmd := r.git.Command(ctx, git.Call{Dir: dir, Env: append(protocolEnv(req), env...),
		Args: []string{strings.TrimPrefix(service, "git-"), "--stateless-rpc", dir}})
	stderr := git.NewBuffer(4 << 10)
	cmd.Stdin, cmd.Stderr = body, stderr
	cmd.Stdout = &pacedWriter{w: w, control: control, idle: r.opt.Idle}
	w.Header().Set("Content-Type", "application/x-"+service+"-result")
	err = cmd.Run()
	if errors.Is(err, errTooLarge) || body.err != nil && errors.Is(body.err, errTooLarge) {
		r.log.Warn("push refused", "repository", name, "error", errTooLarge)
	}
	if err := git.Describe(ctx, service, err, stderr.String()); err != nil && req.Context().Err() == nil {
		r.log.Warn("git transfer", "repository", name, "error", err)
	}
}

var errTooLarge = errors.New("the request is larger than this server takes")

// pacedReader reads a request's body: each read must bring something within the idle time, and all of them
// together no more than the limit.
type pacedReader struct {
	from    io.Reader
	control *http.ResponseController
	idle    time.Duration
	left    int64
	err     error
}

func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.idle)) // not every server can; Longest still holds
	n, err := p.from.Read(b)
	p.left -= int64(n)
	if p.left < 0 {
		err = errTooLarge
	}
	if err != nil {
		p.err = err
	}
	return n, err
}

// body gives the request's body, unpacked.
func (r *Remote) body(req *http.Request, control *http.ResponseController) (*pacedReader, error) {
	raw := &pacedReader{from: req.Body, control: control, idle: r.opt.Idle, left: r.opt.MaxPush + 64<<10}
	switch req.Header.Get("Content-Encoding") {
	case "", "identity":
		return raw, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, fmt.Errorf("read compressed request: %w", err)
		}
		return &pacedReader{from: z, control: control, idle: r.opt.Idle, left: raw.left}, nil
	}
	return nil, fmt.Errorf("content encoding %q is not supported; use gzip", req.Header.Get("Content-Encoding"))
}

// pacedWriter writes and flushes what git says at once, so that progress is seen while it happens.
type pacedWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	idle    time.Duration
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(p.idle)) // not every server can; Longest still holds
	n, err := p.w.Write(b)
	if err == nil {
		err = p.control.Flush()
	}
	if errors.Is(err, http.ErrNotSupported) {
		err = nil
	}
	return n, err
}
