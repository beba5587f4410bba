package egress

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The table follows RFC 6890 and what the clouds document; see kinds. Words that are expected are a part of the refusal's.
func TestAddresses(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")}
	cluster := []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16")}
	for _, c := range []struct{ address, words string }{
		{"127.0.0.1", "loopback"}, {"127.88.3.4", "loopback"}, {"::1", "loopback"},
		{"0.0.0.0", "this machine itself"}, {"0.1.2.3", "this machine itself"}, {"::", "this machine itself"},
		{"169.254.169.254", "link-local"}, {"169.254.1.1", "link-local"}, {"fe80::1", "link-local"}, {"fe80::1%eth0", "link-local"},
		{"100.100.100.200", "metadata"}, {"168.63.129.16", "metadata"}, {"192.0.0.192", "metadata"}, {"fd00:ec2::254", "metadata"}, {"fd20:ce::254", "metadata"},
		{"192.0.0.170", "reserved"}, {"224.0.0.1", "reserved"}, {"255.255.255.255", "reserved"}, {"240.0.0.1", "reserved"}, {"ff02::1", "reserved"},
		{"203.0.113.7", "server's own machine"}, {"2001:db8::7", "server's own machine"}, {"10.88.200.3", "pods and Services"},
		// Forms that stand for IPv4.
		{"::ffff:127.0.0.1", "loopback"}, {"::ffff:169.254.169.254", "link-local"}, {"::127.0.0.1", "loopback"}, {"::ffff:0:127.0.0.1", "loopback"},
		{"64:ff9b::7f00:1", "loopback"}, {"64:ff9b::a9fe:a9fe", "link-local"}, {"64:ff9b::cb00:7107", "server's own machine"}, {"64:ff9b::a58:1", "pods and Services"},
		{"64:ff9b:1::7f00:1", "loopback"}, {"64:ff9b:1:7f00:0:100::", "loopback"}, {"64:ff9b:1:7f:0:1::", "loopback"}, {"64:ff9b:1:0:7f:0:100:0", "loopback"},
		{"64:ff9b:1::", "this machine itself"},
		{"2002:7f00:1::1", "loopback"}, {"2002:a9fe:a9fe::", "link-local"},
		{"2001:0:7f00:1::1", "loopback"}, {"2001:0:808:808::80ff:fffe", "loopback"},
		{"2001:db8::5efe:127.0.0.1", "loopback"}, {"2001:db8::200:5efe:169.254.169.254", "link-local"},
		// What a team has of its own, and everybody else.
		{"10.1.2.3", ""}, {"172.16.0.9", ""}, {"192.168.1.1", ""}, {"fd12:3456::1", ""}, {"100.64.0.1", ""}, {"8.8.8.8", ""}, {"2606:4700::1111", ""},
		{"64:ff9b::808:808", ""}, {"64:ff9b:1::808:808", ""}, {"2002:808:808::1", ""}, {"2001:0:808:808::f7f7:f7f7", ""}, {"203.0.113.8", ""},
	} {
		got := judge(netip.MustParseAddr(c.address), own, cluster)
		if (got == "") != (c.words == "") || !strings.Contains(got, c.words) {
			t.Errorf("%s is %q, want %q", c.address, got, c.words)
		}
	}
}

// Whatever IPv4 address is refused is refused in each of its translated forms, and no form is refused of one that may be reached.
func TestTranslatedForms(t *testing.T) {
	forms := map[string]func([4]byte) [16]byte{
		"mapped": func(b [4]byte) [16]byte { return [16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]} },
		"SIIT":   func(b [4]byte) [16]byte { return [16]byte{8: 0xff, 9: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]} },
		"NAT64":  func(b [4]byte) [16]byte { return [16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]} },
		"6to4":   func(b [4]byte) [16]byte { return [16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 15: 1} },
		"Teredo": func(b [4]byte) [16]byte {
			return [16]byte{0x20, 0x01, 0, 0, 8, 8, 8, 8, 12: ^b[0], 13: ^b[1], 14: ^b[2], 15: ^b[3]}
		},
		"ISATAP": func(b [4]byte) [16]byte {
			return [16]byte{0x20, 0x01, 0x0d, 0xb8, 10: 0x5e, 11: 0xfe, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
		},
		"compatible": func(b [4]byte) [16]byte { return [16]byte{12: b[0], 13: b[1], 14: b[2], 15: b[3]} },
	}
	own := []netip.Addr{netip.MustParseAddr("203.0.113.7")}
	cluster := []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16")}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.SampledFrom([]byte{0, 8, 10, 100, 127, 169, 192, 203, 224}).Draw(t, "first")
		var b [4]byte
		copy(b[:], append([]byte{first}, rapid.SliceOfN(rapid.Byte(), 3, 3).Draw(t, "rest")...))
		if rapid.Bool().Draw(t, "well known") {
			b = netip.MustParseAddr(rapid.SampledFrom([]string{"127.0.0.1", "169.254.169.254", "203.0.113.7", "10.88.0.1", "100.100.100.200"}).Draw(t, "address")).As4()
		}
		plain := judge(netip.AddrFrom4(b), own, cluster)
		for name, form := range forms {
			a := netip.AddrFrom16(form(b))
			if name == "compatible" && (a == netip.IPv6Unspecified() || a == netip.IPv6Loopback()) {
				continue // these have a meaning of their own
			}
			if got := judge(a, own, cluster); (got == "") != (plain == "") {
				t.Errorf("%s %s of %s is %q, and that is %q", name, a, netip.AddrFrom4(b), got, plain)
			}
		}
	})
}

func TestRules(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.0/8": "127.0.0.0/8", "127.0.0.1": "127.0.0.1/32", "10.1.2.3/8": "10.0.0.0/8", "127.0.0.1:8080": "127.0.0.1/32:8080", "10.0.0.0/8:443": "10.0.0.0/8:443",
		"::1": "::1/128", "fd00::/8": "fd00::/8", "[::1]:80": "[::1/128]:80", "[fd00::/8]:443": "[fd00::/8]:443", "[::1]": "::1/128", "::ffff:127.0.0.1": "127.0.0.1/32",
		"": "", "localhost": "", "127.0.0.1:": "", "127.0.0.1:0": "", "127.0.0.1:70000": "", "127.0.0.1/33": "", "[::1": "", "[::1]80": "", "[::1]:": "", "fe80::1%eth0": "", "::ffff:127.0.0.0/104": "",
	} {
		r, err := ParseRule(text)
		got := ""
		if err == nil {
			got = r.String()
		}
		if got != want {
			t.Errorf("%q is read as %q, %v; want %q", text, got, err, want)
		}
		if err != nil {
			continue
		}
		if again, err := ParseRule(got); err != nil || again != r {
			t.Errorf("%q is read again as %v, %v", got, again, err)
		}
	}
	r := Rule{netip.MustParsePrefix("127.0.0.0/8"), 80}
	for to, want := range map[string]bool{"127.0.0.1:80": true, "[::ffff:127.0.0.1]:80": true, "127.0.0.1:81": false, "128.0.0.1:80": false, "[::1]:80": false} {
		if r.Allows(netip.MustParseAddrPort(to)) != want {
			t.Errorf("%s allows %s: want %t", r, to, want)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	for _, text := range []string{"127.0.0.0/8", "[::1]:80", "10.0.0.0/8:443", "x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		if again, err := ParseRule(r.String()); err != nil || again != r {
			t.Errorf("%q is %v, and read again %v, %v", text, r, again, err)
		}
	})
}
