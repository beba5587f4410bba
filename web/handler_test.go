package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func built() fstest.MapFS {
	script := strings.Repeat("console.log('x');\n", 100)
	return fstest.MapFS{
		"index.html":         {Data: []byte(`<div id="app"></div>`)},
		".gitkeep":           {Data: []byte("keep")},
		"favicon.svg":        {Data: []byte("<svg/>")},
		"assets/main-a1b.js": {Data: []byte(script)},
	}
}

func ask(t *testing.T, h http.Handler, method, target, encoding string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestServes(t *testing.T) {
	h := newHandler(built())
	page := `<div id="app"></div>`
	tests := []struct {
		name, method, target string
		code                 int
		body, kind, cache    string
	}{
		{"root", "GET", "/", 200, page, "text/html; charset=utf-8", revisit},
		{"screen", "GET", "/runs/default/hello-x7k2p", 200, page, "text/html; charset=utf-8", revisit},
		{"screen with a dot", "GET", "/runs/default/v1.2.js", 200, page, "text/html; charset=utf-8", revisit},
		{"escaped slash", "GET", "/mrs/team%2Fharbour/1", 200, page, "text/html; charset=utf-8", revisit},
		{"file", "GET", "/favicon.svg", 200, "<svg/>", "image/svg+xml", revisit},
		{"hashed file", "GET", "/assets/main-a1b.js", 200, "", "text/javascript; charset=utf-8", forever},
		{"gone asset", "GET", "/assets/main-old.js", 404, "", "", ""},
		{"gone file", "GET", "/robots.txt", 404, "", "", ""},
		{"dot file", "GET", "/.gitkeep", 200, page, "text/html; charset=utf-8", revisit},
		{"traversal", "GET", "/../../etc/passwd", 200, page, "text/html; charset=utf-8", revisit},
		{"post", "POST", "/", 405, "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := ask(t, h, tt.method, tt.target, "")
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.code {
				t.Fatalf("status %d, want %d", res.StatusCode, tt.code)
			}
			if tt.body != "" && string(body) != tt.body {
				t.Errorf("body %q, want %q", body, tt.body)
			}
			if tt.kind != "" && res.Header.Get("Content-Type") != tt.kind {
				t.Errorf("content type %q, want %q", res.Header.Get("Content-Type"), tt.kind)
			}
			if tt.cache != "" && res.Header.Get("Cache-Control") != tt.cache {
				t.Errorf("cache %q, want %q", res.Header.Get("Cache-Control"), tt.cache)
			}
		})
	}
}

func TestHeadersAreOnEveryAnswer(t *testing.T) {
	for _, h := range []http.Handler{newHandler(built()), newHandler(fstest.MapFS{}), Handler()} {
		for _, target := range []string{"/", "/assets/none.js", "/runs"} {
			res := ask(t, h, "GET", target, "")
			res.Body.Close()
			if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
				t.Errorf("%s: policy %q", target, csp)
			}
			if res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Referrer-Policy") == "" {
				t.Errorf("%s: headers %v", target, res.Header)
			}
		}
	}
}

func TestGzip(t *testing.T) {
	h := newHandler(built())
	tests := map[string]bool{"gzip, br": true, "br": false, "gzip;q=0": false, "*": true, "": false, "gzip; q=0.5": true}
	for accept, want := range tests {
		res := ask(t, h, "GET", "/assets/main-a1b.js", accept)
		defer res.Body.Close()
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: gzip %v, want %v", accept, got, want)
		}
		var body io.Reader = res.Body
		if want {
			z, err := gzip.NewReader(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		text, err := io.ReadAll(body)
		if err != nil || !strings.HasPrefix(string(text), "console.log('x');\n") || len(text) != 1800 {
			t.Errorf("Accept-Encoding %q: %d bytes, %v", accept, len(text), err)
		}
	}
}

func TestWithoutScreensItSaysHowToBuildThem(t *testing.T) {
	res := ask(t, newHandler(fstest.MapFS{".gitkeep": {}}), "GET", "/runs", "")
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "make build") {
		t.Errorf("status %d, body %s", res.StatusCode, body)
	}
}

// The real page must obey its own policy: nothing inline.
func TestBuiltPageHasNothingInline(t *testing.T) {
	dist, err := files()
	if err != nil {
		t.Fatal(err)
	}
	f, err := dist.Open("index.html")
	if err != nil {
		t.Skip("SKIPPED: what is served of the screens is not tested: they are not built, run make ui")
	}
	defer f.Close()
	page, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<style", "style=", "onclick", "javascript:", "<script>"} {
		if strings.Contains(string(page), bad) {
			t.Errorf("index.html has %q", bad)
		}
	}
}
