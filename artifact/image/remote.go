package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/secret"
)

// answerTime is how long the beginning of a registry's answer is waited for.
const answerTime = 30 * time.Second

// pulled remembers what a reference was when it was last pulled.
type pulled struct {
	Ref string `json:"ref"`
	// Digest is what the reference named, Manifest the manifest for this machine.
	Digest   string    `json:"digest"`
	Manifest string    `json:"manifest"`
	Time     time.Time `json:"time"`
}

func pulledFile(ref string) string {
	s := sha256.Sum256([]byte(ref))
	return path.Join("pulled", hex.EncodeToString(s[:])+".json")
}

func (s *Store) eachPulled(fn func(pulled) error) error {
	entries, err := fs.ReadDir(s.root.FS(), "pulled")
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := s.root.ReadFile(path.Join("pulled", e.Name()))
		if err != nil {
			return err
		}
		var p pulled
		if err := json.Unmarshal(b, &p); err != nil {
			return fmt.Errorf("read %s: %w", e.Name(), err)
		}
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

// remote finds an image of another registry.
func (l *Library) remote(ctx context.Context, ref string, policy corev1.PullPolicy, pullSecrets []secret.Value) (Image, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return Image{}, fmt.Errorf("the name cannot be read: %w", err)
	}
	keys, err := newKeychain(pullSecrets)
	if err != nil {
		return Image{}, err
	}
	_, isDigest := parsed.(name.Digest)
	mayUseOld := policy != corev1.PullAlways
	if isDigest || policy == corev1.PullNever || policy == corev1.PullIfNotPresent || (policy == "" && parsed.Identifier() != "latest") {
		img, err := l.remembered(parsed, keys)
		if err == nil || policy == corev1.PullNever {
			return img, err
		}
	}
	img, err := l.ask(ctx, parsed, keys)
	if err != nil && mayUseOld && ctx.Err() == nil && unreachable(err) {
		if old, oldErr := l.remembered(parsed, keys); oldErr == nil {
			return old, nil
		}
	}
	return img, err
}

// remembered returns an image that was pulled before. Its layers are asked for again only if they are gone.
func (l *Library) remembered(ref name.Reference, keys keychain) (Image, error) {
	b, err := l.o.Store.root.ReadFile(pulledFile(ref.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("it was never pulled to this machine: %w", artifact.ErrNotFound)
	}
	var p pulled
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return Image{}, fmt.Errorf("read what was pulled: %w", err)
	}
	read := func(digest string) ([]byte, error) { return l.o.Store.blobs.ReadAll(digest, maxManifest) }
	body, err := read(p.Manifest)
	if err != nil {
		return Image{}, err
	}
	return l.describe(p.Digest, body, read, func(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
		pinned := ref.Context().Digest(p.Digest)
		img, err := l.ask(ctx, pinned, keys)
		if err != nil {
			return nil, err
		}
		for _, one := range img.layers {
			if one.digest == d.Digest.String() {
				return one.open(ctx)
			}
		}
		return nil, fmt.Errorf("layer %s: %w", d.Digest, artifact.ErrNotFound)
	})
}

// ask asks the mirrors and then the registry itself.
func (l *Library) ask(ctx context.Context, ref name.Reference, keys keychain) (Image, error) {
	places, err := l.places(ref)
	if err != nil {
		return Image{}, err
	}
	var problems []error
	short, cancel := context.WithTimeout(egress.For(ctx, "image"), l.o.ResolveTimeout)
	defer cancel()
	for _, p := range places {
		img, err := l.askOne(short, p, ref, keys)
		if err == nil {
			return img, nil
		}
		problems = append(problems, err)
		if short.Err() != nil {
			break
		}
	}
	return Image{}, errors.Join(problems...)
}

// places returns where an image may be: the same repository of each mirror, and its own registry.
func (l *Library) places(ref name.Reference) ([]name.Reference, error) {
	host := ref.Context().RegistryStr()
	mirrors := l.o.Mirrors[host]
	if host == name.DefaultRegistry {
		mirrors = append(slices.Clone(mirrors), l.o.Mirrors["docker.io"]...)
	}
	var places []name.Reference
	for _, m := range mirrors {
		var opts []name.Option
		plain, isPlain := strings.CutPrefix(m, "http://")
		if isPlain {
			opts = append(opts, name.Insecure)
		}
		base := strings.TrimSuffix(strings.TrimPrefix(plain, "https://"), "/")
		repo, err := name.NewRepository(base+"/"+ref.Context().RepositoryStr(), opts...)
		if err != nil {
			return nil, fmt.Errorf("the mirror %q of %s: %w", m, host, err)
		}
		places = append(places, sameVersion(repo, ref))
	}
	return append(places, ref), nil
}

func sameVersion(repo name.Repository, ref name.Reference) name.Reference {
	if d, ok := ref.(name.Digest); ok {
		return repo.Digest(d.DigestStr())
	}
	return repo.Tag(ref.Identifier())
}

func (l *Library) askOne(ctx context.Context, place, ref name.Reference, keys keychain) (Image, error) {
	host := place.Context().RegistryStr()
	opts := func(ctx context.Context) []remote.Option {
		return []remote.Option{
			remote.WithContext(ctx), remote.WithPlatform(platform()), remote.WithAuthFromKeychain(keys),
			remote.WithTransport(plainGuard{l.transport, mirrorHosts(l.o.Mirrors, true)}), remote.WithUserAgent("tiphys"),
			remote.WithRetryBackoff(remote.Backoff{Duration: 300 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 3}),
		}
	}
	d, err := remote.Get(place, opts(ctx)...)
	if err != nil {
		return Image{}, explain(ctx, host, l.o.ResolveTimeout, err)
	}
	img, err := d.Image()
	if err != nil {
		return Image{}, explain(ctx, host, l.o.ResolveTimeout, err)
	}
	body, err := img.RawManifest()
	if err != nil {
		return Image{}, explain(ctx, host, l.o.ResolveTimeout, err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return Image{}, explain(ctx, host, l.o.ResolveTimeout, err)
	}
	if err := l.remember(ctx, ref, d.Digest.String(), body, config); err != nil {
		return Image{}, err
	}
	return l.describe(d.Digest.String(), body, func(string) ([]byte, error) { return config, nil },
		func(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
			ctx, stop := context.WithCancelCause(egress.For(ctx, "image"))
			one, err := remote.Layer(place.Context().Digest(d.Digest.String()), opts(ctx)...)
			if err == nil {
				var rc io.ReadCloser
				if rc, err = one.Compressed(); err == nil {
					return newStallReader(ctx, rc, l.o.StallTimeout, stop, host), nil
				}
			}
			stop(nil)
			return nil, explain(ctx, host, l.o.ResolveTimeout, err)
		})
}

// remember keeps manifest and configuration, and what the reference is now.
func (l *Library) remember(ctx context.Context, ref name.Reference, digest string, body, config []byte) error {
	m, err := l.o.Store.blobs.Put(ctx, strings.NewReader(string(body)))
	if err == nil {
		_, err = l.o.Store.blobs.Put(ctx, strings.NewReader(string(config)))
	}
	if err != nil {
		return fmt.Errorf("remember what was pulled: %w", err)
	}
	b, err := json.Marshal(pulled{Ref: ref.Name(), Digest: digest, Manifest: m.Digest, Time: l.o.Now().UTC()})
	if err != nil {
		return fmt.Errorf("remember what was pulled: %w", err)
	}
	return l.o.Store.writeFile(pulledFile(ref.Name()), b)
}

// unreachable reports whether an error is about the way to a registry rather than its answer.
func unreachable(err error) bool {
	if _, refused := egress.Refused(err); refused {
		return false
	}
	var answer *transport.Error
	return !errors.As(err, &answer) || answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests
}

// explain says what a registry's failure means and what to do.
func explain(ctx context.Context, host string, limit time.Duration, err error) error {
	var answer *transport.Error
	refusal, refused := egress.Refused(err)
	switch {
	case refused:
		return refusal
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s has no such image; check its name and tag: %w: %w", host, artifact.ErrNotFound, err)
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return fmt.Errorf("%s refuses it; the image does not exist or needs a pull secret (imagePullSecrets): %w", host, err)
	case errors.As(err, &answer):
		return fmt.Errorf("%s: %w", host, err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the registry %s did not answer within %s; check the network, or configure a mirror: %w", host, limit, err)
	}
	return fmt.Errorf("the registry %s cannot be reached; check the network, or configure a mirror: %w", host, err)
}

// mirrorHosts are the hosts of mirrors, which the operator named: all, or those that plain HTTP may be spoken with, as with this machine.
func mirrorHosts(mirrors map[string][]string, plainOnly bool) []string {
	var hosts []string
	for _, list := range mirrors {
		for _, m := range list {
			rest, plain := strings.CutPrefix(m, "http://")
			if plainOnly && !plain {
				continue
			}
			host, _, _ := strings.Cut(strings.TrimPrefix(rest, "https://"), "/")
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// plainGuard refuses plain HTTP, which the client library falls back to for every private address.
type plainGuard struct {
	next  http.RoundTripper
	hosts []string
}

func (g plainGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !loopback(r.URL.Hostname()) && !slices.Contains(g.hosts, r.URL.Host) {
		return nil, fmt.Errorf("%s offers no HTTPS; to use it all the same, configure it as its own mirror with http://", r.URL.Host)
	}
	return g.next.RoundTrip(r)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || (ip != nil && ip.IsLoopback())
}

// stallReader ends a download that goes on without bytes for too long.
type stallReader struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one download
	rc    io.ReadCloser
	timer *time.Timer
	limit time.Duration
	stop  context.CancelCauseFunc
}

func newStallReader(ctx context.Context, rc io.ReadCloser, limit time.Duration, stop context.CancelCauseFunc, host string) *stallReader {
	timer := time.AfterFunc(limit, func() { stop(fmt.Errorf("%s sent nothing for %s", host, limit)) })
	return &stallReader{ctx, rc, timer, limit, stop}
}

func (s *stallReader) Read(p []byte) (int, error) {
	n, err := s.rc.Read(p)
	s.timer.Reset(s.limit)
	if cause := context.Cause(s.ctx); cause != nil && err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w; try again, or configure a mirror", cause)
	}
	return n, err
}

func (s *stallReader) Close() error {
	s.timer.Stop()
	err := s.rc.Close()
	s.stop(nil)
	return err
}
