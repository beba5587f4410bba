package local_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/authority"
	"github.com/tiphys/tiphys/access/certificate/certificatetest"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// tlsSecret is a Secret with a new certificate for a name.
func tlsSecret(t *testing.T, a *certificatetest.Authority, secret, name string) string {
	t.Helper()
	files := a.Issue(t, t.TempDir(), name, time.Hour)
	encoded := func(file string) string {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: %s, namespace: prod}, data: {tls.crt: %s, tls.key: %s}}", secret, encoded(files.Cert), encoded(files.Key))
}

type issuing struct{ *authority.Authority }

func (i issuing) Certify(host string) (string, string, time.Time, error) {
	made, err := i.Issue(host)
	return made.Cert, made.Key, made.Renew, err
}

// proves says by whom a host is proved: "theirs", "ours", or nothing.
func (m *machine) proves(theirs, ours *x509.CertPool, host string) string {
	c := m.front.Certificate(&tls.ClientHelloInfo{ServerName: host})
	if c == nil {
		return ""
	}
	for name, roots := range map[string]*x509.CertPool{"theirs": theirs, "ours": ours} {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err == nil {
			return name
		}
	}
	return "nobody"
}

// Hosts of an Ingress's tls are proved by its Secret, as it is, or by the server's own authority.
func TestIngressTLS(t *testing.T) {
	m := newMachine(t)
	own, err := authority.OpenFor(filepath.Join(t.TempDir(), "ca.key"), "applications", nil)
	if err != nil {
		t.Fatal(err)
	}
	ours := x509.NewCertPool()
	ours.AppendCertsFromPEM(own.PEM())
	_ = m.Close()
	m.certificates = issuing{own}
	m.open()
	a, b := certificatetest.New(t), certificatetest.New(t)
	is := func(what, host, want string) {
		t.Helper()
		m.await(fmt.Sprintf("%s: %s is proved by %q", what, host, want), func() bool { return m.proves(a.Roots, ours, host) == want })
	}
	m.apply(tlsSecret(t, a, "shop", "shop.example.org"))
	m.apply(`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: shop, namespace: prod}, spec: {tls: [{hosts: [shop.example.org, own.example.org], secretName: shop}, {hosts: [stranger.example.org]}],
  rules: [{host: shop.example.org}, {host: own.example.org}, {host: plain.example.org}], defaultBackend: {service: {name: a, port: {number: 80}}}}}`)
	is("by its Secret", "shop.example.org", "theirs")
	is("not in the Secret", "own.example.org", "ours")
	is("no tls", "plain.example.org", "")
	is("no rule", "stranger.example.org", "")
	m.apply(`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: wild, namespace: prod}, spec: {tls: [{secretName: later}], rules: [{host: "*.wild.example.org"}], defaultBackend: {service: {name: a, port: {number: 80}}}}}`)
	is("no Secret yet", "x.wild.example.org", "ours")
	m.apply(tlsSecret(t, a, "later", "*.wild.example.org"))
	is("the Secret is there", "x.wild.example.org", "theirs")
	m.apply(tlsSecret(t, b, "later", "*.wild.example.org"))
	is("the Secret changed", "x.wild.example.org", "nobody")
	m.apply(tlsSecret(t, a, "later", "*.wild.example.org"))
	is("and again", "x.wild.example.org", "theirs")
	m.apply("{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: later, namespace: prod}, data: {tls.crt: eA==, tls.key: eA==}}")
	m.await("it is said", func() bool { return strings.Contains(m.Trouble(), "secret later cannot prove a host") })
	is("what cannot be used takes nothing away", "x.wild.example.org", "theirs")
	// A key of one Secret and a certificate of another are no pair.
	one, two := ingressObject(t, tlsSecret(t, a, "mixed", "x.example.org")), ingressObject(t, tlsSecret(t, a, "mixed", "x.example.org"))
	key, _, _ := unstructured.NestedString(two.Object, "data", "tls.key")
	if err := unstructured.SetNestedField(one.Object, key, "data", "tls.key"); err != nil {
		t.Fatal(err)
	}
	i := ingressObject(t, `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: x, namespace: prod}, spec: {tls: [{secretName: mixed}], rules: [{host: x.example.org}]}}`)
	problems, err := m.Check(t.Context(), []*unstructured.Unstructured{one, i}, deploy.ApplyOptions{Application: "default/app"})
	if err != nil {
		t.Fatal(err)
	}
	refused := false
	for _, p := range problems {
		refused = refused || p.Fatal && p.Key.Kind == "Ingress" && strings.Contains(p.Message, "private key does not match")
	}
	if !refused {
		t.Errorf("a key of another certificate is taken: %v", problems)
	}
	// A merge request's Ingress has only Secrets of its own, and a second Application none of the first's hosts.
	opt := deploy.ApplyOptions{Application: "default/preview"}
	opt.For.MergeRequest = 7
	preview := ingressObject(t, `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: p, namespace: mr}, spec: {tls: [{hosts: [p.example.org], secretName: shop}], rules: [{host: p.example.org}], defaultBackend: {service: {name: a, port: {number: 80}}}}}`)
	if _, err := m.Apply(t.Context(), preview, opt); err != nil {
		t.Fatal(err)
	}
	is("a preview", "p.example.org", "ours")
	if err := m.Delete(t.Context(), deploy.Key{Group: "networking.k8s.io", Kind: "Ingress", Namespace: "prod", Name: "shop"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	is("the Ingress is gone", "shop.example.org", "")
}

// Requests without TLS are sent on as the annotations say, and without any those of other machines for hosts that have TLS. httptest's come from 192.0.2.1.
func TestIngressSSLRedirect(t *testing.T) {
	m := newMachine(t)
	own, err := authority.OpenFor(filepath.Join(t.TempDir(), "ca.key"), "applications", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = m.Close()
	m.certificates = issuing{own}
	m.open()
	m.apply(serving("a", "a"))
	m.awaitHealth("Pod", "a", health.Healthy)
	for i, c := range []struct {
		annotations, tls string
		code             string
		tlsToo           bool
	}{
		{"", "", "a", false}, {"", "[{}]", "308", true}, {"ssl-redirect: 'false'", "[{}]", "a", true}, {"ssl-redirect: 'true'", "[{}]", "308", true},
		{"ssl-redirect: 'true'", "", "a", false}, {"force-ssl-redirect: 'true'", "", "308", true}, {"force-ssl-redirect: 'true'\nssl-redirect: 'false'", "[{}]", "308", true},
	} {
		host := fmt.Sprintf("tls%d.example.org", i)
		text := ingressOf(fmt.Sprint("tls", i), host, c.annotations, "Prefix / a")
		if c.tls != "" {
			text = strings.Replace(text, "spec: {", "spec: {tls: "+c.tls+", ", 1)
		}
		m.apply(text)
		m.asks(c.annotations+" tls "+c.tls, host, "/ "+c.code)
		if has := m.front.Certificate(&tls.ClientHelloInfo{ServerName: host}) != nil; has != c.tlsToo {
			t.Errorf("%s tls %s: it has TLS: %t", c.annotations, c.tls, has)
		}
	}
}
