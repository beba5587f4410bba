package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/blob"
	"github.com/tiphys/tiphys/failure"
)

// ErrUnauthenticated is for a [Door] to return when the request does not say who is asking; the client is then
// asked for a name and password.
var ErrUnauthenticated = failure.New(failure.Unauthenticated, "authentication required")

// RegistryOptions of a [Registry].
type RegistryOptions struct {
	Store *Store
	// Door says who may do what, and is told what was pushed; nil lets everybody do everything.
	Door Door
	// MaxUploads is how many uploads may be open at once; 0 for 100.
	MaxUploads int
	// UploadIdle is how long an upload may rest; 0 for an hour.
	UploadIdle time.Duration
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Door is what a [Registry] asks about each request.
type Door interface {
	// Enter says whether the request may read or write a repository; repo is empty for the question whether the registry may be used
	// at all. The error is [ErrUnauthenticated] if it does not say who asks, and of the kind
	// [failure.Refused] if whoever asks may not.
	Enter(r *http.Request, repo string, write bool) error
	// Pushed is told that a manifest has been stored; ref is its tag or digest. An error fails the push.
	Pushed(ctx context.Context, repo, ref, digest string) error
}

// Registry serves a [Store] under /v2/, as the OCI distribution specification 1.1 says. Deletion and referrers are not
// offered.
type Registry struct {
	o       RegistryOptions
	mu      sync.Mutex
	uploads map[string]*upload
}

// NewRegistry returns a registry.
func NewRegistry(o RegistryOptions) *Registry {
	if o.MaxUploads <= 0 {
		o.MaxUploads = 100
	}
	if o.UploadIdle <= 0 {
		o.UploadIdle = time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Registry{o: o, uploads: map[string]*upload{}}
}

// Close drops the uploads that are open.
func (g *Registry) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, u := range g.uploads {
		delete(g.uploads, id)
		u.abort()
	}
}

// problem is an answer of the registry that is not a success.
type problem struct {
	status int
	code   string // from the distribution specification
	err    error
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

func problemf(status int, code, format string, args ...any) error {
	return &problem{status, code, fmt.Errorf(format, args...)}
}

// ServeHTTP implements [http.Handler].
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if err := g.route(w, r); err != nil {
		g.answer(w, r, err)
	}
}

func (g *Registry) answer(w http.ResponseWriter, r *http.Request, err error) {
	p := &problem{failure.HTTPStatus(err), "UNKNOWN", err} // the protocol's codes for what it has codes for follow
	switch {
	case errors.As(err, &p):
	case errors.Is(err, artifact.ErrNotFound):
		p = &problem{http.StatusNotFound, "NAME_UNKNOWN", err}
	case errors.Is(err, blob.ErrMismatch):
		p = &problem{http.StatusBadRequest, "DIGEST_INVALID", err}
	case errors.Is(err, artifact.ErrTooLarge):
		p = &problem{http.StatusRequestEntityTooLarge, "SIZE_INVALID", err}
	case errors.Is(err, ErrUnauthenticated):
		w.Header().Set("WWW-Authenticate", `Basic realm="tiphys"`)
		p = &problem{http.StatusUnauthorized, "UNAUTHORIZED", err}
	}
	message := p.Error()
	if p.status >= http.StatusInternalServerError {
		message = failure.Tell(w, err)
	}
	body, _ := json.Marshal(map[string]any{"errors": []map[string]string{{"code": p.code, "message": message}}})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// route splits /v2/NAME/KIND/REST, where NAME may have slashes.
func (g *Registry) route(w http.ResponseWriter, r *http.Request) error {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if r.URL.Path == "/v2" || (ok && rest == "") {
		if err := g.authorize(r, "", false); err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_, err := io.WriteString(w, "{}")
		return err
	}
	for _, kind := range []string{"/blobs/uploads/", "/blobs/", "/manifests/", "/tags/"} {
		i := strings.LastIndex(rest, kind)
		if i < 0 && kind == "/blobs/uploads/" && strings.HasSuffix(rest, "/blobs/uploads") {
			rest += "/"
			i = strings.LastIndex(rest, kind)
		}
		if i < 0 {
			continue
		}
		repo, last := rest[:i], rest[i+len(kind):]
		if CheckRepo(repo) != nil {
			return problemf(http.StatusBadRequest, "NAME_INVALID", "%w", CheckRepo(repo))
		}
		write := r.Method != http.MethodGet && r.Method != http.MethodHead
		if err := g.authorize(r, repo, write || kind == "/blobs/uploads/"); err != nil {
			return err
		}
		switch kind {
		case "/blobs/uploads/":
			return g.upload(w, r, repo, last)
		case "/blobs/":
			return g.blob(w, r, repo, last)
		case "/manifests/":
			return g.manifest(w, r, repo, last)
		}
		return g.tags(w, r, repo, last)
	}
	return problemf(http.StatusNotFound, "UNSUPPORTED", "the registry has nothing at %s", r.URL.Path)
}

func (g *Registry) authorize(r *http.Request, repo string, write bool) error {
	if g.o.Door == nil {
		return nil
	}
	err := g.o.Door.Enter(r, repo, write)
	if failure.Is(err, failure.Refused) {
		return &problem{http.StatusForbidden, "DENIED", err}
	}
	return err // that it is not known who asks, or cannot be told now, refuses nobody for good
}

func unsupported(r *http.Request) error {
	return problemf(http.StatusMethodNotAllowed, "UNSUPPORTED", "%s is not supported here", r.Method)
}

func (g *Registry) blob(w http.ResponseWriter, r *http.Request, repo, digest string) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return unsupported(r)
	}
	if _, err := blob.Hex(digest); err != nil {
		return problemf(http.StatusBadRequest, "DIGEST_INVALID", "%w", err)
	}
	f, err := g.o.Store.OpenBlob(repo, digest)
	if errors.Is(err, artifact.ErrNotFound) {
		return &problem{http.StatusNotFound, "BLOB_UNKNOWN", err}
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := w.Header()
	h.Set("Docker-Content-Digest", digest)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Etag", `"`+digest+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

func (g *Registry) manifest(w http.ResponseWriter, r *http.Request, repo, ref string) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		m, err := g.o.Store.Resolve(repo, ref)
		if errors.Is(err, artifact.ErrNotFound) {
			return &problem{http.StatusNotFound, "MANIFEST_UNKNOWN", err}
		}
		if err != nil {
			return err
		}
		h := w.Header()
		h.Set("Content-Type", m.MediaType)
		h.Set("Docker-Content-Digest", m.Digest)
		h.Set("Content-Length", strconv.Itoa(len(m.Body)))
		if r.Method == http.MethodGet {
			_, err = w.Write(m.Body)
		}
		return err
	case http.MethodPut:
		return g.putManifest(w, r, repo, ref)
	}
	return unsupported(r)
}

func (g *Registry) putManifest(w http.ResponseWriter, r *http.Request, repo, ref string) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return problemf(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "a manifest may have %d bytes", maxManifest)
	}
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	m, err := g.o.Store.PutManifest(r.Context(), repo, ref, strings.TrimSpace(mediaType), body)
	switch {
	case errors.Is(err, errBlobUnknown):
		return &problem{http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", err}
	case errors.Is(err, blob.ErrMismatch):
		return &problem{http.StatusBadRequest, "DIGEST_INVALID", err}
	case failure.Is(err, failure.Invalid):
		return &problem{http.StatusBadRequest, "MANIFEST_INVALID", err}
	case err != nil:
		return fmt.Errorf("keep manifest: %w", err)
	}
	if g.o.Door != nil {
		if err := g.o.Door.Pushed(r.Context(), repo, ref, m.Digest); err != nil {
			return fmt.Errorf("record push: %w", err)
		}
	}
	w.Header().Set("Location", "/v2/"+repo+"/manifests/"+m.Digest)
	w.Header().Set("Docker-Content-Digest", m.Digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (g *Registry) tags(w http.ResponseWriter, r *http.Request, repo, last string) error {
	if last != "list" || r.Method != http.MethodGet {
		return unsupported(r)
	}
	tags, err := g.o.Store.Tags(repo)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if after := q.Get("last"); after != "" {
		i, found := slices.BinarySearch(tags, after)
		if found {
			i++
		}
		tags = tags[i:]
	}
	if n, err := strconv.Atoi(q.Get("n")); err == nil && n >= 0 && n < len(tags) {
		tags = tags[:n]
		if n > 0 {
			next := url.Values{"n": {q.Get("n")}, "last": {tags[n-1]}}
			w.Header().Set("Link", "</v2/"+repo+"/tags/list?"+next.Encode()+`>; rel="next"`)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{"name": repo, "tags": tags})
}
