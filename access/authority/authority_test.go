package authority_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/authority"
)

// shown is the certificate that a client is shown which expects a name, and why it would not believe it.
func shown(t *testing.T, config *tls.Config, pem []byte, name string, now time.Time) (*x509.Certificate, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*tls.Conn).HandshakeContext(t.Context())
			_ = c.Close()
		}
	}()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate: %s", pem)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", l.Addr().String(),
		&tls.Config{RootCAs: pool, ServerName: name, Time: func() time.Time { return now }})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// Whoever has the authority's certificate believes the server under its names and no other, after years and restarts too.
func TestAServerIsBelieved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.key")
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	a, err := authority.Open(path, clock)
	if err != nil {
		t.Fatal(err)
	}
	trusted := a.PEM()
	config := a.Server([]string{"ci.example.org", "192.0.2.7"})
	first, err := shown(t, config, trusted, "ci.example.org", now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		good bool
	}{{"192.0.2.7", true}, {"other.example.org", false}, {"192.0.2.8", false}} {
		if _, err := shown(t, config, trusted, c.name, now); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, c := range []struct {
		after time.Duration
		same  bool
	}{{72 * time.Hour, true}, {84 * time.Hour, false}, {5 * 365 * 24 * time.Hour, false}} {
		now = first.NotBefore.Add(time.Hour + c.after)
		cert, err := shown(t, config, trusted, "ci.example.org", now)
		if err != nil {
			t.Fatalf("after %s: %v", c.after, err)
		}
		if same := cert.SerialNumber.Cmp(first.SerialNumber) == 0; same != c.same {
			t.Errorf("after %s the certificate is the first one: %t", c.after, same)
		}
		if cert.NotAfter.Sub(cert.NotBefore) > 8*24*time.Hour || cert.IsCA {
			t.Errorf("it is good for %s, CA %t", cert.NotAfter.Sub(cert.NotBefore), cert.IsCA)
		}
	}
	again, err := authority.Open(path, clock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shown(t, again.Server([]string{"ci.example.org"}), trusted, "ci.example.org", now); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	other, err := authority.Open(filepath.Join(t.TempDir(), "ca.key"), clock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shown(t, other.Server([]string{"ci.example.org"}), trusted, "ci.example.org", now); err == nil {
		t.Error("another authority is believed")
	}
}

// A file that is no authority's, or that others may read, is refused and left as it is.
func TestABadFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	paths := make([]string, 2)
	for i, name := range []string{"a", "b"} {
		paths[i] = filepath.Join(dir, name)
		if _, err := authority.Open(paths[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	text := func(path string) string {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	key, _, _ := strings.Cut(text(paths[0]), "-----BEGIN CERTIFICATE")
	_, certificate, _ := strings.Cut(text(paths[1]), "-----END PRIVATE KEY-----\n")
	for name, bad := range map[string]string{
		"empty": "", "no certificate": key, "no key": certificate, "of two authorities": key + certificate, "noise": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		path := filepath.Join(dir, "bad")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.Open(path, nil); err == nil {
			t.Errorf("%s is taken", name)
		}
		if text(path) != bad {
			t.Errorf("%s was written over", name)
		}
	}
	if err := os.Chmod(paths[0], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Open(paths[0], nil); err == nil || !strings.Contains(err.Error(), "others may read it") {
		t.Errorf("a key that others may read: %v", err)
	}
}
