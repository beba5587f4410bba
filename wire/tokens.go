package wire

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/secret"
)

// Files of the data folder that hold tokens. They are made by the first start, are their owner's alone, and belong to this folder: a backup has
// none of them.
const (
	AdminTokenFile   = "keys/admin.token"
	metricsTokenFile = "keys/metrics.token"
)

// tokenSize is how much of a token is random, in bytes; ShortestToken is the least that one must have that somebody chose.
const (
	tokenSize     = 32
	ShortestToken = 16
)

// openTokens has the admin token, which the first start makes where none was given, and that of the metrics.
func (s *Server) openTokens(context.Context) (err error) {
	if s.o.Public != "" {
		if s.public, err = ParsePublic(s.o.Public); err != nil {
			return err
		}
	}
	if s.metrics, err = keptToken(filepath.Join(s.o.Data, metricsTokenFile)); err != nil {
		return err
	}
	if !s.o.Token.IsZero() {
		return nil
	}
	s.o.Token, err = keptToken(filepath.Join(s.o.Data, AdminTokenFile))
	s.madeToken = err == nil
	return err
}

// Token is the admin token. Made says that it is the data folder's own, and none that the operator gave.
func (s *Server) Token() (token secret.Value, made bool) { return s.o.Token, s.madeToken }

// ParsePublic reads an address under which people reach a server: scheme and host, and a port where it is another than the scheme's.
func ParsePublic(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("public address %q: write https://HOST, with nothing behind it", text)
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// LoginURL makes a link by which whoever started the server comes in by a browser; name is what they are called.
func (s *Server) LoginURL(ctx context.Context, name string) (string, time.Time, error) {
	code, until, err := s.people.Offer(ctx, "system", people.Admin, name)
	if err != nil {
		return "", until, err
	}
	base := s.o.Public
	if base == "" {
		base = s.URL()
	}
	return people.LoginURL(base, code), until, nil
}

// keptToken reads a token from its file, and makes it where there is none.
func keptToken(path string) (secret.Value, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return secret.Value{}, fmt.Errorf("make token: %w", err)
	}
	text, err := secret.KeyFile(path, func() ([]byte, error) {
		raw := make([]byte, tokenSize)
		if _, err := rand.Read(raw); err != nil {
			return nil, err
		}
		return []byte(base64.RawURLEncoding.EncodeToString(raw) + "\n"), nil
	})
	if err != nil {
		return secret.Value{}, err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < ShortestToken {
		return secret.Value{}, fmt.Errorf("token %s is too short: remove it to get a new one", path)
	}
	return secret.New(token), nil
}
