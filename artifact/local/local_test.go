package local_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/artifacttest"
	"github.com/tiphys/tiphys/artifact/blob"
	"github.com/tiphys/tiphys/artifact/local"
)

func open(t *testing.T, o local.Options) (*local.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := local.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, dir
}

func put(t *testing.T, s *local.Store, key, body string) artifact.Info {
	t.Helper()
	info, err := s.Put(context.Background(), key, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestConformance(t *testing.T) {
	artifacttest.Run(t, func(t *testing.T) artifact.Store {
		s, _ := open(t, local.Options{Unsynced: true})
		return s
	})
}

func TestSurvivesReopening(t *testing.T) {
	s, dir := open(t, local.Options{})
	want := put(t, s, "run/out", "kept")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := local.Open(dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	got, err := again.Stat(context.Background(), "run/out")
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestSweepKeepsWhatIsNamedOrYoung(t *testing.T) {
	now := time.Now()
	s, _ := open(t, local.Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	put(t, s, "a", "shared")
	put(t, s, "b", "shared")
	put(t, s, "c", "only")
	put(t, s, "c", "replaced")
	for _, k := range []string{"a", "c"} {
		if err := s.Delete(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	swept, err := s.Sweep(ctx, time.Hour)
	if err != nil || swept.Count != 0 {
		t.Errorf("young blobs were swept: %+v, %v", swept, err)
	}
	now = now.Add(2 * time.Hour)
	swept, err = s.Sweep(ctx, time.Hour)
	if want := (artifact.Swept{Count: 2, Bytes: int64(len("only") + len("replaced"))}); err != nil || swept != want {
		t.Errorf("swept %+v, %v; want %+v", swept, err, want)
	}
	r, _, err := s.Get(ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if b, err := io.ReadAll(r); err != nil || string(b) != "shared" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestLimit(t *testing.T) {
	s, _ := open(t, local.Options{MaxObject: 4})
	put(t, s, "k", "1234")
	if _, err := s.Put(context.Background(), "k", strings.NewReader("12345")); !errors.Is(err, artifact.ErrTooLarge) {
		t.Errorf("put of 5 bytes: %v", err)
	}
}

func TestDamageIsFound(t *testing.T) {
	s, dir := open(t, local.Options{})
	info := put(t, s, "k", "sound")
	hex := strings.TrimPrefix(info.Digest, "sha256:")
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", hex[:2], hex), []byte("sOund"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Get(context.Background(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.ReadAll(r); !errors.Is(err, blob.ErrMismatch) {
		t.Errorf("read of a damaged blob: %v", err)
	}
	put(t, s, "other", "sound")
	r2, _, err := s.Get(context.Background(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r2.Close() }()
	if b, err := io.ReadAll(r2); err != nil || string(b) != "sound" {
		t.Errorf("a new put did not heal it: %q, %v", b, err)
	}
}

// A link that somebody put among the keys must not lead out of the store.
func TestLinksInTheStoreAreNotFollowedOut(t *testing.T) {
	s, dir := open(t, local.Options{})
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "keys", "+out")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(context.Background(), "out/k", strings.NewReader("x")); err == nil {
		t.Error("put through a link succeeded")
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
}
