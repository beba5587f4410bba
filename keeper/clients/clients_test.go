package clients_test

import (
	"net/netip"
	"testing"

	"github.com/tiphys/tiphys/keeper/clients"
)

// TestOf: whoever asks counts the same addresses as one client.
func TestOf(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.7":          "203.0.113.7/32",
		"::ffff:203.0.113.7":   "203.0.113.7/32",
		"127.0.0.1":            "127.0.0.1/32",
		"::1":                  "::1/128",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"fe80::1%eth0":         "fe80::/64",
	} {
		if got := clients.Of(netip.MustParseAddr(address)); got.String() != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
	if got := clients.Of(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address is %s", got)
	}
}
