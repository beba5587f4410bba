package wire

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/certificate/certificatetest"
	"github.com/tiphys/tiphys/executor/local"
)

// A port that other machines reach is refused without TLS, and the refusal says both ways out.
func TestListenerBeyondLoopbackNeedsTLS(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not tested: a server opens the local executor, which needs root")
	}
	files := certificatetest.New(t).Issue(t, t.TempDir(), "ci.example", time.Hour)
	half := files
	half.Key = ""
	for name, c := range map[string]struct {
		change func(*Options)
		want   []string
	}{
		"nothing":        {func(*Options) {}, []string{"--tls-cert", "--behind-proxy", "127.0.0.1"}},
		"half a pair":    {func(o *Options) { o.TLS = half }, []string{"--tls-cert and --tls-key"}},
		"a certificate":  {func(o *Options) { o.TLS = files }, nil},
		"behind a proxy": {func(o *Options) { o.BehindProxy = true }, nil},
	} {
		o := Options{Data: t.TempDir(), Listen: "0.0.0.0:0", Network: local.Network{Disabled: true}, Log: slog.New(slog.DiscardHandler)}
		c.change(&o)
		s, err := Open(t.Context(), o)
		if err == nil {
			err = s.Close()
		}
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, text := range c.want {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", name, err, text)
			}
		}
	}
}

// Without a keeper the server ends TLS itself, and loopback needs none; a pair that breaks is told of, and the one before goes on.
func TestTLSWithoutKeeper(t *testing.T) {
	authority, dir := certificatetest.New(t), t.TempDir()
	files := authority.Issue(t, dir, "tiphys.localhost", time.Hour)
	s := opened(t, Options{TLS: files})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	address := s.carrier.listener.Addr().String()
	ask := func(scheme string, two bool) (int, string) {
		t.Helper()
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!two)
		protocols.SetHTTP2(two)
		client := &http.Client{Transport: &http.Transport{
			Protocols: protocols, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: authority.Roots},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
		}, Timeout: time.Minute}
		resp, err := client.Get(scheme + "://tiphys.localhost/readyz")
		if err != nil {
			t.Fatal(scheme, two, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.ProtoMajor, string(body)
	}
	trouble := func() string {
		for _, one := range s.services.Status() {
			if one.Name == "tls" {
				return one.Health.Reason
			}
		}
		return "there is no such service"
	}
	if major, body := ask("https", false); major != 1 || !strings.HasPrefix(body, "ready") || trouble() != "" {
		t.Errorf("HTTP/%d %s: %s", major, body, trouble())
	}
	if major, _ := ask("https", true); major != 2 {
		t.Errorf("HTTP/%d over TLS, want 2", major)
	}
	if err := os.WriteFile(files.Cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, body := ask("https", false); !strings.HasPrefix(body, "ready") || !strings.Contains(trouble(), files.Cert) {
		t.Errorf("with a certificate that is broken: %s: %s", body, trouble())
	}
	if major, _ := ask("http", false); major != 1 {
		t.Errorf("plain HTTP over loopback: HTTP/%d", major)
	}
}
