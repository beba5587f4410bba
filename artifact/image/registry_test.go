package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/artifact/image/pack"
	"github.com/tiphys/tiphys/failure"
)

var bg = context.Background()

func openStore(t *testing.T, o image.StoreOptions) *image.Store {
	t.Helper()
	o.Unsynced = true
	s, err := image.OpenStore(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func serve(t *testing.T, o image.RegistryOptions) (*httptest.Server, string) {
	t.Helper()
	g := image.NewRegistry(o)
	s := httptest.NewServer(g)
	t.Cleanup(func() { s.Close(); g.Close() })
	return s, strings.TrimPrefix(s.URL, "http://")
}

func ref(t *testing.T, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPushAndPullWithGoContainerregistry(t *testing.T) {
	var mu sync.Mutex
	var pushed []string
	s := openStore(t, image.StoreOptions{})
	_, host := serve(t, image.RegistryOptions{Store: s, Door: door{pushed: func(repo, ref, digest string) error {
		mu.Lock()
		defer mu.Unlock()
		pushed = append(pushed, repo+" "+ref+" "+digest)
		return nil
	}}})
	img, err := random.Image(70_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := img.Digest()
	if err := remote.Write(ref(t, host+"/harbour/api:v1"), img); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"harbour/api v1 " + digest.String()}, pushed); d != "" {
		t.Error(d)
	}
	for _, r := range []string{"/harbour/api:v1", "/harbour/api@" + digest.String()} {
		back, err := remote.Image(ref(t, host+r))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(back); err != nil {
			t.Error(err)
		}
	}
	if d, err := remote.Head(ref(t, host+"/harbour/api:v1")); err != nil || d.Digest != digest {
		t.Errorf("%v, %v", d, err)
	}
	index, err := random.Index(1000, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref(t, host+"/harbour/api:all"), index); err != nil {
		t.Fatal(err)
	}
	// Mounting from another repository, which the client tries by itself.
	layer, _ := img.Layers()
	back, err := remote.Image(ref(t, host+"/harbour/api:v1"))
	if err != nil || len(layer) != 3 {
		t.Fatal(err)
	}
	if err := remote.Write(ref(t, host+"/harbour/copy:v1"), back); err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(ref(t, host+"/harbour/api:v1").Context(), remote.WithPageSize(1))
	if d := cmp.Diff([]string{"all", "v1"}, tags); d != "" || err != nil {
		t.Error(d, err)
	}
	if err := remote.Delete(ref(t, host+"/harbour/api@"+digest.String())); err == nil {
		t.Error("deletion is off, and worked")
	}
	if _, err := remote.Image(ref(t, host+"/harbour/none:v1")); err == nil {
		t.Error("an image that is not there was pulled")
	}
	if names, err := s.Repositories(); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestAuthorize(t *testing.T) {
	s := openStore(t, image.StoreOptions{})
	_, host := serve(t, image.RegistryOptions{Store: s, Door: door{enter: func(r *http.Request, repo string, write bool) error {
		_, password, ok := r.BasicAuth()
		switch {
		case !ok:
			return image.ErrUnauthenticated
		case password != "right":
			return failure.New(failure.Refused, "that token has ended")
		case write && !strings.HasPrefix(repo, "own/"):
			return failure.Refusedf("this run may not push to %s", repo)
		}
		return nil
	}}})
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	auth := func(p string) remote.Option {
		return remote.WithAuth(&authn.Basic{Username: "step", Password: p})
	}
	if err := remote.Write(ref(t, host+"/own/x"), img, auth("right")); err != nil {
		t.Error(err)
	}
	if err := remote.Write(ref(t, host+"/other/x"), img, auth("right")); err == nil || !strings.Contains(err.Error(), "this run may not push to other/x") {
		t.Errorf("%v", err)
	}
	if _, err := remote.Image(ref(t, host+"/own/x"), auth("wrong")); err == nil || !strings.Contains(err.Error(), "that token has ended") {
		t.Errorf("%v", err)
	}
	if _, err := remote.Image(ref(t, host+"/own/x")); err == nil || !strings.Contains(err.Error(), "authentication required") {
		t.Errorf("%v", err)
	}
	resp, err := http.Get("http://" + host + "/v2/")
	if err != nil || resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(h[:])
}

// do makes a request and returns status, headers and body.
func do(t *testing.T, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b)
}

// The requests and answers are those of the OCI distribution specification 1.1, "Pushing blobs".
func TestUploads(t *testing.T) {
	now := time.Now()
	s := openStore(t, image.StoreOptions{MaxBlob: 100})
	srv, _ := serve(t, image.RegistryOptions{Store: s, MaxUploads: 2, Now: func() time.Time { return now }})
	base := srv.URL + "/v2/a/b/blobs/"
	begin := func() string {
		t.Helper()
		code, h, body := do(t, "POST", base+"uploads/", "")
		if code != 202 {
			t.Fatalf("%d %s", code, body)
		}
		return srv.URL + h.Get("Location")
	}
	place := begin()
	if code, h, _ := do(t, "PATCH", place, "hello ", "Content-Range", "0-5"); code != 202 || h.Get("Range") != "0-5" {
		t.Errorf("first chunk: %d %v", code, h)
	}
	if code, _, _ := do(t, "PATCH", place, "x", "Content-Range", "9-9"); code != 416 {
		t.Errorf("chunk with a gap: %d", code)
	}
	if code, h, _ := do(t, "GET", place, ""); code != 204 || h.Get("Range") != "0-5" {
		t.Errorf("progress: %d %v", code, h)
	}
	if code, h, _ := do(t, "PUT", place+"?digest="+sum("hello world"), "world"); code != 201 || h.Get("Docker-Content-Digest") != sum("hello world") {
		t.Errorf("end: %d %v", code, h)
	}
	if code, _, _ := do(t, "PATCH", place, "more"); code != 404 {
		t.Errorf("after the end: %d", code)
	}
	if code, h, body := do(t, "GET", base+sum("hello world"), "", "Range", "bytes=6-"); code != 206 || body != "world" {
		t.Errorf("range: %d %q %v", code, body, h)
	}
	if code, _, _ := do(t, "GET", srv.URL+"/v2/a/c/blobs/"+sum("hello world"), ""); code != 404 {
		t.Errorf("blob through another repository: %d", code)
	}
	if code, _, _ := do(t, "POST", base+"uploads/?digest="+sum("whole"), "whole"); code != 201 {
		t.Errorf("whole: %d", code)
	}
	if code, _, body := do(t, "POST", base+"uploads/?digest="+sum("other"), "whole"); code != 400 || !strings.Contains(body, "DIGEST_INVALID") {
		t.Errorf("wrong digest: %d %s", code, body)
	}
	if code, _, body := do(t, "POST", base+"uploads/?digest="+sum("x"), strings.Repeat("x", 101)); code != 413 {
		t.Errorf("too large: %d %s", code, body)
	}
	if code, _, _ := do(t, "POST", srv.URL+"/v2/c/blobs/uploads/?mount="+sum("whole")+"&from=a/b", ""); code != 201 {
		t.Errorf("mount: %d", code)
	}
	wrong := begin()
	if code, _, body := do(t, "PUT", wrong+"?digest="+sum("other"), "content"); code != 400 {
		t.Errorf("wrong digest at the end: %d %s", code, body)
	}
	gone := begin()
	if code, _, _ := do(t, "DELETE", gone, ""); code != 204 {
		t.Errorf("cancel: %d", code)
	}
	begin()
	begin()
	if code, _, _ := do(t, "POST", base+"uploads/", ""); code != 429 {
		t.Errorf("third open upload: %d", code)
	}
	now = now.Add(2 * time.Hour)
	begin()
}

func TestManifestRefusals(t *testing.T) {
	srv, _ := serve(t, image.RegistryOptions{Store: openStore(t, image.StoreOptions{})})
	oci := "application/vnd.oci.image.manifest.v1+json"
	missing := `{"schemaVersion":2,"mediaType":"` + oci + `","config":{"digest":"` + sum("c") + `"},"layers":[]}`
	for _, c := range []struct {
		path, mediaType, body string
		code                  int
		says                  string
	}{
		{"/v2/a/manifests/v1", oci, missing, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"/v2/a/manifests/v1", oci, "not json", 400, "MANIFEST_INVALID"},
		{"/v2/a/manifests/v1", "text/plain", "{}", 400, "MANIFEST_INVALID"},
		{"/v2/a/manifests/" + sum("x"), oci, `{"schemaVersion":2}`, 400, "DIGEST_INVALID"},
		{"/v2/a/manifests/.hidden", oci, `{"schemaVersion":2}`, 400, "neither a tag nor a digest"},
		{"/v2/a/manifests/v1", oci, strings.Repeat(" ", 5<<20), 413, "SIZE_INVALID"},
		{"/v2/Upper/manifests/v1", oci, "{}", 400, "NAME_INVALID"},
		{"/v2/a/%2e%2e/b/manifests/v1", oci, "{}", 400, "NAME_INVALID"},
	} {
		if code, _, body := do(t, "PUT", srv.URL+c.path, c.body, "Content-Type", c.mediaType); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", c.path, code, body)
		}
	}
}

func binary(t *testing.T) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(p, []byte("#!/bin/true\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPackIsDeterministic(t *testing.T) {
	s := openStore(t, image.StoreOptions{})
	o := pack.Options{Env: []string{"A=b"}, Ports: []string{"8080/tcp"}, Arch: "amd64"}
	o.Path = binary(t)
	one, err := s.Pack(bg, "x/one", "v1", o)
	if err != nil {
		t.Fatal(err)
	}
	o.Path = binary(t)
	if err := os.Chmod(o.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(o.Path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	two, err := s.Pack(bg, "x/two", "", o)
	if err != nil || one != two {
		t.Errorf("%s, %s, %v", one, two, err)
	}
	o.Env = []string{"A=c"}
	three, err := s.Pack(bg, "x/three", "", o)
	if err != nil || three == one {
		t.Errorf("another variable gave the same image: %v", err)
	}
	if _, err := s.Pack(bg, "x/dynamic", "", pack.Options{Path: "/bin/sh"}); err == nil || !strings.Contains(err.Error(), "is not a static binary") {
		t.Errorf("%v", err)
	}
}

func TestStoreSweep(t *testing.T) {
	s := openStore(t, image.StoreOptions{})
	keep, err := s.Pack(bg, "x", "keep", pack.Options{Path: binary(t)})
	if err != nil {
		t.Fatal(err)
	}
	drop, err := s.Pack(bg, "x", "drop", pack.Options{Path: binary(t), Env: []string{"X=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("x", drop); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve("x", "drop"); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("%v", err)
	}
	freed, err := s.Sweep(bg, time.Now().Add(-time.Hour))
	if err != nil || freed.Count != 0 {
		t.Errorf("young blobs: %v, %v", freed, err)
	}
	freed, err = s.Sweep(bg, time.Now().Add(time.Hour))
	if err != nil || freed.Count != 2 || freed.Bytes == 0 { // its manifest and its configuration; the layer is the other's, too
		t.Errorf("%v, %v", freed, err)
	}
	m, err := s.Resolve("x", "keep")
	if err != nil || m.Digest != keep || !bytes.Contains(m.Body, []byte("layers")) {
		t.Errorf("%v", err)
	}
}

func FuzzRegistryPaths(f *testing.F) {
	for _, p := range []string{"a/blobs/" + sum(""), "a/manifests/v1", "../x/tags/list", "a/blobs/uploads/x", "a//tags/list"} {
		f.Add("GET", p, "x")
		f.Add("PUT", p, "{}")
	}
	dir := f.TempDir()
	s, err := image.OpenStore(filepath.Join(dir, "store"), image.StoreOptions{Unsynced: true})
	if err != nil {
		f.Fatal(err)
	}
	g := image.NewRegistry(image.RegistryOptions{Store: s})
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r := httptest.NewRequest(http.MethodGet, "/v2/", strings.NewReader(body))
		r.Method, r.URL.Path = method, "/v2/"+path
		g.ServeHTTP(httptest.NewRecorder(), r)
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("written outside: %v", left)
		}
	})
}

// door does what functions say; without one everything is allowed.
// What is broken here is no fault of the client's: it is answered with a status at which clients try again, and without the server's paths.
func TestWhatBrokeIsNotTheClients(t *testing.T) {
	dir := t.TempDir()
	s, err := image.OpenStore(dir, image.StoreOptions{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	broke := fmt.Errorf("read %s/ledger.db: %w", dir, io.ErrUnexpectedEOF)
	cannotTell := failure.Mark(failure.Waiting, broke)
	var enter error
	_, host := serve(t, image.RegistryOptions{Store: s, Door: door{
		enter:  func(*http.Request, string, bool) error { return enter },
		pushed: func(string, string, string) error { return broke },
	}})
	for name, c := range map[string]struct {
		enter error
		body  string
		want  int
	}{
		"the door cannot tell":     {cannotTell, `{}`, http.StatusServiceUnavailable},
		"the record cannot take":   {nil, `{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}`, http.StatusInternalServerError},
		"the manifest is wrong":    {nil, `{"schemaVersion": 2, "mediaType": "text/plain"}`, http.StatusBadRequest},
		"the caller may not":       {failure.Refusedf("not yours"), `{}`, http.StatusForbidden},
		"the disk cannot be used":  {nil, "", http.StatusInternalServerError},
		"the manifest has no form": {nil, `[`, http.StatusBadRequest},
	} {
		enter = c.enter
		if c.body == "" { // the manifest's folder cannot be made
			c.body = `{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}`
			if err := os.WriteFile(filepath.Join(dir, "repos", "broken"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		repo := map[bool]string{true: "broken", false: "own"}[name == "the disk cannot be used"]
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+host+"/v2/"+repo+"/manifests/v1", strings.NewReader(c.body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.want || bytes.Contains(said, []byte(dir)) {
			t.Errorf("%s: %d %s; want %d, without %s", name, resp.StatusCode, said, c.want, dir)
		}
	}
}

type door struct {
	enter  func(r *http.Request, repo string, write bool) error
	pushed func(repo, ref, digest string) error
}

func (d door) Enter(r *http.Request, repo string, write bool) error {
	if d.enter == nil {
		return nil
	}
	return d.enter(r, repo, write)
}

func (d door) Pushed(_ context.Context, repo, ref, digest string) error {
	if d.pushed == nil {
		return nil
	}
	return d.pushed(repo, ref, digest)
}
