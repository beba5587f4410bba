package local

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/keeper/front"
)

// routes are the hosts and paths as the Ingresses and the ready pods make them. One Ingress that asks for too much is not served, and takes
// nothing away from the others; t.mu is held.
func (t *Target) routes(b *ration) (map[string][]front.Route, []front.Certificate) {
	// Of two for one path the older one counts, and it is the newer one for which there is no room.
	all := byAge(slices.DeleteFunc(t.ofKind("Ingress"), (*object).deleting))
	owners := hostOwners(all)
	maps.DeleteFunc(t.ingresses, func(uid string, _ *ingress) bool { return t.objects.byUID[uid] == nil })
	found := map[string][]front.Route{}
	served := make([]*ingress, 0, len(all))
	expressions := map[string]bool{}
	for _, o := range all {
		i, err := t.ingress(o)
		if err == nil {
			served = append(served, i)
			for _, host := range i.expressionHosts() {
				expressions[host] = expressions[host] || owners[host].Application == o.Application
			}
		}
		t.served(o, err)
	}
	for _, i := range served {
		made := map[string][]front.Route{}
		for _, host := range hostsOf(i.spec) {
			if owner := owners[host]; owner == nil || owner.Application != i.Application || t.ownName(host) != "" {
				continue
			}
			made[host] = t.routesOf(i, host, expressions[host])
		}
		if err := b.take(i.Application, made); err != nil {
			t.served(i.object, err)
			continue
		}
		for host, list := range made {
			found[host] = append(found[host], list...)
		}
	}
	return found, t.certificates(served, owners)
}

// served says why an Ingress or a Service is not served, or that it is.
func (t *Target) served(o *object, err error) {
	what := "serve " + o.Key.String()
	if err == nil {
		t.troubles.Over(what)
		return
	}
	t.wrong(what, err)
}

// ingress is an Ingress and what its annotations ask for.
type ingress struct {
	*object
	spec *networkingv1.Ingress
	asks
	// encrypted are its hosts that have TLS, each with its Secret or none.
	encrypted map[string]string
	refused   error // why it is not served
}

// ingress reads an Ingress. One that could not be applied any more, since an older server took what this one refuses, is not served: what it
// asks for may be what protects it.
func (t *Target) ingress(o *object) (*ingress, error) {
	spec := typedOf[networkingv1.Ingress](o)
	if i := t.ingresses[o.UID]; i != nil && i.spec == spec {
		return i, i.refused
	}
	i := &ingress{object: o, spec: spec}
	t.ingresses[o.UID] = i
	c := &checker{t: t, key: o.Key}
	c.ingress(i.spec)
	for _, p := range c.problems {
		if p.Fatal {
			i.refused = fmt.Errorf("%s: it is not served", p.Message)
			return i, i.refused
		}
	}
	i.asks = asksOf(i.spec.Annotations, func(bool, string, string, ...any) {})
	i.encrypted = encryptedHosts(i.spec, i.forced)
	return i, nil
}

// expressionHosts are the hosts of which, as ingress-nginx has it, every path is an expression, since one of them asks for it.
func (i *ingress) expressionHosts() []string {
	var hosts []string
	for _, rule := range i.spec.Spec.Rules {
		if rule.HTTP != nil && slices.ContainsFunc(rule.HTTP.Paths, func(p networkingv1.HTTPIngressPath) bool { return i.expression || i.rewrites(p.Path) }) {
			hosts = append(hosts, strings.ToLower(rule.Host))
		}
	}
	return hosts
}

// rewrites says whether a path is rewritten.
func (i *ingress) rewrites(path string) bool { return i.rewrite != "" && i.rewrite != path }

// routesOf are the routes that an Ingress has for one of its hosts.
func (t *Target) routesOf(i *ingress, host string, expressions bool) []front.Route {
	var list []front.Route
	for _, rule := range i.spec.Spec.Rules {
		if !strings.EqualFold(rule.Host, host) || rule.HTTP == nil {
			continue
		}
		for _, path := range rule.HTTP.Paths {
			if path.Backend.Service == nil {
				continue
			}
			r := t.behind(i, path.Backend.Service)
			r.Path, r.Regexp = cmp.Or(path.Path, "/"), expressions
			r.Exact = !expressions && path.PathType != nil && *path.PathType == networkingv1.PathTypeExact
			if expressions && i.rewrites(path.Path) {
				r.Manner = i.rewriting()
			}
			r.Manner = i.mannerOf(host, r.Manner, t.elsewhere())
			list = append(list, r)
		}
	}
	if b := i.spec.Spec.DefaultBackend; b != nil && b.Service != nil {
		r := t.behind(i, b.Service)
		r.Path, r.Default, r.Manner = "/", true, i.mannerOf(host, r.Manner, t.elsewhere())
		list = append(list, r)
	}
	return list
}

// elsewhere is what becomes of requests without TLS for a host that has it, where the Ingress does not say: those of other machines are sent to
// where it is, unless a proxy in front has TLS for all.
func (t *Target) elsewhere() front.Encrypted {
	if t.o.BehindProxy {
		return ""
	}
	return front.EncryptedElsewhere
}

// behind gives the route to a backend.
func (t *Target) behind(i *ingress, b *networkingv1.IngressServiceBackend) front.Route {
	r := front.Route{Manner: i.manner, TLS: i.tls, HTTP2: i.http2}
	namespace := i.Key.Namespace
	s := t.services[deploy.Key{Kind: "Service", Namespace: namespace, Name: b.Name}]
	if s == nil {
		return r
	}
	for _, sp := range s.spec.Spec.Ports {
		if protocol(sp) == corev1.ProtocolTCP && ((b.Port.Name != "" && sp.Name == b.Port.Name) || (b.Port.Name == "" && sp.Port == b.Port.Number)) {
			r.HTTP2 = r.HTTP2 || cleartextHTTP2(sp)
			r.Endpoints = t.endpointsFor(s.spec, namespace, sp, t.letsFront)
			r.Refused = len(r.Endpoints) == 0 && len(t.endpoints(s.spec, namespace, sp)) > 0
			return r
		}
	}
	return r
}

// protocol is that of a Service's port.
func protocol(sp corev1.ServicePort) corev1.Protocol { return cmp.Or(sp.Protocol, corev1.ProtocolTCP) }

// cleartextHTTP2 is what Kubernetes' KEP-3726 calls HTTP/2 over cleartext.
func cleartextHTTP2(sp corev1.ServicePort) bool {
	return sp.AppProtocol != nil && *sp.AppProtocol == "kubernetes.io/h2c"
}
