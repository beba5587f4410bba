// Package front carries requests to applications: by host name and path for Ingresses, by address for Services, to one of the
// ready pods. It knows nothing of manifests or of the ledger; somebody gives it a table and replaces it when something changes.
package front

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Table says what goes where. It is data: it is sent from process to process and kept in a file as JSON.
type Table struct {
	// Hosts has the routes of each host name, in lower case and without a port. "*.example.org" stands for one label, "" for
	// every host that is not named otherwise.
	Hosts map[string][]Route `json:"hosts,omitempty"`
	// Ports are the virtual addresses of Services.
	Ports []Port `json:"ports,omitempty"`
	// Callers is the network of the pods, whose connections to Ports are carried on under their own addresses. Its first address is the machine's.
	// If it is not valid everything is carried under the machine's address.
	Callers netip.Prefix `json:"callers,omitzero"`
	// Certificates prove hosts. They are not kept in a file.
	Certificates []Certificate `json:"certificates,omitempty"`
}

// Route sends the paths below one, or exactly one, to some endpoints.
type Route struct {
	Path  string `json:"path"`
	Exact bool   `json:"exact,omitempty"`
	// Regexp says that Path is a regular expression; see [Pattern].
	Regexp bool `json:"regexp,omitempty"`
	// Default says that the route is for what no other one of the host is for, whatever its path.
	Default bool `json:"default,omitempty"`
	// Manner is how requests are answered or sent on; nil if there is nothing to it.
	Manner *Manner `json:"manner,omitempty"`
	// TLS says that the endpoints speak TLS.
	TLS bool `json:"tls,omitempty"`
	// HTTP2 says that the endpoints speak HTTP/2, without TLS unless TLS is set.
	HTTP2 bool `json:"http2,omitempty"`
	// Refused says that there are pods and that a NetworkPolicy of theirs does not let requests of the front to them: then there are no Endpoints.
	Refused   bool       `json:"refused,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// Port is one port of a Service: connections to Address ("10.89.0.2:80") are carried to one of the endpoints.
type Port struct {
	Address string `json:"address"`
	// Protocol is empty for TCP, or UDP.
	Protocol string `json:"protocol,omitempty"`
	// Sticky has all that one client's address sends go to the same pod, as long as that is there.
	Sticky    bool       `json:"sticky,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// UDP is the protocol of a [Port].
const UDP = "udp"

// Endpoint is a port of a pod.
type Endpoint struct {
	// Address is "10.88.0.7:8080".
	Address string `json:"address"`
	// Backend names the pod: what is under way to it is counted under this name.
	Backend string `json:"backend"`
}

// Limits of a table: far more than one machine runs.
const (
	maxHosts     = 10_000
	maxRoutes    = 50_000
	maxPorts     = 10_000
	maxEndpoints = 200_000
	maxText      = 4096 // bytes of a host, a path, a name
	maxPatterns  = 1000
)

// Empty reports whether nothing is routed.
func (t Table) Empty() bool { return len(t.Hosts) == 0 && len(t.Ports) == 0 }

// Check refuses a table that is too large or that has what is no address. Its order is put right: exact paths before
// prefixes, longer before shorter, as Kubernetes has it, and longer expressions before shorter ones, as ingress-nginx has it.
func (t Table) Check() error {
	if t.Callers.IsValid() && !t.Callers.Addr().Is4() {
		return fmt.Errorf("callers %s: an IPv4 network is needed", t.Callers)
	}
	if len(t.Hosts) > maxHosts || len(t.Ports) > maxPorts {
		return fmt.Errorf("a table of %d hosts and %d ports is too large", len(t.Hosts), len(t.Ports))
	}
	if err := checkCertificates(t.Certificates); err != nil {
		return err
	}
	routes, endpoints, patterns := 0, 0, 0
	check := func(list []Endpoint) error {
		if endpoints += len(list); endpoints > maxEndpoints {
			return fmt.Errorf("a table of more than %d endpoints is too large", maxEndpoints)
		}
		for _, e := range list {
			if err := address(e.Address); err != nil {
				return err
			}
			if e.Backend == "" || len(e.Backend) > maxText {
				return fmt.Errorf("endpoint %s has a name of %d bytes", e.Address, len(e.Backend))
			}
		}
		return nil
	}
	for host, list := range t.Hosts {
		if routes += len(list); routes > maxRoutes || len(host) > maxText {
			return fmt.Errorf("a table of more than %d routes, or with a host of %d bytes, is too large", maxRoutes, len(host))
		}
		for _, r := range list {
			if r.Path == "" || len(r.Path) > maxText {
				return fmt.Errorf("host %q has a path of %d bytes", host, len(r.Path))
			}
			if r.Regexp {
				if patterns++; patterns > maxPatterns || len(r.Path) > maxPattern {
					return fmt.Errorf("a table of more than %d expressions, or with one of %d bytes, is too large", maxPatterns, len(r.Path))
				}
			}
			if err := cmp.Or(r.Manner.check(), check(r.Endpoints)); err != nil {
				return fmt.Errorf("host %q: %w", host, err)
			}
		}
		slices.SortStableFunc(list, before)
	}
	for _, p := range t.Ports {
		if p.Protocol != "" && p.Protocol != UDP {
			return fmt.Errorf("port %s is of the protocol %.20q, which is not carried", p.Address, p.Protocol)
		}
		if err := address(p.Address); err != nil {
			return err
		}
		if err := check(p.Endpoints); err != nil {
			return err
		}
	}
	return nil
}

func address(text string) error {
	if a, err := netip.ParseAddrPort(text); err != nil || a.Port() == 0 {
		return fmt.Errorf("%.100q is not an address with a port", text)
	}
	return nil
}

// before is Kubernetes' order of the paths of a host. Of two that are alike the one that was there first counts.
func before(a, b Route) int {
	return cmp.Or(last(a.Default, b.Default), last(!a.Exact, !b.Exact), len(b.plain())-len(a.plain()))
}

// last has those come last for which something holds.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// plain is the path without the slash at its end that means nothing.
func (r Route) plain() string {
	if r.Exact || r.Regexp {
		return r.Path
	}
	return strings.TrimSuffix(r.Path, "/")
}

// list gives the routes of a host.
func list[R any](hosts map[string][]R, host string) ([]R, bool) {
	found, known := hosts[host]
	if !known {
		if _, rest, wild := strings.Cut(host, "."); wild {
			found, known = hosts["*."+rest]
		}
	}
	if !known {
		found, known = hosts[""]
	}
	return found, known
}

// Matches tells whether a route whose path is no expression is for a path: the same one, or by whole elements one below it.
func (r Route) Matches(path string) bool {
	if r.Exact {
		return path == r.Path
	}
	rest, below := strings.CutPrefix(path, r.plain())
	return below && (rest == "" || rest[0] == '/')
}
