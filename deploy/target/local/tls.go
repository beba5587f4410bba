package local

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/keeper/front"
)

// Certifier makes certificates for hosts whose Ingress names no Secret, or one that is not there.
type Certifier interface {
	// Certify gives a certificate and its key in PEM, and when it wants to be asked again.
	Certify(host string) (cert, key string, renew time.Time, err error)
}

// proofs are the certificates that were read or made.
type proofs struct {
	// secrets are those of Secrets, by uid; made are by host.
	secrets map[string]*secretProof
	made    map[string]madeProof
}

type madeProof struct {
	front.Certificate
	renew time.Time
}

// secretProof is the pair of a Secret. A new one that cannot be used takes nothing away from the one before.
type secretProof struct {
	sealed    []byte
	cert, key string
	covers    func(host string) bool
	err       error
}

// certificates prove the hosts of the Ingresses' tls that their Applications have; t.mu is held.
func (t *Target) certificates(served []*ingress, owners map[string]*object) []front.Certificate {
	t.proofs.forget(t.objects)
	byText := map[[2]string]*front.Certificate{}
	proved, wanted := map[string]bool{}, map[string]bool{}
	for _, i := range served {
		for host, name := range i.encrypted {
			if owner := owners[host]; owner == nil || owner.Application != i.Application || t.ownName(host) != "" || host == "" || proved[host] {
				continue
			}
			c, err := t.proof(i, host, name)
			what := "prove " + host
			if err != nil {
				t.wrong(what, err)
			} else {
				t.troubles.Over(what)
			}
			if c.Cert == "" {
				continue
			}
			proved[host], wanted[host] = true, true
			text := [2]string{c.Cert, c.Key}
			if byText[text] == nil {
				byText[text] = &front.Certificate{Cert: c.Cert, Key: c.Key}
			}
			byText[text].Hosts = append(byText[text].Hosts, host)
		}
	}
	maps.DeleteFunc(t.proofs.made, func(host string, _ madeProof) bool { return !wanted[host] })
	list := make([]front.Certificate, 0, len(byText))
	for _, c := range byText {
		slices.Sort(c.Hosts)
		list = append(list, *c)
	}
	// The order of a map would make every table a new one.
	slices.SortFunc(list, func(a, b front.Certificate) int { return strings.Compare(a.Hosts[0], b.Hosts[0]) })
	if len(list) == 0 {
		return nil
	}
	return list
}

func (p *proofs) forget(objects *index) {
	if p.secrets == nil {
		p.secrets, p.made = map[string]*secretProof{}, map[string]madeProof{}
	}
	maps.DeleteFunc(p.secrets, func(uid string, _ *secretProof) bool { return objects.byUID[uid] == nil })
}

// encryptedHosts are the hosts of an Ingress that have TLS, each with its Secret or none; forced is all of them. A list without hosts is of all hosts of
// the rules.
func encryptedHosts(spec *networkingv1.Ingress, forced bool) map[string]string {
	own := hostsOf(spec)
	found := map[string]string{}
	for _, tls := range spec.Spec.TLS {
		hosts := tls.Hosts
		if len(hosts) == 0 {
			hosts = own
		}
		for _, host := range hosts {
			host = strings.ToLower(host)
			if _, there := found[host]; !there && slices.Contains(own, host) {
				found[host] = tls.SecretName
			}
		}
	}
	if forced {
		for _, host := range own {
			if _, there := found[host]; !there {
				found[host] = ""
			}
		}
	}
	return found
}

// proof is what proves a host of an Ingress: its Secret, or else what the server's own authority makes.
func (t *Target) proof(i *ingress, host, name string) (front.Certificate, error) {
	var failed error
	if name != "" {
		s := t.secretProof(i, name)
		switch {
		case s == nil: // most likely somebody makes it later: then it counts
		case s.cert != "" && s.covers(host):
			return front.Certificate{Cert: s.cert, Key: s.key}, s.err
		case s.err != nil:
			failed = s.err
		default:
			failed = fmt.Errorf("the certificate of Secret %s is not for %s: put one that is into it", name, host)
		}
	}
	if t.o.Certificates == nil {
		return front.Certificate{}, failed
	}
	made, there := t.proofs.made[host]
	if !there || !t.o.Now().Before(made.renew) {
		cert, key, renew, err := t.o.Certificates.Certify(host)
		if err != nil {
			return made.Certificate, errors.Join(failed, err)
		}
		made = madeProof{front.Certificate{Cert: cert, Key: key}, renew}
		t.proofs.made[host] = made
	}
	t.at(made.renew)
	return made.Certificate, failed
}

// secretProof is that of a Secret which an Ingress may use: of its namespace, and for a merge request its own. Nil if there is none.
func (t *Target) secretProof(i *ingress, name string) *secretProof {
	o := t.objects.byKey[deploy.Key{Kind: "Secret", Namespace: i.Key.Namespace, Name: name}]
	if o == nil || o.deleting() || t.o.Box == nil || i.For.MergeRequest != 0 && o.Application != i.Application {
		return nil
	}
	p := t.proofs.secrets[o.UID]
	if p == nil {
		p = &secretProof{}
		t.proofs.secrets[o.UID] = p
	}
	if p.sealed != nil && bytes.Equal(p.sealed, o.Sealed) {
		return p
	}
	p.sealed, p.err = slices.Clone(o.Sealed), nil
	values, err := t.open(o)
	if err == nil {
		err = p.read(string(values[corev1.TLSCertKey]), string(values[corev1.TLSPrivateKeyKey]))
	}
	if err != nil {
		p.err = fmt.Errorf("secret %s cannot prove a host: %w", name, err)
	}
	return p
}

func (p *secretProof) read(cert, key string) error {
	pair, err := front.Pair(cert, key)
	if err != nil {
		return err
	}
	leaf := pair.Leaf
	p.cert, p.key = cert, key
	p.covers = func(host string) bool {
		// "*.example.org" is proved by what proves any one label.
		return leaf.VerifyHostname(strings.Replace(host, "*.", "any.", 1)) == nil
	}
	return nil
}

// mannerOf is that of an Ingress's routes of a host.
func (i *ingress) mannerOf(host string, m *front.Manner, standard front.Encrypted) *front.Manner {
	_, tls := i.encrypted[host]
	how := front.Encrypted("")
	switch {
	case i.forced, tls && i.redirects != nil && *i.redirects:
		how = front.EncryptedAlways
	case tls && i.redirects == nil:
		how = standard
	}
	if how == "" {
		return m
	}
	with := front.Manner{}
	if m != nil {
		with = *m
	}
	with.Encrypted = how
	return &with
}

// tls says what becomes of an Ingress's tls.
func (c *checker) tls(i *networkingv1.Ingress) {
	for n, tls := range i.Spec.TLS {
		path := fmt.Sprintf("spec.tls[%d]", n)
		switch {
		case c.t.o.Certificates == nil && !c.alone:
			c.say(false, path, "a host that no Secret proves has no TLS here")
		case tls.SecretName == "":
			c.say(false, path, "no Secret is named: the hosts are proved by the server's own authority")
		}
	}
}

// pair says what is wrong with a Secret that is to prove hosts.
func (c *checker) pair(s *corev1.Secret) {
	if s.Type != corev1.SecretTypeTLS {
		return
	}
	value := func(name string) string {
		if text, there := s.StringData[name]; there {
			return text
		}
		return string(s.Data[name])
	}
	if _, err := front.Pair(value(corev1.TLSCertKey), value(corev1.TLSPrivateKeyKey)); err != nil {
		c.say(false, "data", "no Ingress is proved by it: %v", err)
	}
}

// unproved refuses Ingresses that come together with a Secret which cannot prove their hosts.
func unproved(objects []*unstructured.Unstructured) []deploy.Problem {
	pairs := map[deploy.Key]string{}
	for _, o := range objects {
		c := &checker{key: deploy.KeyOf(o)}
		if c.key.Kind == "Secret" && c.key.Group == "" {
			check(c, o, func(s *corev1.Secret) {
				s.Type = corev1.SecretTypeTLS // an Ingress may name one of any type
				c.pair(s)
			})
		}
		if len(c.problems) > 0 {
			pairs[c.key] = c.problems[0].Message
		}
	}
	var found []deploy.Problem
	for _, o := range objects {
		c := &checker{key: deploy.KeyOf(o)}
		if c.key.Kind != "Ingress" || c.key.Group != "networking.k8s.io" {
			continue
		}
		check(c, o, func(i *networkingv1.Ingress) {
			for n, tls := range i.Spec.TLS {
				if why := pairs[deploy.Key{Kind: "Secret", Namespace: c.key.Namespace, Name: tls.SecretName}]; why != "" {
					found = append(found, deploy.Problem{Key: c.key, Path: fmt.Sprintf("spec.tls[%d].secretName", n), Fatal: true, Message: fmt.Sprintf("Secret %s: %s", tls.SecretName, why)})
				}
			}
		})
	}
	return found
}
