package ledger_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// The hash is a promise for ever: ledgers of every release must verify. The value was computed by another program over the
// encoding that the documentation of ChainHash describes.
func TestChainHashIsFixed(t *testing.T) {
	t.Parallel()
	e := ledger.Entry{Seq: 7, Time: time.UnixMicro(1_767_225_600_000_001), Actor: "user:ada", Kind: "run.submitted", Subject: "run/default/hello", Cause: 3}
	got := ledger.ChainHash(ledger.TagPlain, ledger.BodyDigest(ledger.TagPlain, nil, []byte("previous")), e, ledger.BodyDigest(ledger.TagPlain, nil, []byte(`{"a":1}`)))
	if want := "e9e9b376f292232b5875dcfa5b7b0f2bd0b566a843901e548ea2e29aa25c7f69"; got.String() != want {
		t.Errorf("hash is %s, want %s", got, want)
	}
	back, err := ledger.ParseHash(got.String())
	if err != nil || back != got {
		t.Errorf("parsed back: %s %v", back, err)
	}
	for _, bad := range []string{"", "zz", got.String() + "00", got.String()[2:]} {
		if _, err := ledger.ParseHash(bad); err == nil {
			t.Errorf("%q was read as a hash", bad)
		}
	}
}

func TestChainHashCoversEverything(t *testing.T) {
	t.Parallel()
	base := ledger.Entry{Seq: 1, Time: time.UnixMicro(1), Actor: "ab", Kind: "c", Subject: "d"}
	var zero, other ledger.Hash
	other[31] = 1
	seen := map[ledger.Hash]string{ledger.ChainHash(ledger.TagSalted, zero, base, zero): "unchanged"}
	add := func(what string, h ledger.Hash) {
		if before, ok := seen[h]; ok {
			t.Errorf("%s hashes like %s", what, before)
		}
		seen[h] = what
	}
	add("previous", ledger.ChainHash(ledger.TagSalted, other, base, zero))
	add("body", ledger.ChainHash(ledger.TagSalted, zero, base, other))
	for what, change := range map[string]func(*ledger.Entry){
		"seq": func(e *ledger.Entry) { e.Seq++ }, "time": func(e *ledger.Entry) { e.Time = e.Time.Add(time.Microsecond) },
		"cause": func(e *ledger.Entry) { e.Cause++ }, "actor": func(e *ledger.Entry) { e.Actor = "x" },
		"kind": func(e *ledger.Entry) { e.Kind = "x" }, "subject": func(e *ledger.Entry) { e.Subject = "x" },
		"border moved": func(e *ledger.Entry) { e.Actor, e.Kind = "a", "bc" },
	} {
		e := base
		change(&e)
		add(what, ledger.ChainHash(ledger.TagSalted, zero, e, zero))
	}
}

func TestSignedHead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	key, err := ledger.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ledger.LoadKey(dir)
	if err != nil || !key.Equal(again) {
		t.Fatalf("the key did not stay: %v", err)
	}
	public := key.Public().(ed25519.PublicKey)
	head, err := ledger.SignHead(ledger.HeadOf(ledger.Entry{Seq: 9, Time: time.UnixMicro(5).UTC(), Hash: ledger.BodyDigest(ledger.TagPlain, nil, nil)}), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ledger.VerifyHead(head, public), ledger.VerifyHead(head, nil)); err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := ledger.SignHead(head, stranger)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*ledger.Head){
		"seq": func(h *ledger.Head) { h.Seq++ }, "time": func(h *ledger.Head) { h.Time = h.Time.Add(time.Microsecond) },
		"hash": func(h *ledger.Head) { h.Hash = "00" + h.Hash[2:] }, "signature": func(h *ledger.Head) { h.Signature = h.Signature[2:] + h.Signature[:2] },
		"no signature": func(h *ledger.Head) { h.Signature = "" }, "no key": func(h *ledger.Head) { h.PublicKey = "" },
		"another key": func(h *ledger.Head) { *h = forged },
	} {
		h := head
		change(&h)
		if err := ledger.VerifyHead(h, public); !errors.Is(err, ledger.ErrBadSignature) {
			t.Errorf("%s: %v, want a bad signature", what, err)
		}
	}
}

func TestKeyFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ledger.LoadKey(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ledger.key")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v %v, want mode 600", info.Mode(), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files left: %v %v", files, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.LoadKey(dir); err == nil {
		t.Error("a key that others may read was taken")
	}
	if err := errors.Join(os.WriteFile(path, []byte("no key"), 0o600), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.LoadKey(dir); err == nil {
		t.Error("garbage was taken for a key")
	}
}
