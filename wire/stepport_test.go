package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/executor/local"
)

// At the steps' port a server proves to be who its authority says, answers steps alone, and tells its own steps where it is.
func TestStepsOfOtherMachines(t *testing.T) {
	data := t.TempDir()
	s := opened(t, Options{Data: data, StepsListen: "127.0.0.1:0", Network: local.Network{Disabled: true}})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	pem, err := os.ReadFile(filepath.Join(s.machine.Socket, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: time.Minute}
	token, err := s.tokens.Issue(steptoken.Claims{UID: "u", Run: "default/nobody", Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	url := s.stepEnvironment()["TIPHYS_STEPS_URL"]
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/api/v1/step", "", 401},
		{"/api/v1/step", token.Reveal(), 401}, // of an attempt that does not run
		{"/v2/", "", 401},
		{"/api/v1/runs", "", 404},
		{"/", "", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("GET %s: %d, want %d", c.path, resp.StatusCode, c.want)
		}
	}
	client.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// Without the port nothing of it is left for steps to find.
	s = opened(t, Options{Data: data, Network: local.Network{Disabled: true}})
	if _, err := os.Stat(filepath.Join(s.machine.Socket, "ca.pem")); !os.IsNotExist(err) {
		t.Errorf("there is an authority of no port: %v", err)
	}
	if _, told := s.stepEnvironment()["TIPHYS_STEPS_URL"]; told {
		t.Error("steps are told of a port that is not there")
	}
}

// The port's certificate has the names under which it is reached.
func TestStepNames(t *testing.T) {
	for _, c := range []struct {
		listen, name string
		want         []string
	}{
		{"192.0.2.7:2747", "", []string{"192.0.2.7"}},
		{"ci.internal:2747", "ci.example.org", []string{"ci.example.org", "ci.internal"}},
	} {
		if diff := cmp.Diff(c.want, stepNames(c.listen, c.name)); diff != "" {
			t.Errorf("%s, %s (-want +got):\n%s", c.listen, c.name, diff)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{":2747", "0.0.0.0:2747", "[::]:2747"} {
		got := stepNames(listen, "")
		has := map[string]bool{}
		for _, name := range got {
			has[name] = true
		}
		if got[0] != host || !has["127.0.0.1"] || !has["localhost"] {
			t.Errorf("%s: %v", listen, got)
		}
	}
}
