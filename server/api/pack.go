package api

import (
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// minPack is from which size on an answer is compressed, in bytes: less fits into one packet anyway.
const minPack = 1400

// packing compresses JSON answers with gzip. How many are compressed at a time is bounded, for each takes a
// processor and a window; one that finds no place goes out as it is.
//
// Compression can tell a secret by the length of an answer that holds it beside text of an attacker's choice (BREACH). That
// takes an attacker who makes the victim's browser send many such requests: the session's cookie is SameSite=Strict, and what
// says that it comes from another site is refused. And no answer holds a credential: secret values are masked, tokens are only
// ever sent to the server. Answers without a JSON body, event streams and logs are left alone.
type packing struct {
	places chan struct{}
	pool   sync.Pool
}

func newPacking() *packing {
	p := &packing{places: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	p.pool.New = func() any {
		z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is valid
		return z
	}
	return p
}

// wrap compresses what a handler answers, if its client takes gzip.
func (p *packing) wrap(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if w.Header().Add("Vary", "Accept-Encoding"); !takesGzip(r) {
			h(w, r)
			return
		}
		packer := &packer{ResponseWriter: w, p: p}
		defer packer.finish()
		h(packer, r)
	}
}

// packer holds back the beginning of an answer until it knows whether to compress it.
type packer struct {
	http.ResponseWriter
	p       *packing
	held    []byte
	code    int
	decided bool
	z       *gzip.Writer
}

// WriteHeader implements http.ResponseWriter.
func (w *packer) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
}

// Write implements io.Writer.
func (w *packer) Write(b []byte) (int, error) {
	if !w.decided {
		w.held = append(w.held, b...)
		if len(w.held) < minPack {
			return len(b), nil
		}
		return len(b), w.decide(true)
	}
	if w.z != nil {
		return w.z.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// decide begins the answer.
func (w *packer) decide(large bool) error {
	w.decided = true
	h := w.Header()
	if large && strings.HasPrefix(h.Get("Content-Type"), "application/json") && h.Get("Content-Encoding") == "" {
		select {
		case w.p.places <- struct{}{}:
			h.Set("Content-Encoding", "gzip")
			h.Del("Content-Length")
			w.z, _ = w.p.pool.Get().(*gzip.Writer)
			w.z.Reset(w.ResponseWriter)
		default:
		}
	}
	if w.code != 0 {
		w.ResponseWriter.WriteHeader(w.code)
	}
	held := w.held
	w.held = nil
	if len(held) == 0 {
		return nil
	}
	var err error
	if w.z != nil {
		_, err = w.z.Write(held)
	} else {
		_, err = w.ResponseWriter.Write(held)
	}
	return err
}

// finish ends the answer. The client has gone if it fails; there is nobody left to tell.
func (w *packer) finish() {
	if !w.decided && (len(w.held) > 0 || w.code != 0) {
		_ = w.decide(false)
	}
	if w.z == nil {
		return
	}
	_ = w.z.Close()
	w.z.Reset(io.Discard)
	w.p.pool.Put(w.z)
	w.z = nil
	<-w.p.places
}

// takesGzip tells whether the client takes gzip (RFC 9110, 12.5.3): named or by "*", and not with a quality of zero.
func takesGzip(r *http.Request) bool {
	named, others := -1.0, -1.0
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, _ := strings.Cut(part, ";")
		quality := 1.0
		if q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
			n, err := strconv.ParseFloat(q, 64)
			if err != nil {
				n = 0
			}
			quality = n
		}
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip":
			named = quality
		case "*":
			others = quality
		}
	}
	if named >= 0 {
		return named > 0
	}
	return others > 0
}
