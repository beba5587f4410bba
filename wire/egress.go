package wire

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor/local"
)

// openEgress makes the way to other hosts for what manifests name.
func (s *Server) openEgress(context.Context) error {
	s.egress = egress.New(egress.Options{Allow: s.o.AllowEgress, Cluster: s.cluster, Proxy: http.ProxyFromEnvironment})
	s.closers = append(s.closers, s.egress.Close)
	return nil
}

// cluster are the networks of this server's pods and Services.
func (s *Server) cluster() []netip.Prefix {
	subnet, err := netip.ParsePrefix(s.o.Network.Subnet)
	if err != nil {
		return nil // pods have no network of their own
	}
	list := []netip.Prefix{subnet.Masked()}
	if services, err := local.ServicesOf(s.o.Network.Subnet); err == nil {
		list = append(list, services)
	}
	return list
}

// elsewhere are the names under which other machines reach the server: what it is told, and the address that it listens on.
func (s *Server) elsewhere() []string {
	var names []string
	if s.o.Name != "" {
		names = append(names, s.o.Name)
	}
	if s.public != nil {
		names = append(names, s.public.Hostname())
	}
	if host, _, err := net.SplitHostPort(s.o.Listen); err == nil && host != "" {
		if a, err := netip.ParseAddr(host); err != nil || !a.IsUnspecified() && !a.IsLoopback() {
			names = append(names, host)
		}
	}
	return names
}

// registries are the names of the port in image references: what is in the built-in registry is read there, and not asked for over the network.
func (s *Server) registries() []string {
	port := s.portNumber()
	names := []string{"localhost:" + port, "127.0.0.1:" + port, "[::1]:" + port}
	for _, name := range s.elsewhere() {
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		names = append(names, name, name+":"+port)
	}
	return names
}
