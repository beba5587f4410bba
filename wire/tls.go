package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/tiphys/tiphys/access/authority"
	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/keeper"
)

// openTLS reads the certificate of the port, if there is to be one. The keeper reads it by itself.
func (s *Server) openTLS() (err error) {
	if s.o.TLS.IsZero() {
		return nil
	}
	if s.o.TLS.Cert == "" || s.o.TLS.Key == "" {
		return fmt.Errorf("a certificate and its key belong together: give --tls-cert and --tls-key")
	}
	s.certificate, err = certificate.Open(s.o.TLS, s.o.Now)
	return err
}

// Names of the authority of applications' hosts: its key, which only this user reads, and its certificate, for who is to believe it.
const (
	hostsKey         = "apps-ca.key"
	hostsCertificate = "apps-ca.pem"
)

// openHosts opens the authority that proves the hosts of applications which no Secret proves.
func (s *Server) openHosts() (hostCertifier, error) {
	keys := filepath.Join(s.o.Data, "keys")
	a, err := authority.OpenFor(filepath.Join(keys, hostsKey), "applications", s.o.Now)
	if err != nil {
		return hostCertifier{}, err
	}
	if err := datafolder.WriteFile(filepath.Join(keys, hostsCertificate), a.PEM(), 0o644); err != nil { // a certificate is public
		return hostCertifier{}, fmt.Errorf("show the authority of applications: %w", err)
	}
	return hostCertifier{a}, nil
}

// hostCertifier makes certificates for the target.
type hostCertifier struct{ authority *authority.Authority }

// Certify implements targetlocal.Certifier.
func (h hostCertifier) Certify(host string) (cert, key string, renew time.Time, err error) {
	made, err := h.authority.Issue(host)
	return made.Cert, made.Key, made.Renew, err
}

// checkReach refuses a port that other machines reach and where tokens could be read on the way.
func (s *Server) checkReach() error {
	addr := s.carrier.listener.Addr()
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsLoopback() || s.certificate != nil || s.o.BehindProxy {
		return nil
	}
	return fmt.Errorf("%s can be reached from other machines without TLS: give a certificate (--tls-cert, --tls-key), or say --behind-proxy if a proxy in front has one and nobody else reaches this address, or listen on 127.0.0.1", addr)
}

type secureKey struct{}

// encrypted has handlers see TLS where the keeper has ended it, and refuses what comes without from elsewhere.
func (s *Server) encrypted(server *http.Server) *http.Server {
	if s.certificate == nil {
		return server
	}
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, secureKey{}, keeper.Secure(c))
	}
	next := keeper.OnlyTLS(server.Handler)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if secure, _ := r.Context().Value(secureKey{}).(bool); secure && r.TLS == nil {
			r.TLS = &tls.ConnectionState{HandshakeComplete: true}
		}
		next.ServeHTTP(w, r)
	})
	return server
}

// tlsService tells how the certificate is; it is read at each handshake.
type tlsService struct{ pair *certificate.Pair }

// Name implements control.Service.
func (tlsService) Name() string { return "tls" }

// Start implements control.Service.
func (tlsService) Start(context.Context) error { return nil }

// Run implements control.Service.
func (tlsService) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Health implements control.Service: it waits for files that can be used.
func (t tlsService) Health() control.Health {
	if err := t.pair.Problem(); err != nil {
		return control.Health{State: control.Waiting, Reason: err.Error()}
	}
	return control.Health{}
}
