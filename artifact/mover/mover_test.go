package mover_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/artifact/mover"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

var bg = artifact.WithCaller(context.Background(), artifact.Caller{Namespace: "ci", Owner: "run-1", Node: "n-1"})

func newMover(t *testing.T, change func(*mover.Options)) (*mover.Mover, *local.Store) {
	t.Helper()
	store, err := local.Open(t.TempDir(), local.Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	o := mover.Options{
		Store: store, TempDir: t.TempDir(),
		Secrets: someSecrets{}, Egress: egress.Unrestricted(),
	}
	if change != nil {
		change(&o)
	}
	return mover.New(o), store
}

// art reads an artifact from JSON, as a manifest would have it.
func art(t *testing.T, js string) manifest.Artifact {
	t.Helper()
	var a manifest.Artifact
	if err := json.Unmarshal([]byte(js), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRoundTrips(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "tmp/file.txt"), "content")
	write(t, filepath.Join(root, "tmp/tree/one"), "1")
	write(t, filepath.Join(root, "tmp/tree/in/two"), "2")
	for _, c := range []struct{ name, save, src, fetch, part, want string }{
		{"file, default", `{"s3":{"key":"k/f.tgz"}}`, "/tmp/file.txt", `{"s3":{"key":"k/f.tgz"}}`, "", "content"},
		{"folder, default", `{"s3":{"key":"k"}}`, "/tmp/tree", `{"s3":{"key":"k"}}`, "in/two", "2"},
		{"file, none", `{"s3":{"key":"k"},"archive":{"none":{}}}`, "/tmp/file.txt", `{"s3":{"key":"k"}}`, "", "content"},
		{"folder, none", `{"s3":{"key":"k"},"archive":{"none":{}}}`, "/tmp/tree", `{"s3":{"key":"k"}}`, "in/two", "2"},
		{"one of a folder, none", `{"s3":{"key":"k"},"archive":{"none":{}}}`, "/tmp/tree", `{"s3":{"key":"k/one"}}`, "", "1"},
		{"folder, zip", `{"s3":{"key":"k"},"archive":{"zip":{}}}`, "/tmp/tree", `{"s3":{"key":"k"}}`, "in/two", "2"},
		{"file, zip", `{"s3":{"key":"k"},"archive":{"zip":{}}}`, "/tmp/file.txt", `{"s3":{"key":"k"}}`, "", "content"},
		{"uncompressed", `{"s3":{"key":"k"},"archive":{"tar":{"compressionLevel":0}}}`, "/tmp/tree", `{"s3":{"key":"k"}}`, "one", "1"},
		{"no location", `{"name":"out"}`, "/tmp/file.txt", `{"s3":{"key":"run-1/n-1/out.tgz"}}`, "", "content"},
		{"sub path of an archive", `{"s3":{"key":"k"}}`, "/tmp/tree", `{"s3":{"key":"k"},"subPath":"in/two"}`, "", "2"},
		{"sub folder of an archive", `{"s3":{"key":"k"}}`, "/tmp/tree", `{"s3":{"key":"k"},"subPath":"in"}`, "two", "2"},
		{"sub path of keys", `{"s3":{"key":"k"},"archive":{"none":{}}}`, "/tmp/tree", `{"s3":{"key":"k"},"subPath":"in"}`, "two", "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, store := newMover(t, nil)
			saved, err := m.Save(bg, art(t, c.save), root, c.src)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(saved.Digest, "sha256:") || saved.Size == 0 || saved.Artifact.S3 == nil {
				t.Errorf("%+v", saved)
			}
			if info, err := store.Stat(bg, saved.Artifact.S3.Key); err == nil && info.Digest != saved.Digest {
				t.Errorf("saved says %s, the store %s", saved.Digest, info.Digest)
			}
			dest := filepath.Join(t.TempDir(), "in", "dest")
			if err := m.Fetch(bg, art(t, c.fetch), dest); err != nil {
				t.Fatal(err)
			}
			if got := read(t, filepath.Join(dest, c.part)); got != c.want {
				t.Errorf("%q", got)
			}
			if left, _ := os.ReadDir(filepath.Dir(dest)); len(left) != 1 {
				t.Errorf("left beside dest: %v", left)
			}
		})
	}
}

func TestArchiveNoneStaysPacked(t *testing.T) {
	m, _ := newMover(t, nil)
	root := t.TempDir()
	write(t, filepath.Join(root, "f"), "content")
	if _, err := m.Save(bg, art(t, `{"s3":{"key":"k"}}`), root, "/f"); err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "dest")
	if err := m.Fetch(bg, art(t, `{"s3":{"key":"k"},"archive":{"none":{}}}`), dest); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(read(t, dest), "\x1f\x8b") {
		t.Error("it was unpacked")
	}
}

func TestRawAndModes(t *testing.T) {
	m, _ := newMover(t, nil)
	dest := filepath.Join(t.TempDir(), "script.sh")
	if err := m.Fetch(bg, art(t, `{"raw":{"data":"echo hi"},"mode":493}`), dest); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dest)
	if err != nil || info.Mode() != 0o755 || read(t, dest) != "echo hi" {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestRefusals(t *testing.T) {
	m, _ := newMover(t, func(o *mover.Options) {
		o.Guard = ofOwners{}
	})
	root := t.TempDir()
	write(t, filepath.Join(root, "f"), "x")
	for js, want := range map[string]string{
		`{"gcs":{"key":"k"}}`:                            "unsupported artifact location: gcs",
		`{"azure":{"key":"k"}}`:                          "azure",
		`{"oss":{"key":"k"}}`:                            "oss",
		`{"hdfs":{"path":"k"}}`:                          "hdfs",
		`{"artifactory":{"url":"k"}}`:                    "artifactory",
		`{"plugin":{"name":"k"}}`:                        "plugin",
		`{"s3":{"endpoint":"e","bucket":"b","key":"k"}}`: "s3 with its own endpoint or bucket (e/b)",
		`{"s3":{"key":"run-1/k"},"raw":{"data":""}}`:     "more than one location",
		`{"s3":{"key":"run-2/k"}}`:                       "belongs to another run",
		`{"s3":{"key":"run-1/../run-2"}}`:                "bad artifact key",
	} {
		a := art(t, js)
		if err := m.Fetch(bg, a, filepath.Join(t.TempDir(), "d")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("fetch %s: %v", js, err)
		}
		if _, err := m.Save(bg, a, root, "/f"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("save %s: %v", js, err)
		}
	}
	if err := m.Fetch(bg, art(t, `{"s3":{"key":"run-1/none"}}`), filepath.Join(t.TempDir(), "d")); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := m.Save(bg, art(t, `{"s3":{"key":"run-1/none"}}`), root, "/nothing"); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := m.Save(bg, art(t, `{"raw":{"data":""}}`), root, "/f"); !errors.Is(err, mover.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

func TestHTTP(t *testing.T) {
	put := ""
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "token seen elsewhere: "+r.Header.Get("X-Token"))
	}))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case r.Method == http.MethodPut:
			b, _ := io.ReadAll(r.Body)
			put = string(b)
			if r.ContentLength != int64(len(b)) {
				http.Error(w, "no length", http.StatusLengthRequired)
			}
		case r.URL.Path == "/plain":
			_, _ = io.WriteString(w, r.Header.Get("X-Token")+" "+user+" "+password)
		case r.URL.Path == "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case r.URL.Path == "/broken":
			http.Error(w, "the disk is on fire", http.StatusInternalServerError)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	m, _ := newMover(t, nil)
	fetch := func(js string) (string, error) {
		dest := filepath.Join(t.TempDir(), "d")
		err := m.Fetch(bg, art(t, strings.ReplaceAll(js, "URL", s.URL)), dest)
		b, _ := os.ReadFile(dest)
		return string(b), err
	}
	header := `"headers":[{"name":"X-Token","valueFrom":{"secretKeyRef":{"name":"creds","key":"t"}}}]`
	got, err := fetch(`{"http":{"url":"URL/plain",` + header + `,"auth":{"basicAuth":{"usernameSecret":{"name":"creds","key":"u"},"passwordSecret":{"name":"creds","key":"p"}}}}}`)
	if err != nil || got != "t-value u-value p-value" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := fetch(`{"http":{"url":"URL/away",` + header + `}}`); err != nil || got != "token seen elsewhere: " {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := fetch(`{"http":{"url":"URL/none?sig=hush"}}`); !errors.Is(err, artifact.ErrNotFound) || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
	if _, err := fetch(`{"http":{"url":"URL/broken"}}`); err == nil || !strings.Contains(err.Error(), "500 Internal Server Error: the disk is on fire") {
		t.Errorf("%v", err)
	}
	if _, err := fetch(`{"http":{"url":"file:///etc/passwd"}}`); err == nil {
		t.Error("a file URL was fetched")
	}
	if _, err := fetch(`{"http":{"url":"URL/plain","auth":{"oauth2":{}}}}`); !errors.Is(err, mover.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	root := t.TempDir()
	write(t, filepath.Join(root, "f"), "up it goes")
	saved, err := m.Save(bg, art(t, `{"http":{"url":"`+s.URL+`/up"},"archive":{"none":{}}}`), root, "/f")
	if err != nil || put != "up it goes" || saved.Size != 10 {
		t.Errorf("%q %+v, %v", put, saved, err)
	}
}

func TestDownloadLimitAndDeadline(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 2000))
	}))
	defer s.Close()
	defer close(hang)
	m, _ := newMover(t, func(o *mover.Options) { o.Limits = mover.Limits{Download: 1000, Timeout: 200 * time.Millisecond} })
	dest := filepath.Join(t.TempDir(), "d")
	if err := m.Fetch(bg, art(t, `{"http":{"url":"`+s.URL+`/big"}}`), dest); !errors.Is(err, artifact.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if err := m.Fetch(bg, art(t, `{"http":{"url":"`+s.URL+`/hang"}}`), dest); err == nil || !strings.Contains(err.Error(), "it took longer than 200ms") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(dest); err == nil {
		t.Error("a failed fetch left something")
	}
}

func TestSecretErrorsNameTheSecret(t *testing.T) {
	m, _ := newMover(t, nil)
	a := art(t, `{"name":"a","git":{"repo":"https://localhost/x"}}`)
	a.Git.PasswordSecret = &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}, Key: "p"}
	err := m.Fetch(bg, a, filepath.Join(t.TempDir(), "d"))
	if err == nil || !strings.Contains(err.Error(), "secret ci/gone, key p") {
		t.Errorf("%v", err)
	}
}

// ofOwners lets callers at keys below their own name.
type ofOwners struct{}

func (ofOwners) Places(ctx context.Context, key string, _ bool) ([]string, error) {
	if own := artifact.CallerFrom(ctx).Owner + "/"; !strings.HasPrefix(key, own) && key != "shared" {
		return nil, errors.New("that key belongs to another run")
	}
	return []string{key}, nil
}

// someSecrets are what the tests' locations name.
type someSecrets struct{}

func (someSecrets) Secret(_ context.Context, ns, name, key string) (secret.Value, error) {
	if ns == "ci" && name == "creds" {
		return secret.New(key + "-value\n"), nil
	}
	return secret.Value{}, artifact.ErrNotFound
}

// What a step leaves may look larger than any disk, or grow while it is saved.
func TestSaveIsBounded(t *testing.T) {
	root := t.TempDir()
	m, _ := newMover(t, func(o *mover.Options) { o.Limits.Save = 1 << 20 })
	for name, sizes := range map[string][]int64{"hole": {1 << 40}, "many": {1 << 19, 1 << 19, 1}} {
		for i, size := range sizes {
			path := filepath.Join(root, name, fmt.Sprint(i))
			write(t, path, "")
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
		}
		for _, how := range []string{`{}`, `{"none":{}}`, `{"zip":{}}`} {
			_, err := m.Save(bg, art(t, `{"s3":{"key":"k"},"archive":`+how+`}`), root, "/"+name)
			if !errors.Is(err, archive.ErrTooMuch) || !strings.Contains(err.Error(), "1048576 bytes") {
				t.Errorf("%s %s: %v", name, how, err)
			}
		}
	}
	if _, err := m.Save(bg, art(t, `{"s3":{"key":"one"},"archive":{"none":{}}}`), root, "/hole/0"); !errors.Is(err, archive.ErrTooMuch) {
		t.Errorf("a file: %v", err)
	}
	write(t, filepath.Join(root, "fits"), strings.Repeat("x", 1<<20))
	if _, err := m.Save(bg, art(t, `{"s3":{"key":"fits"},"archive":{"none":{}}}`), root, "/fits"); err != nil {
		t.Error(err)
	}
}

// growing is a store in which each read of what is put makes the file longer.
type growing struct {
	*local.Store
	path string
}

func (g growing) Put(ctx context.Context, key string, r io.Reader) (artifact.Info, error) {
	buf := make([]byte, 16)
	for range 100 {
		n, err := r.Read(buf)
		if errors.Is(err, io.EOF) {
			return g.Store.Put(ctx, key, strings.NewReader("saved"))
		}
		if err != nil {
			return artifact.Info{}, err
		}
		f, err := os.OpenFile(g.path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return artifact.Info{}, err
		}
		if _, err = f.Write(buf[:max(n, 1)]); err != nil {
			return artifact.Info{}, err
		}
		_ = f.Close()
	}
	return artifact.Info{}, errors.New("it never ends")
}

func TestSaveEndsThoughTheFileGrows(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "tree", "log")
	write(t, path, "as long as this")
	m, _ := newMover(t, func(o *mover.Options) {
		if s, ok := o.Store.(*local.Store); ok {
			o.Store = growing{s, path}
		}
	})
	for _, src := range []string{"/tree", "/tree/log"} {
		if _, err := m.Save(bg, art(t, `{"s3":{"key":"k"},"archive":{"none":{}}}`), root, src); err != nil {
			t.Errorf("%s: %v", src, err)
		}
	}
}
