package mask

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// pieceSize is the most of a value that is looked for as one; of a longer value each piece is masked by itself.
const pieceSize = 1024

// forms are the texts by which a value is recognised.
func forms(value string) []string {
	var list []string
	for _, part := range parts(value) {
		list = append(list, part)
		list = append(list, escapes(part)...)
		for _, c := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			list = append(list, base64Forms(c, part)...)
		}
	}
	return list
}

// parts are the value, its lines, and their pieces.
func parts(value string) []string {
	candidates := []string{value}
	if trimmed := strings.TrimSpace(value); trimmed != value {
		candidates = append(candidates, trimmed)
	}
	if strings.Contains(value, "\n") {
		for line := range strings.SplitSeq(value, "\n") {
			candidates = append(candidates, strings.TrimSpace(line))
		}
	}
	var list []string
	for _, c := range candidates {
		if len(c) < MinLength || strings.Trim(c, " \t\r\n*") == "" {
			continue
		}
		for len(c) > pieceSize+MinLength {
			list = append(list, c[:pieceSize])
			c = c[pieceSize:]
		}
		list = append(list, c)
	}
	return list
}

const upperHex, lowerHex = "0123456789ABCDEF", "0123456789abcdef"

func escapes(s string) []string {
	unreserved := func(b byte) bool { return alphanumeric(b) || strings.IndexByte("-_.~", b) >= 0 }
	script := func(b byte) bool { return unreserved(b) || strings.IndexByte("!'()*", b) >= 0 } // encodeURIComponent
	path := func(b byte) bool { return unreserved(b) || strings.IndexByte("$&+=:@", b) >= 0 }  // Go's PathEscape
	return []string{
		jsonEscape(s, false, false), jsonEscape(s, true, false), jsonEscape(s, false, true), jsonEscape(s, true, true),
		percent(s, upperHex, unreserved, false), percent(s, upperHex, unreserved, true),
		percent(s, lowerHex, unreserved, false), percent(s, lowerHex, unreserved, true),
		percent(s, upperHex, script, false), percent(s, upperHex, path, false),
		hexadecimal(s, lowerHex), hexadecimal(s, upperHex),
	}
}

func alphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// percent escapes as in URLs; plus writes a space as "+".
func percent(s, digits string, keep func(byte) bool, plus bool) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case keep(c):
			b.WriteByte(c)
		case plus && c == ' ':
			b.WriteByte('+')
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func hexadecimal(s, digits string) string {
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = append(b, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(b)
}

// jsonEscape writes the inside of a JSON string: html escapes <, > and & as Go does, ascii all that is not ASCII as
// Python does.
func jsonEscape(s string, html, ascii bool) string {
	var b strings.Builder
	unit := func(r rune) {
		b.WriteString(`\u`)
		for shift := 12; shift >= 0; shift -= 4 {
			b.WriteByte(lowerHex[r>>shift&15])
		}
	}
	for _, r := range s {
		short := strings.IndexRune("\"\\\n\r\t\b\f", r)
		switch {
		case short >= 0 && r != utf8.RuneError:
			b.Write([]byte{'\\', `"\nrtbf`[short]})
		case r < 0x20, html && (r == '<' || r == '>' || r == '&' || r == 0x2028 || r == 0x2029), ascii && r > 0x7e && r <= 0xffff:
			unit(r)
		case ascii && r > 0xffff:
			unit(0xd800 + (r-0x10000)>>10)
			unit(0xdc00 + (r-0x10000)&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// base64Forms gives, for zero, one and two bytes before the value, the characters that only the value decides; and
// the whole encoding of the value alone.
func base64Forms(c *base64.Encoding, s string) []string {
	list := []string{c.EncodeToString([]byte(s)), c.WithPadding(base64.NoPadding).EncodeToString([]byte(s))}
	for before := range 3 {
		text := c.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, before), s...))
		from, to := (before*8+5)/6, (before+len(s))*8/6
		if to-from >= MinLength {
			list = append(list, text[from:to])
		}
	}
	return list
}
