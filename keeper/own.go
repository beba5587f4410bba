package keeper

import (
	"net/netip"
	"strings"

	"github.com/tiphys/tiphys/keeper/front"
)

// Own are the host names of the server itself; every other name is an application's, or nobody's.
type Own struct {
	// Names are whole names, compared without regard to case. Loopback's names and addresses always belong to the server.
	Names []string `json:"names,omitempty"`
	// Addresses says that whoever writes an address instead of a name means the server.
	Addresses bool `json:"addresses,omitempty"`
}

// Has tells whether a Host header names the server.
func (o Own) Has(header string) bool {
	host := front.Host(header)
	if host == "localhost" {
		return true
	}
	for _, name := range o.Names {
		if name != "" && strings.EqualFold(host, name) {
			return true
		}
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (o.Addresses || a.Unmap().IsLoopback())
}
