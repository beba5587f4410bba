package local

import (
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// claims says why an Application may not have an object where it would be, or by its host names: a [deploy.PreviewError], a
// [deploy.HostError], a [deploy.EveryHostError] or a [deploy.OwnHostError]. t.mu is held.
func (t *Target) claims(o *unstructured.Unstructured, opt deploy.ApplyOptions) error {
	key := deploy.KeyOf(o)
	if other := t.neighbour(key, opt); other != "" {
		namespace := key.Namespace
		if namespace == "" {
			namespace = key.Name
		}
		return &deploy.PreviewError{Namespace: namespace, Other: other}
	}
	if key.Group != "networking.k8s.io" || key.Kind != "Ingress" {
		return nil
	}
	hosts := deploy.HostsOf(o)
	claimants := t.claimants(hosts)
	for _, host := range hosts {
		if host == "" && opt.For.MergeRequest != 0 {
			return &deploy.EveryHostError{}
		}
		if own := t.ownName(host); own != "" {
			return &deploy.OwnHostError{Host: host, Own: own}
		}
		has := first(claimants[host], host, func(other *object) bool { return other.Application != opt.Application })
		if has == nil || has.Application == opt.TakeFrom && opt.TakeFrom != "" {
			continue
		}
		own := first(claimants[host], host, func(other *object) bool { return other.Application == opt.Application })
		wish := &object{ObjectRecord: deploy.ObjectRecord{Application: opt.Application, Hosts: opt.Hosts, Created: t.o.Now().UTC()}}
		if own != nil {
			wish.Created, wish.UID = own.Created, own.UID
		}
		if !before(wish, has, host) {
			return &deploy.HostError{Host: host, Owner: has.Application}
		}
	}
	return nil
}

// neighbour is another Application in the namespace that an object lies in, or is, where one of the two is a preview; empty if there is none. t.mu is held.
func (t *Target) neighbour(key deploy.Key, opt deploy.ApplyOptions) string {
	apart := func(other *object) bool {
		return other != nil && !other.deleting() && other.Application != "" && other.Application != opt.Application && other.Application != opt.TakeFrom &&
			(opt.For.MergeRequest != 0 || other.For.MergeRequest != 0)
	}
	namespace := key.Namespace
	switch {
	case key == deploy.Key{Kind: "Namespace", Name: key.Name}:
		namespace = key.Name
	case namespace == "":
		return ""
	default:
		if other := t.objects.byKey[deploy.Key{Kind: "Namespace", Name: namespace}]; apart(other) {
			return other.Application
		}
	}
	for other := range t.objects.byNamespace[namespace] {
		if apart(other) {
			return other.Application
		}
	}
	return ""
}

// ownName gives the name of the server's own pages that a host name is, or is below; empty if none.
func (t *Target) ownName(host string) string {
	for _, own := range t.o.OwnNames {
		if own = strings.ToLower(own); own != "" && (host == own || strings.HasSuffix(host, "."+own)) {
			return own
		}
	}
	return ""
}

// given are those of an Ingress's host names that the project gives to its Application.
func given(o *unstructured.Unstructured, opt deploy.ApplyOptions) []string {
	if o.GetKind() != "Ingress" || !runs(deploy.KeyOf(o)) {
		return nil
	}
	return slices.DeleteFunc(deploy.HostsOf(o), func(host string) bool { return !slices.Contains(opt.Hosts, host) })
}

// claimants are the Ingresses that name each of some hosts. t.mu is held.
func (t *Target) claimants(hosts []string) map[string][]*object {
	found := make(map[string][]*object, len(hosts))
	for _, host := range hosts {
		found[host] = nil
	}
	for _, o := range t.ofKind("Ingress") {
		if o.deleting() {
			continue
		}
		for _, host := range hostsOf(typedOf[networkingv1.Ingress](o)) {
			if _, wanted := found[host]; wanted {
				found[host] = append(found[host], o)
			}
		}
	}
	return found
}

// first gives the Ingress that has a host name, among some of those that name it; nil if none of them does.
func first(claimants []*object, host string, among func(*object) bool) *object {
	var owner *object
	for _, o := range claimants {
		if among(o) && (owner == nil || before(o, owner, host)) {
			owner = o
		}
	}
	return owner
}

// hostsOf is [deploy.HostsOf] of what has its type already.
func hostsOf(i *networkingv1.Ingress) []string {
	var hosts []string
	seen := map[string]bool{}
	for _, rule := range i.Spec.Rules {
		if host := strings.ToLower(rule.Host); !seen[host] {
			seen[host], hosts = true, append(hosts, host)
		}
	}
	if len(i.Spec.Rules) == 0 && i.Spec.DefaultBackend != nil {
		hosts = append(hosts, "")
	}
	return hosts
}

// hostOwners gives the Ingress that has each host name. A host name is one Application's, whatever an older server let others write. t.mu is held.
func hostOwners(ingresses []*object) map[string]*object {
	owners := map[string]*object{}
	for _, o := range ingresses {
		for _, host := range hostsOf(typedOf[networkingv1.Ingress](o)) {
			if host == "" && o.For.MergeRequest != 0 {
				continue
			}
			if owner := owners[host]; owner == nil || before(o, owner, host) {
				owners[host] = o
			}
		}
	}
	return owners
}

// before tells whether one Ingress has a host name before another: it was given it by a project and the other was not, or it was there first.
func before(a, b *object, host string) bool {
	x, y := slices.Contains(a.Hosts, host), slices.Contains(b.Hosts, host)
	switch {
	case x != y:
		return x
	case !a.Created.Equal(b.Created):
		return a.Created.Before(b.Created)
	}
	return a.UID < b.UID
}
