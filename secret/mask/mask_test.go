package mask

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestForms(t *testing.T) {
	const value = "p4ss \"w<rd>\n/é&😀+line two"
	s := New([]string{value})
	plain, _ := json.Marshal(value)
	for name, text := range map[string]string{
		"plain": value, "json": string(plain), "query": url.QueryEscape(value), "path": url.PathEscape(value),
		"first line": `p4ss "w<rd>`, "second line": "/é&😀+line two", "hex": hex.EncodeToString([]byte(value)),
		"python json": "p4ss \\\"w<rd>\\n/\\u00e9&\\ud83d\\ude00+line two",
		"basic auth":  base64.StdEncoding.EncodeToString([]byte("user:" + value)),
		"base64":      base64.StdEncoding.EncodeToString([]byte(value)),
		"base64 url":  base64.RawURLEncoding.EncodeToString([]byte("ab" + value + "cd")),
	} {
		got := s.String("before " + text + " after")
		if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") || !strings.Contains(got, Replacement) {
			t.Errorf("%s: %q", name, got)
		}
		if left := strings.NewReplacer("before ", "", " after", "", Replacement, "").Replace(got); len(left) > 12 {
			t.Errorf("%s: %q is left", name, left)
		}
	}
}

func TestMask(t *testing.T) {
	s := New([]string{"hunter2", "hunter22x", "abc", "    ", "****", "nter2abcd"})
	for in, want := range map[string]string{
		"pw=hunter2!":        "pw=******!",
		"hunter2hunter2":     "******",
		"hunter22x":          "******",
		"hunter22y":          "******2y",
		"abc     ****":       "abc     ****",
		"hunter2abcd":        "******",
		"hunte hunter":       "hunte hunter",
		"":                   "",
		"hunterhunter2 tail": "hunter****** tail",
	} {
		if got := s.String(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if empty := New(nil); !empty.Empty() || empty.String("x") != "x" {
		t.Error("the empty set masks")
	}
}

func TestHoldBackIsBounded(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 4096)
	s := New([]string{long})
	var out bytes.Buffer
	w := s.Writer(&out)
	for i := range len(long) {
		if _, err := w.Write([]byte{long[i]}); err != nil {
			t.Fatal(err)
		}
		if len(w.held) > 8<<10 {
			t.Fatalf("%d bytes held", len(w.held))
		}
	}
	if err := w.Close(); err != nil || strings.Contains(out.String(), "0123") {
		t.Errorf("%v, %d bytes out", err, out.Len())
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestErrorOfTheStreamIsGiven(t *testing.T) {
	w := New([]string{"hunter2"}).Writer(broken{})
	if _, err := w.Write([]byte("text")); err == nil {
		t.Error("no error")
	}
	if _, err := w.Write([]byte("text")); err == nil || w.Close() == nil {
		t.Error("the error is forgotten")
	}
}

// However the text is cut, no secret gets out in any form, and all else does.
func TestPropertyNothingGetsOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(rapid.StringMatching(`[a-c"\n /]{4,12}`), 1, 3).Draw(t, "secrets")
		encode := []func(string) string{
			func(s string) string { return s },
			func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
			url.QueryEscape,
		}
		var in strings.Builder
		for range rapid.IntRange(1, 8).Draw(t, "parts") {
			in.WriteString(rapid.StringMatching(`[a-cXYZ \n]{0,6}`).Draw(t, "noise"))
			secret := rapid.SampledFrom(secrets).Draw(t, "secret")
			in.WriteString(rapid.SampledFrom(encode).Draw(t, "encode")(secret))
		}
		var out bytes.Buffer
		w := New(secrets).Writer(&out)
		text := in.String()
		for len(text) > 0 {
			n := rapid.IntRange(1, min(len(text), 7)).Draw(t, "chunk")
			if _, err := w.Write([]byte(text[:n])); err != nil {
				t.Fatal(err)
			}
			text = text[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if whole := New(secrets).String(in.String()); whole != out.String() {
			t.Fatalf("chunks matter: %q, %q", whole, out.String())
		}
		for _, secret := range secrets {
			if strings.TrimSpace(secret) == "" {
				continue
			}
			for _, e := range encode {
				if strings.Contains(out.String(), e(secret)) {
					t.Fatalf("%q is in %q (of %q)", e(secret), out.String(), in.String())
				}
			}
		}
	})
}

func BenchmarkMask(b *testing.B) {
	s := New([]string{"hunter2hunter2", strings.Repeat("key", 500)})
	line := []byte(strings.Repeat("2024-07-15 a usual line of a log, with h and k in it\n", 100))
	w := s.Writer(discard{})
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := w.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
