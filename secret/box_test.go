package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	box, err := OpenBox(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	sealed := box.Seal(New("hunter2"), "ci/db")
	if bytes.Contains(sealed, []byte("hunter2")) || bytes.Equal(sealed, box.Seal(New("hunter2"), "ci/db")) {
		t.Error("the value shows, or sealing repeats itself")
	}
	again, err := OpenBox(path)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := again.Open(sealed, "ci/db"); err != nil || v.Reveal() != "hunter2" {
		t.Errorf("%q, %v", v.Reveal(), err)
	}
	if _, err := again.Open(sealed, "ci/other"); !errors.Is(err, ErrSealed) {
		t.Errorf("another context: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := again.Open(changed, "ci/db"); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if _, err := again.Open(nil, "ci/db"); !errors.Is(err, ErrSealed) {
		t.Error(err)
	}
}

func TestBoxRefusesABadKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBox(path); err == nil {
		t.Error("a short key is taken")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBox(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
	if _, err := OpenBox(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("a missing folder is no error")
	}
}

func TestValueCannotBePrinted(t *testing.T) {
	v := New("hunter2")
	holder := struct{ V Value }{v}
	raw, err := json.Marshal(map[string]any{"v": v, "p": &v, "h": holder})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(v), fmt.Sprintf("%s %q %v %+v %#v %x %d", v, v, v, v, v, v, v), fmt.Sprintf("%+v %#v", holder, &holder), string(raw),
		fmt.Errorf("with %v", v).Error(), v.LogValue().String(),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e746572") {
			t.Errorf("it shows: %s", text)
		}
	}
}
