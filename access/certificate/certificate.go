// Package certificate proves a server by a certificate in files, which are read again when they change.
package certificate

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// Files are where a certificate, with those that vouch for it, and its key are, in PEM.
type Files struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// IsZero reports whether there is no certificate.
func (f Files) IsZero() bool { return f == Files{} }

// Pair is a certificate with its key. Files that cannot be used take nothing away from those before, which go on to be used. Create it with Open;
// methods are safe for concurrent use.
type Pair struct {
	files Files
	now   func() time.Time

	mu      sync.Mutex
	cert    *tls.Certificate
	seen    [2]fs.FileInfo // of the files that were last tried
	problem error          // why they are not used
}

// Open reads the pair. What is wrong with it is an error here, and later a [Pair.Problem]. now is the clock; time.Now if nil.
func Open(files Files, now func() time.Time) (*Pair, error) {
	if now == nil {
		now = time.Now
	}
	p := &Pair{files: files, now: now}
	if p.look(); p.problem != nil {
		return nil, p.problem
	}
	return p, nil
}

// Problem says why the files as they are now are not used, or that the certificate has expired; nil if all is well.
func (p *Pair) Problem() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	if p.problem == nil && p.now().After(p.cert.Leaf.NotAfter) {
		return failure.Stalledf("certificate %s has expired at %s: put a new one in its place", p.files.Cert, p.cert.Leaf.NotAfter.Format(time.RFC3339))
	}
	return p.problem
}

// Config proves the server by the pair as it is at each handshake.
func (p *Pair) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.look()
			return p.cert, nil
		},
	}
}

// look reads the files if they are others than those that were last tried; mu is held, or nobody else knows the pair yet.
func (p *Pair) look() {
	now, err := p.stat()
	if err == nil && same(now[0], p.seen[0]) && same(now[1], p.seen[1]) {
		return
	}
	p.seen, p.problem = now, err
	if err != nil {
		return
	}
	cert, err := tls.LoadX509KeyPair(p.files.Cert, p.files.Key)
	if err != nil {
		p.problem = failure.Invalidf("certificate %s with key %s: %w", p.files.Cert, p.files.Key, err)
		return
	}
	p.cert = &cert
}

func (p *Pair) stat() (all [2]fs.FileInfo, err error) {
	for i, name := range []string{p.files.Cert, p.files.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return [2]fs.FileInfo{}, fmt.Errorf("read certificate: %w", err)
		}
		all[i] = info
	}
	if all[1].Mode().Perm()&0o007 != 0 {
		return [2]fs.FileInfo{}, failure.Invalidf("everybody may read or write the key %s: take that away (chmod o= %s)", p.files.Key, p.files.Key)
	}
	return all, nil
}

func same(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
