package local

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/keeper/front"
)

// routes are the hosts and paths as the Ingresses and the ready pods make them; t.mu is held.
func (t *Target) routes() map[string][]front.Route {
	found := map[string][]front.Route{}
	known := map[string]string{}
	// A host name is one Application's, whatever an older server let others write.
	owners := func(host string) string {
		if _, there := known[host]; !there {
			known[host] = t.hostOwner(host, func(*object) bool { return true }).Application
		}
		return known[host]
	}
	for _, o := range t.ofKind("Ingress") {
		if o.deleting() {
			continue
		}
		i := typedOf[networkingv1.Ingress](o)
		for _, rule := range i.Spec.Rules {
			host := strings.ToLower(rule.Host)
			if rule.HTTP == nil || owners(host) != o.Application || t.ownName(host) != "" {
				continue
			}
			for _, path := range rule.HTTP.Paths {
				if path.Backend.Service == nil {
					continue
				}
				r := t.behind(o.Key.Namespace, path.Backend.Service)
				r.Path, r.Exact = path.Path, path.PathType != nil && *path.PathType == networkingv1.PathTypeExact
				if r.Path == "" {
					r.Path = "/"
				}
				found[host] = append(found[host], r)
			}
		}
		if b := i.Spec.DefaultBackend; b != nil && b.Service != nil {
			for _, rule := range i.Spec.Rules {
				host := strings.ToLower(rule.Host)
				if owners(host) != o.Application {
					continue
				}
				r := t.behind(o.Key.Namespace, b.Service)
				r.Path = "/"
				found[host] = append(found[host], r)
			}
		}
	}
	return found
}

// behind gives the endpoints of a backend.
func (t *Target) behind(namespace string, b *networkingv1.IngressServiceBackend) front.Route {
	s := t.services[deploy.Key{Kind: "Service", Namespace: namespace, Name: b.Name}]
	if s == nil {
		return front.Route{}
	}
	for _, sp := range s.spec.Spec.Ports {
		if (b.Port.Name != "" && sp.Name == b.Port.Name) || (b.Port.Name == "" && sp.Port == b.Port.Number) {
			r := front.Route{HTTP2: cleartextHTTP2(sp), Endpoints: t.endpointsFor(s.spec, namespace, sp, t.letsFront)}
			r.Refused = len(r.Endpoints) == 0 && len(t.endpoints(s.spec, namespace, sp)) > 0
			return r
		}
	}
	return front.Route{}
}

// cleartextHTTP2 is what Kubernetes' KEP-3726 calls HTTP/2 over cleartext.
func cleartextHTTP2(sp corev1.ServicePort) bool {
	return sp.AppProtocol != nil && *sp.AppProtocol == "kubernetes.io/h2c"
}
