// Package web holds the screens: a single-page application, embedded in the program, that speaks only to the API
// on the same port.
package web

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// policy lets a page load from this server alone and run no script or style that is written into it: text from
// outside that slipped through would still do nothing. See CSP Level 3.
const policy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Caching: a name under assets/ carries the hash of its content, so it never changes; the rest is asked for each time.
const (
	forever = "public, max-age=31536000, immutable"
	revisit = "no-cache"
)

// Handler serves the screens. A path that is not a file and has no extension is a screen's address and gets the
// page itself. Only GET and HEAD are answered. Without built screens every address says how to build them.
func Handler() http.Handler {
	dist, err := files()
	if err != nil {
		return headers(missing(fmt.Errorf("open screens: %w", err)))
	}
	return newHandler(dist)
}

func newHandler(dist fs.FS) http.Handler {
	if _, err := fs.Stat(dist, "index.html"); err != nil {
		return headers(missing(nil))
	}
	return headers(&handler{dist: dist, packed: map[string][]byte{}})
}

type handler struct {
	dist fs.FS

	mu     sync.Mutex
	packed map[string][]byte
}

// headers adds what every answer has, and refuses other methods.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the screens can only be read; commands go to /api/v1", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	body, err := s.read(name)
	if err != nil {
		// Screens have addresses with dots too (a run's name may have one), but never under assets/.
		if strings.HasPrefix(name, "assets/") || asset(name) {
			http.NotFound(w, r)
			return
		}
		name = "index.html"
		if body, err = s.read(name); err != nil {
			http.Error(w, "the screens cannot be read", http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", contentType(name))
	w.Header().Set("Cache-Control", revisit)
	if strings.HasPrefix(name, "assets/") {
		w.Header().Set("Cache-Control", forever)
	}
	w.Header().Set("Vary", "Accept-Encoding")
	if packed := s.pack(name, body); packed != nil && accepts(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = packed
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	// The client has gone if this fails; there is nobody left to tell.
	_, _ = w.Write(body)
}

func (s *handler) read(name string) ([]byte, error) {
	if name == "" || !fs.ValidPath(name) || strings.HasPrefix(path.Base(name), ".") {
		return nil, fs.ErrNotExist
	}
	body, err := fs.ReadFile(s.dist, name)
	if err != nil {
		return nil, fmt.Errorf("read screen file %s: %w", name, err)
	}
	return body, nil
}

// pack compresses a file once and keeps it; nil where that saves nothing.
func (s *handler) pack(name string, body []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if packed, ok := s.packed[name]; ok {
		return packed
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(body)
		err = errors.Join(err, z.Close())
	}
	var packed []byte
	if err == nil && buf.Len() < len(body)*9/10 {
		packed = buf.Bytes()
	}
	s.packed[name] = packed
	return packed
}

// accepts tells whether the client takes gzip (RFC 9110, 12.5.3): named or by "*", and not with a quality of zero.
func accepts(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, _ := strings.Cut(part, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && coding != "*" {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !ok {
			return true
		}
		quality, err := strconv.ParseFloat(q, 64)
		return err == nil && quality > 0
	}
	return false
}

// asset tells whether a name is meant as a file, for which a page would be the wrong answer.
func asset(name string) bool {
	switch path.Ext(name) {
	case ".js", ".css", ".map", ".svg", ".png", ".ico", ".json", ".txt", ".woff2", ".webmanifest":
		return !strings.Contains(name, "/")
	}
	return false
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

const howTo = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Tiphys</title></head>
<body><h1>Tiphys runs, without its screens</h1>
<p>This program was built without them. To have them, run <code>make build</code> in its source folder: it builds web/ and then the program.</p>
<p>All else works: the API under <code>/api/v1</code>, and the command line (<code>tiphys list</code>, <code>apps</code>, <code>events</code>, <code>trail</code>).</p>
</body></html>
`

// missing says how to build the screens.
func missing(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotFound)
		if r.Method != http.MethodHead {
			_, _ = w.Write([]byte(howTo))
		}
	})
}
