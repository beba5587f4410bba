package certificate_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/access/certificate/certificatetest"
)

// served is the name that a real handshake is proved by.
func served(t *testing.T, p *certificate.Pair, roots *x509.CertPool, name string) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", p.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// Files that change are used from the next handshake on. A new pair that cannot be used is told of, and the one before goes on.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	authority := certificatetest.New(t)
	files := authority.Issue(t, dir, "one.example", time.Hour)
	p, err := certificate.Open(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := func(name, problem string) {
		t.Helper()
		for _, each := range []string{"one.example", "two.example", "three.example"} {
			if err := served(t, p, authority.Roots, each); (err == nil) != (each == name) {
				t.Errorf("%s: %v", each, err)
			}
		}
		err := p.Problem()
		if (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("the problem is %v, want %q", err, problem)
		}
	}
	want("one.example", "")
	authority.Issue(t, dir, "two.example", time.Hour)
	want("two.example", "")
	other := authority.Issue(t, t.TempDir(), "three.example", time.Hour)
	for what, broken := range map[string]func() error{
		"is not PEM":            func() error { return os.WriteFile(files.Cert, []byte("no certificate"), 0o600) },
		"is of another key":     func() error { return os.Rename(other.Cert, files.Cert) },
		"is gone":               func() error { return os.Remove(files.Key) },
		"may be read by others": func() error { return os.Chmod(files.Key, 0o604) }, //nolint:gosec // that is what is tried
	} {
		authority.Issue(t, dir, "two.example", time.Hour)
		other = authority.Issue(t, filepath.Dir(other.Cert), "three.example", time.Hour)
		want("two.example", "")
		if err := broken(); err != nil {
			t.Fatal(err)
		}
		t.Log("a certificate that " + what)
		want("two.example", filepath.Base(dir))
	}
	authority.Issue(t, dir, "three.example", time.Hour)
	want("three.example", "")
}

func TestExpired(t *testing.T) {
	files := certificatetest.New(t).Issue(t, t.TempDir(), "one.example", time.Hour)
	now := time.Now()
	p, err := certificate.Open(files, func() time.Time { return now })
	if err != nil || p.Problem() != nil {
		t.Fatal(err, p.Problem())
	}
	now = now.Add(2 * time.Hour)
	if err := p.Problem(); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("the problem is %v", err)
	}
}
