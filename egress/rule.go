package egress

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// Rule is an exception that the operator makes: addresses that are refused otherwise may be reached.
type Rule struct {
	Addresses netip.Prefix
	// Port is the only one; 0 is every port.
	Port uint16
}

// ParseRule reads CIDR[:PORT]; one address stands for itself, and IPv6 with a port has brackets: "[fd00::/8]:443".
func ParseRule(text string) (Rule, error) {
	wrong := func() (Rule, error) {
		return Rule{}, failure.Invalidf("%q is no range of addresses: write CIDR[:PORT], such as 127.0.0.0/8, 10.1.2.3/32:8080 or [fd00::/8]:443", text)
	}
	addresses, port := text, ""
	switch {
	case strings.HasPrefix(text, "["):
		var rest string
		var ok bool
		if addresses, rest, ok = strings.Cut(text[1:], "]"); !ok {
			return wrong()
		}
		if port, ok = strings.CutPrefix(rest, ":"); !ok && rest != "" || ok && port == "" {
			return wrong()
		}
	case strings.Count(text, ":") == 1:
		addresses, port, _ = strings.Cut(text, ":")
		if port == "" {
			return wrong()
		}
	}
	r := Rule{}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return wrong()
		}
		r.Port = uint16(n)
	}
	if a, err := netip.ParseAddr(addresses); err == nil && a.Zone() == "" {
		a = a.Unmap()
		r.Addresses = netip.PrefixFrom(a, a.BitLen())
		return r, nil
	}
	p, err := netip.ParsePrefix(addresses)
	if err != nil || p.Addr().Is4In6() {
		return wrong()
	}
	r.Addresses = p.Masked()
	return r, nil
}

// ParseRules reads several.
func ParseRules(texts []string) ([]Rule, error) {
	var rules []Rule
	for _, text := range texts {
		r, err := ParseRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// Allows tells whether the rule is about an address and port.
func (r Rule) Allows(to netip.AddrPort) bool {
	return r.Addresses.Contains(to.Addr().WithZone("").Unmap()) && (r.Port == 0 || r.Port == to.Port())
}

// String is the rule as ParseRule reads it.
func (r Rule) String() string {
	if r.Port == 0 {
		return r.Addresses.String()
	}
	if r.Addresses.Addr().Is6() {
		return fmt.Sprintf("[%s]:%d", r.Addresses, r.Port)
	}
	return fmt.Sprintf("%s:%d", r.Addresses, r.Port)
}
