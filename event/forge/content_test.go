package forge_test

import (
	"testing"

	"github.com/tiphys/tiphys/event/forge"
)

// Only a body that was signed without its id names a delivery.
func TestContentID(t *testing.T) {
	a := forge.ContentID(forge.VerifiedHMAC, forge.GitHub, "https://github.example", []byte("a"))
	if a == "" || a != forge.ContentID(forge.VerifiedHMAC, forge.GitHub, "https://github.example", []byte("a")) {
		t.Errorf("one delivery has the names %q and another", a)
	}
	if b := forge.ContentID(forge.VerifiedHMAC, forge.GitHub, "https://github.example", []byte("b")); b == a {
		t.Error("two bodies have one name")
	}
	for _, method := range []string{forge.VerifiedNone, forge.VerifiedToken, forge.VerifiedStandard} {
		if id := forge.ContentID(method, forge.GitHub, "", []byte("a")); id != "" {
			t.Errorf("%s: %q", method, id)
		}
	}
}
