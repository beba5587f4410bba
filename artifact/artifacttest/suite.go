// Package artifacttest is the suite that every [artifact.Store] must pass.
package artifacttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/artifact"
)

// Run runs the suite; open returns an empty store, which the suite does not close.
func Run(t *testing.T, open func(t *testing.T) artifact.Store) {
	t.Run("put and get", func(t *testing.T) { putAndGet(t, open(t)) })
	t.Run("keys", func(t *testing.T) { keys(t, open(t)) })
	t.Run("list", func(t *testing.T) { list(t, open(t)) })
	t.Run("delete", func(t *testing.T) { deleteKeys(t, open(t)) })
	t.Run("failing reader", func(t *testing.T) { failingReader(t, open(t)) })
	t.Run("concurrent", func(t *testing.T) { concurrent(t, open(t)) })
	t.Run("like a map", func(t *testing.T) { likeAMap(t, open) })
}

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(h[:])
}

func put(t interface{ Fatal(...any) }, s artifact.Store, key, body string) artifact.Info {
	info, err := s.Put(context.Background(), key, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func get(s artifact.Store, key string) (string, artifact.Info, error) {
	r, info, err := s.Get(context.Background(), key)
	if err != nil {
		return "", info, err
	}
	b, err := io.ReadAll(r)
	return string(b), info, errors.Join(err, r.Close())
}

func putAndGet(t *testing.T, s artifact.Store) {
	for _, body := range []string{"", "one", strings.Repeat("long ", 100_000)} {
		info := put(t, s, "a/b", body)
		if info.Key != "a/b" || info.Size != int64(len(body)) || info.Digest != digest(body) || info.Time.IsZero() {
			t.Errorf("put %d bytes: %+v", len(body), info)
		}
		got, back, err := get(s, "a/b")
		if err != nil || got != body {
			t.Errorf("get: %d bytes, %v", len(got), err)
		}
		if d := cmp.Diff(info, back); d != "" {
			t.Error(d)
		}
		stat, err := s.Stat(context.Background(), "a/b")
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(info, stat); d != "" {
			t.Error(d)
		}
	}
	for _, key := range []string{"a", "a/b/c", "b", "a/bb"} {
		if _, _, err := get(s, key); !errors.Is(err, artifact.ErrNotFound) {
			t.Errorf("get %s: %v", key, err)
		}
		if _, err := s.Stat(context.Background(), key); !errors.Is(err, artifact.ErrNotFound) {
			t.Errorf("stat %s: %v", key, err)
		}
	}
}

func keys(t *testing.T, s artifact.Store) {
	ctx := context.Background()
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/..", "a\x00b", "a\nb",
		strings.Repeat("k", artifact.MaxSegment+1), strings.Repeat("k/", artifact.MaxKey/2) + "kk",
	}
	for _, key := range bad {
		if _, err := s.Put(ctx, key, strings.NewReader("x")); !errors.Is(err, artifact.ErrBadKey) {
			t.Errorf("put %q: %v", key, err)
		}
		if _, _, err := s.Get(ctx, key); !errors.Is(err, artifact.ErrBadKey) {
			t.Errorf("get %q: %v", key, err)
		}
		if _, err := s.Stat(ctx, key); !errors.Is(err, artifact.ErrBadKey) {
			t.Errorf("stat %q: %v", key, err)
		}
		if err := s.Delete(ctx, key); !errors.Is(err, artifact.ErrBadKey) {
			t.Errorf("delete %q: %v", key, err)
		}
	}
	good := []string{
		"a", "a/b", "a/b/c", "...", "..a", "a..", " ", "a b", "ä/ö", `a\b`, "+", "=", "+a/=b", "%2e%2e/x", "CON", "A", "a:b?c*d",
		strings.Repeat("k", artifact.MaxSegment), strings.TrimSuffix(strings.Repeat("kkk/", artifact.MaxKey/4), "/"),
	}
	for _, key := range good {
		put(t, s, key, "body of "+key)
	}
	for _, key := range good {
		if got, _, err := get(s, key); err != nil || got != "body of "+key {
			t.Errorf("get %q: %q, %v", key, got, err)
		}
	}
	if all, err := s.List(ctx, ""); err != nil || len(all) != len(good) {
		t.Errorf("list: %d of %d keys, %v", len(all), len(good), err)
	}
}

func listed(t *testing.T, s artifact.Store, prefix string) []string {
	t.Helper()
	infos, err := s.List(context.Background(), prefix)
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	names := []string{}
	for _, i := range infos {
		names = append(names, i.Key)
	}
	return names
}

func list(t *testing.T, s artifact.Store) {
	if got := listed(t, s, ""); len(got) != 0 {
		t.Errorf("an empty store has %v", got)
	}
	for _, key := range []string{"run/b", "run/a/z", "run/a.txt", "run", "runs/1", "other"} {
		put(t, s, key, key)
	}
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", []string{"other", "run", "run/a.txt", "run/a/z", "run/b", "runs/1"}},
		{"run", []string{"run", "run/a.txt", "run/a/z", "run/b", "runs/1"}},
		{"run/", []string{"run/a.txt", "run/a/z", "run/b"}},
		{"run/a", []string{"run/a.txt", "run/a/z"}},
		{"run/a/", []string{"run/a/z"}},
		{"run/a/z", []string{"run/a/z"}},
		{"run/a/z/", []string{}},
		{"nothing/here", []string{}},
	} {
		if d := cmp.Diff(c.want, listed(t, s, c.prefix)); d != "" {
			t.Errorf("list %q: %s", c.prefix, d)
		}
	}
	if _, err := s.List(context.Background(), "../"); err == nil {
		t.Error("list took the prefix ../")
	}
}

func deleteKeys(t *testing.T, s artifact.Store) {
	ctx := context.Background()
	for _, key := range []string{"x", "x/y", "x/z"} {
		put(t, s, key, "same")
	}
	if err := s.Delete(ctx, "nothing/there"); err != nil {
		t.Errorf("delete what is not there: %v", err)
	}
	for range 2 {
		if err := s.Delete(ctx, "x/y"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := get(s, "x/y"); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
	for _, key := range []string{"x", "x/z"} {
		if got, _, err := get(s, key); err != nil || got != "same" {
			t.Errorf("%s has the same content and was not deleted: %q, %v", key, got, err)
		}
	}
	put(t, s, "x/y", "again")
	if got, _, err := get(s, "x/y"); err != nil || got != "again" {
		t.Errorf("put after delete: %q, %v", got, err)
	}
}

func failingReader(t *testing.T, s artifact.Store) {
	put(t, s, "k", "old")
	broken := errors.New("the wire is cut")
	r := io.MultiReader(strings.NewReader("ne"), iotest.ErrReader(broken))
	if _, err := s.Put(context.Background(), "k", r); !errors.Is(err, broken) {
		t.Errorf("put of a failing reader: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Put(ctx, "k", strings.NewReader("new")); !errors.Is(err, context.Canceled) {
		t.Errorf("put after cancel: %v", err)
	}
	if got, _, err := get(s, "k"); err != nil || got != "old" {
		t.Errorf("the old object is gone: %q, %v", got, err)
	}
}

func concurrent(t *testing.T, s artifact.Store) {
	const writers, rounds = 4, 10
	body := func(w int) string { return strings.Repeat(fmt.Sprint(w), 50_000) }
	put(t, s, "shared/deep/key", body(0))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for r := range rounds {
				if _, err := s.Put(context.Background(), "shared/deep/key", strings.NewReader(body(w))); err != nil {
					t.Error(err)
				}
				own := fmt.Sprintf("own/%d/%d", w, r)
				if _, err := s.Put(context.Background(), own, strings.NewReader(own)); err != nil {
					t.Error(err)
				}
				if err := s.Delete(context.Background(), own); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				got, info, err := get(s, "shared/deep/key")
				if err != nil {
					t.Error(err)
				} else if len(got) != 50_000 || !bytes.Equal([]byte(got), bytes.Repeat([]byte{got[0]}, len(got))) || digest(got) != info.Digest {
					t.Errorf("a mixed object of %d bytes", len(got))
				}
			}
		})
	}
	wg.Wait()
	if got := listed(t, s, "own"); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
}

// likeAMap compares a store with a map under random operations.
func likeAMap(t *testing.T, open func(t *testing.T) artifact.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		s := open(t)
		model := map[string]string{}
		key := rapid.SampledFrom([]string{"a", "a/b", "a/b/c", "b", "ab/c"})
		for range rapid.IntRange(1, 12).Draw(rt, "operations") {
			k := key.Draw(rt, "key")
			switch rapid.SampledFrom([]string{"put", "get", "delete", "list"}).Draw(rt, "operation") {
			case "put":
				model[k] = rapid.StringN(0, 5, 20).Draw(rt, "body")
				put(rt, s, k, model[k])
			case "delete":
				delete(model, k)
				if err := s.Delete(context.Background(), k); err != nil {
					rt.Fatal(err)
				}
			case "get":
				got, _, err := get(s, k)
				want, ok := model[k]
				if ok != (err == nil) || got != want {
					rt.Fatalf("get %s: %q, %v; want %q, %v", k, got, err, want, ok)
				}
			case "list":
				infos, err := s.List(context.Background(), k)
				if err != nil {
					rt.Fatal(err)
				}
				for _, i := range infos {
					if model[i.Key] == "" && i.Size != 0 || !strings.HasPrefix(i.Key, k) {
						rt.Fatalf("list %s: %+v", k, i)
					}
				}
			}
		}
	})
}
