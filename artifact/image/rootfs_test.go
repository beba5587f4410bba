//go:build linux

package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/artifact/blob"
	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/artifact/image/pack"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/secret"
)

func newLibrary(t *testing.T, change func(*image.LibraryOptions)) (*image.Library, *image.Store) {
	t.Helper()
	s := openStore(t, image.StoreOptions{})
	o := image.LibraryOptions{Store: s, Layers: t.TempDir(), LocalHosts: []string{"registry.localhost"}, Egress: egress.Unrestricted(), Unsynced: true}
	if change != nil {
		change(&o)
	}
	l, err := image.NewLibrary(o)
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

// other starts a registry of somebody else, counts its requests and returns its host.
func other(t *testing.T, count *atomic.Int64) (*httptest.Server, string) {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if count != nil {
			count.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s, strings.TrimPrefix(s.URL, "http://")
}

type file struct {
	name string
	kind byte
	body string
	mode int64
	xatt map[string]string
}

func layerTar(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.kind, Mode: f.mode, Uid: 7, Gid: 8, Format: tar.FormatPAX, ModTime: time.Unix(1e9, 0)}
		for k, v := range f.xatt {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		switch f.kind {
		case tar.TypeReg:
			h.Size = int64(len(f.body))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = f.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if f.kind == tar.TypeReg {
			_, _ = io.WriteString(w, f.body)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layerOf(t *testing.T, files ...file) v1.Layer {
	t.Helper()
	b := layerTar(t, files...)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func imageOf(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{
		Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin"}, User: "nobody", WorkingDir: "/srv",
		ExposedPorts: map[string]struct{}{"9/udp": {}, "80/tcp": {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func push(t *testing.T, to string, img v1.Image) string {
	t.Helper()
	if err := remote.Write(ref(t, to), img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestRootfsOverlays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: layers are not mounted: an overlay needs root")
	}
	_, host := other(t, nil)
	lower := layerOf(t,
		file{name: "bin/", kind: tar.TypeDir, mode: 0o755},
		file{name: "bin/app", kind: tar.TypeReg, body: "binary", mode: 0o4755},
		file{name: "bin/same", kind: tar.TypeLink, body: "bin/app"},
		file{name: "abs", kind: tar.TypeSymlink, body: "/bin/app", mode: 0o777},
		file{name: "gone", kind: tar.TypeReg, body: "x", mode: 0o644},
		file{name: "opaque/hidden", kind: tar.TypeReg, body: "x", mode: 0o644},
		file{name: "renewed/hidden", kind: tar.TypeReg, body: "x", mode: 0o644},
		file{name: "usr/lib/", kind: tar.TypeDir, mode: 0o1777},
		file{name: "lib", kind: tar.TypeSymlink, body: "/usr/lib", mode: 0o777},
		file{name: "lib/through", kind: tar.TypeReg, body: "the link", mode: 0o600, xatt: map[string]string{"user.note": "n", "user.overlay.redirect": "/etc", "trusted.overlay.redirect": "/etc"}},
		file{name: "dev/null", kind: tar.TypeChar, mode: 0o666},
	)
	upper := layerOf(t,
		file{name: ".wh.gone", kind: tar.TypeReg},
		file{name: "opaque/.wh..wh..opq", kind: tar.TypeReg},
		file{name: "opaque/new", kind: tar.TypeReg, body: "new", mode: 0o644},
		file{name: ".wh.renewed", kind: tar.TypeReg},
		file{name: "renewed/", kind: tar.TypeDir, mode: 0o700},
		file{name: "renewed/new", kind: tar.TypeReg, body: "new", mode: 0o644},
		file{name: "bin/.wh.same", kind: tar.TypeReg},
	)
	digest := push(t, host+"/x/app:v1", imageOf(t, lower, upper))
	l, _ := newLibrary(t, nil)
	got, err := l.Rootfs(bg, host+"/x/app:v1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := image.Config{
		Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin"}, User: "nobody", WorkingDir: "/srv",
		ExposedPorts: []string{"80/tcp", "9/udp"},
	}
	if d := cmp.Diff(want, got.Config); d != "" || got.Digest != digest || len(got.Layers) != 2 {
		t.Fatalf("%s %+v", d, got)
	}
	root := t.TempDir()
	if err := syscall.Mount("overlay", root, "overlay", 0, "lowerdir="+strings.Join(got.Layers, ":")); err != nil {
		t.Skipf("SKIPPED: layers are not mounted: no overlay here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	var names []string
	_ = filepath.WalkDir(root, func(p string, _ os.DirEntry, _ error) error {
		rel, _ := filepath.Rel(root, p)
		names = append(names, rel)
		return nil
	})
	if d := cmp.Diff([]string{".", "abs", "bin", "bin/app", "dev", "lib", "opaque", "opaque/new", "renewed", "renewed/new", "usr", "usr/lib", "usr/lib/through"}, names); d != "" {
		t.Error(d)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "bin/app"), &st); err != nil || st.Mode&0o7777 != 0o4755 || st.Uid != 7 || st.Gid != 8 || st.Mtim.Sec != 1e9 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := unix.Stat(filepath.Join(root, "usr/lib"), &st); err != nil || st.Mode&0o7777 != 0o1777 {
		t.Errorf("%o, %v", st.Mode, err)
	}
	buf := make([]byte, 200)
	n, err := unix.Llistxattr(filepath.Join(got.Layers[1], "usr/lib/through"), buf)
	if err != nil || string(buf[:n]) != "user.note\x00" {
		t.Errorf("attributes %q, %v", buf[:max(n, 0)], err)
	}
	if to, _ := os.Readlink(filepath.Join(root, "abs")); to != "/bin/app" {
		t.Errorf("abs → %s", to)
	}
}

func TestHostileLayersStayInside(t *testing.T) {
	for name, c := range map[string]struct {
		files []file
		err   error
	}{
		"upwards":          {[]file{{name: "../../evil", kind: tar.TypeReg, body: "x"}}, nil},
		"absolute":         {[]file{{name: "/evil", kind: tar.TypeReg, body: "x"}}, nil},
		"link out":         {[]file{{name: "d", kind: tar.TypeSymlink, body: "../../.."}, {name: "d/evil", kind: tar.TypeReg, body: "x"}}, nil},
		"absolute link":    {[]file{{name: "d", kind: tar.TypeSymlink, body: "/"}, {name: "d/evil", kind: tar.TypeReg, body: "x"}}, nil},
		"hard link out":    {[]file{{name: "h", kind: tar.TypeLink, body: "../../../../../../etc/passwd"}}, errors.New("hard link")},
		"whiteout upwards": {[]file{{name: "a/.wh...", kind: tar.TypeReg}}, archive.ErrUnsafe},
		"device":           {[]file{{name: "sda", kind: tar.TypeBlock}}, archive.ErrUnsafe},
		"through proc":     {[]file{{name: "p", kind: tar.TypeSymlink, body: "/proc/self/root"}, {name: "p/evil", kind: tar.TypeReg}}, errors.New("make folder")},
	} {
		t.Run(name, func(t *testing.T) {
			_, host := other(t, nil)
			push(t, host+"/x", imageOf(t, layerOf(t, c.files...)))
			outer := t.TempDir()
			l, _ := newLibrary(t, func(o *image.LibraryOptions) { o.Layers = filepath.Join(outer, "in", "layers") })
			got, err := l.Rootfs(bg, host+"/x", "", nil)
			switch {
			case c.err == nil && err != nil, c.err != nil && err == nil:
				t.Errorf("%v", err)
			case c.err != nil && !errors.Is(err, c.err) && !strings.Contains(err.Error(), c.err.Error()):
				t.Errorf("%v", err)
			case err == nil:
				if b, err := os.ReadFile(filepath.Join(got.Layers[0], "evil")); err != nil || string(b) != "x" {
					t.Errorf("it is not where the container would see it: %v", err)
				}
			}
			for _, d := range []string{outer, filepath.Join(outer, "in"), filepath.Join(outer, "in", "layers")} {
				if entries, _ := os.ReadDir(d); len(entries) != 1 {
					t.Errorf("%s has %v", d, entries)
				}
			}
			if err != nil {
				left, _ := filepath.Glob(filepath.Join(outer, "in/layers/sha256/*"))
				for _, p := range left {
					if !strings.HasSuffix(p, ".lock") {
						t.Errorf("left %s", p)
					}
				}
			}
		})
	}
}

func TestZstdLayer(t *testing.T) {
	plain := layerTar(t, file{name: "f", kind: tar.TypeReg, body: "zstd", mode: 0o644})
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	layer := static.NewLayer(w.EncodeAll(plain, nil), types.OCILayerZStd)
	s := openStore(t, image.StoreOptions{})
	d, _ := layer.Digest()
	rc, _ := layer.Compressed()
	if err := s.PutBlob(bg, "z", d.String(), rc); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q]}}`, sum(string(plain)))
	if err := s.PutBlob(bg, "z", sum(config), strings.NewReader(config)); err != nil {
		t.Fatal(err)
	}
	put := func(config string) {
		t.Helper()
		m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":1}]}`,
			types.OCIManifestSchema1, types.OCIConfigJSON, sum(config), len(config), types.OCILayerZStd, d)
		if _, err := s.PutManifest(bg, "z", "v1", string(types.OCIManifestSchema1), []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	put(config)
	l, err := image.NewLibrary(image.LibraryOptions{Store: s, Layers: t.TempDir(), Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Rootfs(bg, "z:v1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(got.Layers[0], "f")); err != nil || string(b) != "zstd" {
		t.Errorf("%q, %v", b, err)
	}
	lie := strings.Replace(config, sum(string(plain)), sum("something else"), 1)
	if err := s.PutBlob(bg, "z", sum(lie), strings.NewReader(lie)); err != nil {
		t.Fatal(err)
	}
	put(lie)
	if _, err := l.Rootfs(bg, "z:v1", "", nil); !errors.Is(err, blob.ErrMismatch) {
		t.Errorf("a layer that is not what the configuration says: %v", err)
	}
}

func TestBuiltInImagesNeedNoNetwork(t *testing.T) {
	l, s := newLibrary(t, func(o *image.LibraryOptions) {
		o.Egress = egress.New(egress.Options{Resolver: failing{}})
		o.AuthorizeLocal = func(_ context.Context, repo, _ string) error {
			if repo == "harbour/private" {
				return errors.New("not yours")
			}
			return nil
		}
	})
	digest, err := s.Pack(bg, "harbour/api", "v1", pack.Options{Path: binary(t), Cmd: []string{"-x"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pack(bg, "harbour/private", "v1", pack.Options{Path: binary(t)}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"harbour/api:v1", "harbour/api@" + digest, "harbour/api:v1@" + digest, "registry.localhost/harbour/api:v1"} {
		got, err := l.Rootfs(bg, r, corev1.PullAlways, nil)
		if err != nil {
			t.Errorf("%s: %v", r, err)
			continue
		}
		if got.Digest != digest || len(got.Layers) != 1 || got.Config.Entrypoint[0] != "/app" {
			t.Errorf("%s: %+v", r, got)
		}
		if info, err := os.Stat(filepath.Join(got.Layers[0], "app")); err != nil || info.Mode() != 0o755 || !info.ModTime().Equal(archive.Epoch) {
			t.Errorf("%v, %v", info, err)
		}
	}
	if _, err := l.Rootfs(bg, "registry.localhost/harbour/web:v1", "", nil); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := l.Rootfs(bg, "harbour/private:v1", "", nil); err == nil || !strings.Contains(err.Error(), "not yours") {
		t.Errorf("%v", err)
	}
	if _, err := l.Rootfs(bg, "harbour/web:v1", "", nil); err == nil || !strings.Contains(err.Error(), "no network here") {
		t.Errorf("%v", err)
	}
}

type failing struct{}

func (failing) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("no network here")
}

func TestPoliciesAndMirrors(t *testing.T) {
	var asked atomic.Int64
	mirror, host := other(t, &asked)
	one := imageOf(t, layerOf(t, file{name: "one", kind: tar.TypeReg}))
	digest := push(t, host+"/hub/library/tool:v1", one)
	latest := push(t, host+"/hub/library/tool:latest", one)
	l, _ := newLibrary(t, func(o *image.LibraryOptions) {
		o.Mirrors = map[string][]string{"docker.io": {"http://127.0.0.1:1/down", "http://" + host + "/hub"}}
		o.ResolveTimeout = 20 * time.Second
	})
	rootfs := func(ref string, p corev1.PullPolicy) (string, error) {
		r, err := l.Rootfs(bg, ref, p, nil)
		return r.Digest, err
	}
	if _, err := rootfs("tool:v1", corev1.PullNever); !errors.Is(err, artifact.ErrNotFound) || !strings.Contains(err.Error(), "never pulled") {
		t.Errorf("%v", err)
	}
	if got, err := rootfs("tool:v1", ""); err != nil || got != digest {
		t.Fatalf("%s, %v", got, err)
	}
	if got, err := rootfs("tool", ""); err != nil || got != latest {
		t.Fatalf("%s, %v", got, err)
	}
	before := asked.Load()
	for _, p := range []corev1.PullPolicy{"", corev1.PullIfNotPresent, corev1.PullNever} {
		if got, err := rootfs("tool:v1", p); err != nil || got != digest {
			t.Errorf("%q: %s, %v", p, got, err)
		}
	}
	if asked.Load() != before {
		t.Error("an image that is here was asked for")
	}
	if _, err := rootfs("tool:v1", corev1.PullAlways); err != nil || asked.Load() == before {
		t.Errorf("Always did not ask: %v", err)
	}
	mirror.Close()
	if got, err := rootfs("tool", ""); err != nil || got != latest {
		t.Errorf("offline, the image that is here should do: %s, %v", got, err)
	}
}

func TestUnreachableRegistry(t *testing.T) {
	hang, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hang.Close() }()
	l, _ := newLibrary(t, func(o *image.LibraryOptions) { o.ResolveTimeout = 300 * time.Millisecond })
	_, err = l.Rootfs(bg, hang.Addr().String()+"/x:v1", "", nil)
	if err == nil || !strings.Contains(err.Error(), "did not answer within 300ms; check the network, or configure a mirror") {
		t.Errorf("%v", err)
	}
	l, _ = newLibrary(t, nil)
	if _, err = l.Rootfs(bg, "127.0.0.1:1/x:v1", "", nil); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("%v", err)
	}
}

func TestPlainHTTPIsRefusedForOthers(t *testing.T) {
	plain := 0
	l, _ := newLibrary(t, func(o *image.LibraryOptions) {
		o.Egress = egress.New(egress.Options{Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme == "http" {
				plain++
			}
			return nil, errors.New("no TLS there")
		}})
	})
	if _, err := l.Rootfs(bg, "192.168.7.7:5000/x:v1", "", nil); err == nil || plain != 0 {
		t.Errorf("%d requests in the clear, %v", plain, err)
	}
}

func TestPullSecret(t *testing.T) {
	s := openStore(t, image.StoreOptions{})
	if _, err := s.Pack(bg, "p/x", "v1", pack.Options{Path: binary(t)}); err != nil {
		t.Fatal(err)
	}
	_, host := serve(t, image.RegistryOptions{Store: s, Door: door{enter: func(r *http.Request, _ string, _ bool) error {
		if u, p, ok := r.BasicAuth(); !ok || u != "me" || p != "pass:word" {
			return image.ErrUnauthenticated
		}
		return nil
	}}})
	l, _ := newLibrary(t, nil)
	login := func(host string) []secret.Value {
		b, _ := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"auth": "bWU6cGFzczp3b3Jk"}}})
		return []secret.Value{secret.New(string(b))}
	}
	if _, err := l.Rootfs(bg, host+"/p/x:v1", "", nil); err == nil || !strings.Contains(err.Error(), "needs a pull secret") {
		t.Errorf("%v", err)
	}
	if _, err := l.Rootfs(bg, host+"/p/x:v1", "", login("elsewhere.example")); err == nil {
		t.Error("another host's login was used")
	}
	for _, key := range []string{host, "http://" + host + "/v1/", host + "/p"} {
		if _, err := l.Rootfs(bg, host+"/p/x:v1", corev1.PullAlways, login(key)); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := l.Rootfs(bg, host+"/p/x:v1", corev1.PullAlways, []secret.Value{secret.New("hush")}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
}

func TestConcurrentUnpackingIsDoneOnce(t *testing.T) {
	var asked atomic.Int64
	_, host := other(t, &asked)
	push(t, host+"/x:v1", imageOf(t, layerOf(t, file{name: "f", kind: tar.TypeReg, body: strings.Repeat("x", 1<<20)})))
	dir := t.TempDir()
	one, _ := newLibrary(t, func(o *image.LibraryOptions) { o.Layers = dir })
	two, _ := newLibrary(t, func(o *image.LibraryOptions) { o.Layers = dir })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l := one
			if i%2 == 1 {
				l = two
			}
			r, err := l.Rootfs(bg, host+"/x:v1", "", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if info, err := os.Stat(filepath.Join(r.Layers[0], "f")); err != nil || info.Size() != 1<<20 {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	kept := ""
	later := time.Now().Add(time.Hour)
	if _, err := one.SweepLayers(bg, later, func(dir string) bool { kept = dir; return true }); err != nil || kept == "" {
		t.Errorf("%q, %v", kept, err)
	}
	swept, err := one.SweepLayers(bg, later, func(string) bool { return false })
	if err != nil || swept.Count != 1 || swept.Bytes != 1<<20 {
		t.Errorf("%+v, %v", swept, err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("the layer was not swept")
	}
	if _, err := two.Rootfs(bg, host+"/x:v1", "", nil); err != nil {
		t.Errorf("after a sweep the layer is fetched again: %v", err)
	}
}
