package front

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// Certificate proves hosts to those who speak TLS. Its key is never written to a file.
type Certificate struct {
	// Hosts are names as those of a [Table]: "*.example.org" is any one label.
	Hosts []string `json:"hosts"`
	// Cert is PEM, with those that vouch for it, and Key the key that belongs to it.
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// Limits of certificates, in bytes of PEM.
const (
	maxCertificates = 2000
	maxCert         = 128 << 10
	maxKey          = 32 << 10
)

// Pair reads a certificate and its key. What does not parse, or does not belong together, is an error.
func Pair(cert, key string) (*tls.Certificate, error) {
	if len(cert) > maxCert || len(key) > maxKey {
		return nil, fmt.Errorf("a certificate of %d bytes with a key of %d is too large", len(cert), len(key))
	}
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// proof is what has been read of a table's certificates.
type proof struct {
	byHost map[string][]*tls.Certificate
	// byText are the same by what they were read of, so that they are not read again for every table.
	byText map[[2]string]*tls.Certificate
}

// prove reads the certificates of a table; f.mu is held.
func (f *Front) prove(t Table) (*proof, error) {
	p := &proof{byHost: map[string][]*tls.Certificate{}, byText: map[[2]string]*tls.Certificate{}}
	before := f.proof.Load()
	for _, c := range t.Certificates {
		text := [2]string{c.Cert, c.Key}
		pair := before.byText[text]
		if pair == nil {
			var err error
			if pair, err = Pair(c.Cert, c.Key); err != nil {
				return nil, fmt.Errorf("certificate of %v: %w", c.Hosts, err)
			}
		}
		p.byText[text] = pair
		for _, host := range c.Hosts {
			p.byHost[host] = append(p.byHost[host], pair)
		}
	}
	return p, nil
}

// Certificate chooses what proves the host that a client names; nil if there is none.
func (f *Front) Certificate(hello *tls.ClientHelloInfo) *tls.Certificate {
	found, _ := list(f.proof.Load().byHost, Host(hello.ServerName))
	for _, c := range found {
		if hello.SupportsCertificate(c) == nil {
			return c
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	return nil
}

// check refuses certificates that are too many or too large.
func checkCertificates(all []Certificate) error {
	if len(all) > maxCertificates {
		return fmt.Errorf("a table of %d certificates is too large", len(all))
	}
	for _, c := range all {
		if len(c.Cert) > maxCert || len(c.Key) > maxKey || len(strings.Join(c.Hosts, "")) > 64*maxText {
			return fmt.Errorf("the certificate of %.100v is too large", c.Hosts)
		}
	}
	return nil
}
