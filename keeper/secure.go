package keeper

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/keeper/front"
)

// handshake is the first byte of a connection with TLS; no request of HTTP begins with it.
const handshake = 0x16

// secured is how a port with a certificate is proved; nil for one without.
type secured struct {
	files certificate.Files
	pair  *certificate.Pair
}

// secure has the port be proved by files from now on, or not any more. Files that cannot be used change nothing.
func (k *keeper) secure(files certificate.Files) {
	var now *secured
	if !files.IsZero() {
		pair, err := certificate.Open(files, nil)
		if err != nil {
			k.log.Error("the certificate cannot be used", "error", err)
			return
		}
		now = &secured{files, pair}
	}
	k.tls.Store(now)
}

// named is a certificate in a message.
func named(files certificate.Files) *certificate.Files {
	if files.IsZero() {
		return nil
	}
	return &files
}

// certify takes the certificate that a caller names, if it is another one.
func (k *keeper) certify(named *certificate.Files) {
	var files certificate.Files
	if named != nil {
		files = *named
	}
	var have certificate.Files
	if s := k.tls.Load(); s != nil {
		have = s.files
	}
	if files != have {
		k.secure(files)
	}
}

// elsewhere reports whether a connection is of another machine and has no TLS where it should.
func (k *keeper) elsewhere(from net.Addr) bool {
	return k.tls.Load() != nil && !fromHere(from)
}

// fromHere reports whether a connection is of this machine, over loopback: what is said there nobody else hears.
func fromHere(from net.Addr) bool {
	tcp, ok := from.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// OnlyTLS answers requests that came without TLS from other machines: with the address that has TLS, or with a refusal of what may not be sent
// twice. Everything else goes on to next.
func OnlyTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := net.ResolveTCPAddr("tcp", r.RemoteAddr)
		switch {
		case r.TLS != nil || err == nil && fromHere(from):
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			w.Header().Set("Connection", "close")
			http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusPermanentRedirect)
		default:
			w.Header().Set("Connection", "close")
			front.Page(w, http.StatusForbidden, "This server speaks HTTPS", "What is sent without it can be read on the way: use https:// and change what was sent, if it was a secret.")
		}
	})
}

// Proving is how a port proves itself: our own names by the port's certificate, if it has one, and applications by those of their hosts and, if
// they have none, by the port's as well.
func Proving(own func() Own, f *front.Front, port func() *certificate.Pair) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != "" && !own().Has(hello.ServerName) {
				if c := f.Certificate(hello); c != nil {
					return c, nil
				}
			}
			if pair := port(); pair != nil {
				return pair.Config().GetCertificate(hello)
			}
			return nil, nil //nolint:nilnil // then the handshake ends with unrecognized_name: no Ingress with tls has the name, and the port has no certificate
		},
	}
}

// proving is how this keeper's port does. Until it is known what goes where a handshake waits, as a request does.
func (k *keeper) proving() *tls.Config {
	config := Proving(func() Own {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.own
	}, k.front, func() *certificate.Pair {
		if s := k.tls.Load(); s != nil {
			return s.pair
		}
		return nil
	})
	choose := config.GetCertificate
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if k.tls.Load() == nil {
			k.awaitRoutes(hello.Context())
		}
		return choose(hello)
	}
	return config
}

// Secure reports whether a connection came over TLS to the keeper, which gave it on without.
func Secure(conn net.Conn) bool {
	b, ok := conn.(*begun)
	return ok && b.secure
}

type secureKey struct{}

// Sniff gives the connections of a port: those that begin with a handshake of TLS as such, and others as they are. It is for a port without
// a keeper.
func Sniff(l net.Listener, config *tls.Config) net.Listener {
	s := &sniffed{Listener: l, inside: newInside()}
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				_ = s.inside.Close()
				return
			}
			if err != nil { // no descriptors, most likely
				select {
				case <-s.inside.done:
					return
				case <-time.After(50 * time.Millisecond):
				}
				continue
			}
			go s.sniff(conn, config)
		}
	}()
	return s
}

type sniffed struct {
	net.Listener
	inside *inside
}

// sniff looks at the first byte of a connection.
func (s *sniffed) sniff(conn net.Conn, config *tls.Config) {
	_ = conn.SetReadDeadline(time.Now().Add(headerTimeout))
	first := make([]byte, 1)
	if _, err := conn.Read(first); err != nil {
		_ = conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	b := &begun{Conn: conn, read: first, closed: func() {}}
	if first[0] == handshake {
		s.inside.put(tls.Server(b, config))
		return
	}
	s.inside.put(b)
}

// Accept implements net.Listener.
func (s *sniffed) Accept() (net.Conn, error) { return s.inside.Accept() }

// Close implements net.Listener.
func (s *sniffed) Close() error { return errors.Join(s.inside.Close(), s.Listener.Close()) }

// withSecure notes in a request's context whether it came over TLS.
func withSecure(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), secureKey{}, r.TLS != nil))
}

func isSecure(ctx context.Context) bool {
	secure, _ := ctx.Value(secureKey{}).(bool)
	return secure
}
