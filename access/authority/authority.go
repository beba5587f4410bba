// Package authority vouches for this server where callers reach it over a network: it is a certificate authority of the server's own. Its key
// never leaves the data folder; whoever is to believe it gets its certificate.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/tiphys/tiphys/secret"
)

// How long certificates are good for.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	// serverLife is that of a server's certificate, which is made anew when half of it is over.
	serverLife = 7 * 24 * time.Hour
	// early is how far clocks of others may be behind.
	early = time.Hour
)

// The kinds of PEM blocks in an authority's file.
const (
	blockKey         = "PRIVATE KEY"
	blockCertificate = "CERTIFICATE"
)

// Authority signs certificates. Create it with Open; methods are safe for concurrent use.
type Authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	now         func() time.Time
}

// Open reads the file of the steps' authority; see [OpenFor].
func Open(path string, now func() time.Time) (*Authority, error) { return OpenFor(path, "steps", now) }

// OpenFor reads the authority's file, and makes it where there is none, as [secret.KeyFile] does. What it is for is in the name of a new one.
// A clock that is nil is the machine's.
func OpenFor(path, whom string, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	text, err := secret.KeyFile(path, func() ([]byte, error) { return fresh(whom, now()) })
	if err != nil {
		return nil, err
	}
	a, err := read(text)
	if err != nil {
		return nil, fmt.Errorf("read authority %s: %w: restore it from a backup, or remove it to get a new one, which whoever believes it has to be told of", path, err)
	}
	a.now = now
	return a, nil
}

// fresh makes an authority's file.
func fresh(whom string, now time.Time) ([]byte, error) {
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Tiphys " + whom + " " + serial.Text(16)[:8]}, NotBefore: now.Add(-early), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})...), nil
}

// read reads an authority's file.
func read(text []byte) (*Authority, error) {
	a := &Authority{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case blockKey:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			a.key, _ = key.(*ecdsa.PrivateKey)
		case blockCertificate:
			var err error
			if a.certificate, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, err
			}
		}
	}
	if a.key == nil || a.certificate == nil {
		return nil, errors.New("it has no key and certificate")
	}
	if !a.key.PublicKey.Equal(a.certificate.PublicKey) {
		return nil, errors.New("its certificate is of another key")
	}
	return a, nil
}

// PEM is the authority's certificate, for who is to believe it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: a.certificate.Raw})
}

// Server gives the TLS settings of a server with these names, which are host names and addresses. Its key is in memory only.
func (a *Authority) Server(names []string) *tls.Config {
	c := &certificates{authority: a, names: names}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// Issued is a certificate and its key, in PEM.
type Issued struct {
	Cert, Key string
	// Renew is when half of its life is over.
	Renew time.Time
}

// hostLife is how long a host's certificate is good.
const hostLife = 90 * 24 * time.Hour

// Issue makes a certificate for a host.
func (a *Authority) Issue(host string) (Issued, error) {
	now := a.now()
	made, err := a.certify([]string{host}, now, hostLife)
	if err != nil {
		return Issued{}, fmt.Errorf("make a certificate for %s: %w", host, err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return Issued{}, fmt.Errorf("make a certificate for %s: %w", host, err)
	}
	return Issued{
		Cert:  string(pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: made.Certificate[0]})),
		Key:   string(pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: raw})),
		Renew: now.Add(hostLife / 2),
	}, nil
}

// certificates are those of one server, one after the other.
type certificates struct {
	authority *Authority
	names     []string

	mu      sync.Mutex
	current *tls.Certificate
	renew   time.Time
}

// get gives the certificate of now.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.authority.now()
	if c.current != nil && now.Before(c.renew) {
		return c.current, nil
	}
	made, err := c.authority.certify(c.names, now, serverLife)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	c.current, c.renew = made, now.Add(serverLife/2)
	return made, nil
}

// certify makes a certificate and its key.
func (a *Authority) certify(names []string, now time.Time, life time.Duration) (*tls.Certificate, error) {
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-early), NotAfter: now.Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// newKey is a key, and the serial number of its certificate: random and of 127 bits, as RFC 5280 wants it, positive and never used again.
func newKey() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, nil, err
	}
	return key, serial.SetBit(serial, 126, 1), nil
}
