package mover

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/manifest"
)

// answerTime is how long the beginning of an answer is waited for. A download may take longer.
const answerTime = 2 * time.Minute

// httpAuth is the part of an HTTP artifact's auth that is supported.
type httpAuth struct {
	BasicAuth *struct {
		UsernameSecret *corev1.SecretKeySelector `json:"usernameSecret"`
		PasswordSecret *corev1.SecretKeySelector `json:"passwordSecret"`
	} `json:"basicAuth"`
	OAuth2     map[string]any `json:"oauth2"`
	ClientCert map[string]any `json:"clientCert"`
}

func (m *Mover) fetchHTTP(ctx context.Context, a manifest.Artifact, dest string) error {
	resp, err := m.do(ctx, a.HTTP, http.MethodGet, nil, 0)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body := &limitedBody{r: resp.Body, left: m.o.Limits.Download}
	return m.materialise(ctx, a, body, dest)
}

// saveHTTP sends the artifact by PUT. It is written to a temporary file first, because many servers want to know
// its length.
func (m *Mover) saveHTTP(ctx context.Context, a manifest.Artifact, s *archive.Source) (artifact.Saved, error) {
	var saved artifact.Saved
	err := encode(ctx, a.Archive, s, func(r io.Reader) error {
		sum := newStreamSum(r)
		tmp, size, err := m.spool(ctx, sum)
		if err != nil {
			return err
		}
		defer func() { _ = tmp.Close() }()
		resp, err := m.do(ctx, a.HTTP, http.MethodPut, tmp, size)
		if err != nil {
			return err
		}
		saved = artifact.Saved{Artifact: a, Digest: sum.digest(), Size: size}
		return resp.Body.Close()
	})
	return saved, err
}

// do makes the request and turns every status but 2xx into an error.
func (m *Mover) do(ctx context.Context, h *manifest.HTTPArtifact, method string, body io.Reader, size int64) (*http.Response, error) {
	u, err := url.Parse(h.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("the URL %q is not one of http or https", redact(h.URL))
	}
	if body != nil {
		body = io.NopCloser(body) // the transport must not close the temporary file
	}
	req, err := http.NewRequestWithContext(egress.For(ctx, "http.url"), method, h.URL, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.ContentLength = size
	private, err := m.headers(ctx, h, req)
	if err != nil {
		return nil, err
	}
	client, done := m.client(h, private)
	defer done()
	resp, err := client.Do(req)
	if refusal, refused := egress.Refused(err); refused {
		return nil, refusal
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, redact(h.URL), withoutURL(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
	err = fmt.Errorf("%s %s: the server answered %s: %s", method, redact(h.URL), resp.Status, strings.TrimSpace(string(text)))
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		err = fmt.Errorf("%w: %w", artifact.ErrNotFound, err)
	}
	return nil, err
}

// headers sets the artifact's headers and returns the names of those that must not go to another host.
func (m *Mover) headers(ctx context.Context, h *manifest.HTTPArtifact, req *http.Request) ([]string, error) {
	var private []string
	for _, header := range h.Headers {
		value := header.Value
		if header.ValueFrom != nil {
			v, err := m.secretOf(ctx, header.ValueFrom.SecretKeyRef)
			if err != nil {
				return nil, err
			}
			value = strings.TrimRight(v.Reveal(), "\r\n")
		}
		private = append(private, header.Name)
		req.Header.Set(header.Name, value)
	}
	if len(h.Auth) == 0 {
		return private, nil
	}
	var auth httpAuth
	b, err := json.Marshal(h.Auth)
	if err == nil {
		err = json.Unmarshal(b, &auth)
	}
	if err != nil {
		return nil, fmt.Errorf("read http.auth: %w", err)
	}
	if auth.OAuth2 != nil || auth.ClientCert != nil {
		return nil, fmt.Errorf("%w: http.auth with oauth2 or clientCert; use basicAuth, or a header with valueFrom", ErrUnsupported)
	}
	if auth.BasicAuth == nil {
		return private, nil
	}
	user, err := m.secretOf(ctx, auth.BasicAuth.UsernameSecret)
	if err != nil {
		return nil, err
	}
	password, err := m.secretOf(ctx, auth.BasicAuth.PasswordSecret)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(strings.TrimRight(user.Reveal(), "\r\n"), strings.TrimRight(password.Reveal(), "\r\n"))
	return append(private, "Authorization"), nil
}

// client returns a client that gives the artifact's headers to its own host only, wherever it is redirected. Call done when its answer has
// begun: then it keeps no other connection.
func (m *Mover) client(h *manifest.HTTPArtifact, private []string) (c *http.Client, done func()) {
	c, done = &http.Client{Transport: m.http}, func() {}
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
			for _, name := range private {
				req.Header.Del(name)
			}
		}
		return nil
	}
	if h.InsecureSkipTLS {
		own := m.o.Egress.Transport(egress.HTTP{TLS: &tls.Config{InsecureSkipVerify: true}, Answer: answerTime, Once: true}) //nolint:gosec // the manifest asks for it
		c.Transport, done = own, own.CloseIdleConnections
	}
	return c, done
}

// redact takes user, password and query out of a URL: the query of a signed URL is a password.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	u.User = nil
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.String()
}

// withoutURL unwraps the error of net/http that repeats the whole URL.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// limitedBody fails when more than left bytes come.
type limitedBody struct {
	r    io.Reader
	left int64
}

func (l *limitedBody) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("%w: the download is larger than the limit", artifact.ErrTooLarge)
	}
	return n, err
}

// streamSum sums up what is read through it.
type streamSum struct {
	r   io.Reader
	sum listSum
}

func newStreamSum(r io.Reader) *streamSum { return &streamSum{r, newListSum()} }

func (s *streamSum) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.h.Write(p[:n])
	return n, err
}

func (s *streamSum) digest() string { return s.sum.digest() }
