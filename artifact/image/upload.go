package image

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/artifact/blob"
)

// upload is a blob on its way in. A restart of the server loses it; clients then begin again.
type upload struct {
	repo string
	// busy is held by the request that writes.
	busy sync.Mutex
	w    *blob.Writer
	gone bool
	// touched is guarded by the registry's lock.
	touched time.Time
}

func (u *upload) abort() {
	u.busy.Lock()
	defer u.busy.Unlock()
	u.gone = true
	u.w.Abort()
}

func (g *Registry) upload(w http.ResponseWriter, r *http.Request, repo, id string) error {
	if id == "" {
		if r.Method != http.MethodPost {
			return unsupported(r)
		}
		return g.begin(w, r, repo)
	}
	u := g.find(repo, id)
	if u == nil {
		return problemf(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload; begin again")
	}
	if r.Method == http.MethodDelete {
		g.forget(id)
		u.abort()
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	u.busy.Lock()
	defer u.busy.Unlock()
	if u.gone {
		return problemf(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "the upload has ended; begin again")
	}
	switch r.Method {
	case http.MethodGet:
		g.progress(w, repo, id, u)
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		if err := g.take(r, u, true); err != nil {
			return err
		}
		g.progress(w, repo, id, u)
		w.WriteHeader(http.StatusAccepted)
		return nil
	case http.MethodPut:
		return g.finish(w, r, repo, id, u)
	}
	return unsupported(r)
}

// begin opens an upload, mounts a blob of another repository, or takes a whole blob at once.
func (g *Registry) begin(w http.ResponseWriter, r *http.Request, repo string) error {
	q := r.URL.Query()
	if digest, from := q.Get("mount"), q.Get("from"); digest != "" && from != "" && CheckRepo(from) == nil {
		if g.authorize(r, from, false) == nil && g.o.Store.HasBlob(from, digest) {
			if err := g.o.Store.mark(repo, "blobs", strings.TrimPrefix(digest, "sha256:"), ""); err != nil {
				return err
			}
			return created(w, repo, digest)
		}
	}
	if digest := q.Get("digest"); digest != "" {
		if _, err := blob.Hex(digest); err != nil {
			return problemf(http.StatusBadRequest, "DIGEST_INVALID", "%w", err)
		}
		if err := g.o.Store.PutBlob(r.Context(), repo, digest, r.Body); err != nil {
			return err
		}
		return created(w, repo, digest)
	}
	id, u, err := g.open(repo)
	if err != nil {
		return err
	}
	g.progress(w, repo, id, u)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (g *Registry) open(repo string) (string, *upload, error) {
	now := g.o.Now()
	var stale []*upload
	g.mu.Lock()
	for id, u := range g.uploads {
		if now.Sub(u.touched) > g.o.UploadIdle {
			delete(g.uploads, id)
			stale = append(stale, u)
		}
	}
	full := len(g.uploads) >= g.o.MaxUploads
	g.mu.Unlock()
	for _, u := range stale {
		u.abort()
	}
	if full {
		return "", nil, problemf(http.StatusTooManyRequests, "TOOMANYREQUESTS", "%d uploads are open already; try again later", g.o.MaxUploads)
	}
	bw, err := g.o.Store.blobs.Create()
	if err != nil {
		return "", nil, err
	}
	u := &upload{repo: repo, w: bw, touched: now}
	id := rand.Text()
	g.mu.Lock()
	g.uploads[id] = u
	g.mu.Unlock()
	return id, u, nil
}

func (g *Registry) find(repo, id string) *upload {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.uploads[id]
	if u == nil || u.repo != repo {
		return nil
	}
	u.touched = g.o.Now()
	return u
}

func (g *Registry) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.uploads, id)
}

// take appends the request's body. A chunk must begin where the last one ended.
func (g *Registry) take(r *http.Request, u *upload, chunk bool) error {
	if span := r.Header.Get("Content-Range"); chunk && span != "" {
		var from, to int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(span, "bytes "), "%d-%d", &from, &to); err != nil || from != u.w.Size() {
			return problemf(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID",
				"the chunk %q does not follow the %d bytes that are here", span, u.w.Size())
		}
	}
	if _, err := io.Copy(u.w, blob.Reader(r.Context(), r.Body)); err != nil {
		return fmt.Errorf("take upload: %w", err)
	}
	return nil
}

func (g *Registry) progress(w http.ResponseWriter, repo, id string, u *upload) {
	h := w.Header()
	h.Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
	h.Set("Docker-Upload-UUID", id)
	h.Set("Range", fmt.Sprintf("0-%d", max(u.w.Size()-1, 0)))
}

func (g *Registry) finish(w http.ResponseWriter, r *http.Request, repo, id string, u *upload) error {
	digest := r.URL.Query().Get("digest")
	hex, err := blob.Hex(digest)
	if err != nil {
		return problemf(http.StatusBadRequest, "DIGEST_INVALID", "%w", err)
	}
	if err := g.take(r, u, false); err != nil {
		return err
	}
	g.forget(id)
	u.gone = true
	if _, err := u.w.Commit(digest); err != nil {
		if errors.Is(err, blob.ErrMismatch) {
			return &problem{http.StatusBadRequest, "DIGEST_INVALID", err}
		}
		return err
	}
	if err := g.o.Store.mark(repo, "blobs", hex, ""); err != nil {
		return err
	}
	return created(w, repo, digest)
}

func created(w http.ResponseWriter, repo, digest string) error {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}
