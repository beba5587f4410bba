package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/tiphys/tiphys/access/authority"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/keeper/clients"
)

// authorityFile is where a step finds who vouches for the steps' port: in the folder of the pod's socket.
const authorityFile = "ca.pem"

// stepPort is where steps of other machines reach the server. Its zero value is none.
type stepPort struct {
	listener  net.Listener
	authority *authority.Authority
	// url is the address by the first of the names that the server proves to have.
	url string
}

// openStepPort listens for steps of other machines, if it is asked for. Whoever connects still needs a step's token.
func (s *Server) openStepPort(ctx context.Context) (err error) {
	if s.o.StepsListen == "" {
		return nil
	}
	p := stepPort{}
	if p.authority, err = authority.Open(filepath.Join(s.o.Data, "keys", "steps-ca.key"), s.o.Now); err != nil {
		return err
	}
	var lc net.ListenConfig
	if p.listener, err = lc.Listen(ctx, "tcp", s.o.StepsListen); err != nil {
		return fmt.Errorf("listen on %s for steps of other machines: %w (choose another address with --steps-listen)", s.o.StepsListen, err)
	}
	s.closers = append(s.closers, func() error {
		if err := p.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	_, port, err := net.SplitHostPort(p.listener.Addr().String())
	if err != nil {
		return err
	}
	names := stepNames(s.o.StepsListen, s.o.Name)
	p.listener, p.url = tls.NewListener(clients.NewCrowd(s.o.PerClient).Listener(p.listener), p.authority.Server(names)), "https://"+net.JoinHostPort(names[0], port)
	s.stepPort = p
	return nil
}

// stepNames are the names under which the steps' port is reached: the server's own, what it listens on, and those of this machine.
func stepNames(listen, name string) []string {
	var names []string
	if name != "" {
		names = append(names, name)
	}
	host, _, _ := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return append(names, host)
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return append(names, "localhost") // what cannot be asked for is not proved
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			names = append(names, n.IP.String())
		}
	}
	return append(names, "localhost")
}

// stepEnvironment is what each step is told of the server.
func (s *Server) stepEnvironment() map[string]string {
	env := map[string]string{"TIPHYS_URL": s.URL()}
	if s.stepPort.url != "" {
		env["TIPHYS_STEPS_URL"] = s.stepPort.url
	}
	return env
}

// showAuthority puts the authority's certificate where each step finds it, or removes an earlier one.
func (s *Server) showAuthority() error {
	path := filepath.Join(s.machine.Socket, authorityFile)
	if s.stepPort.authority == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the steps' authority: %w", err)
		}
		return nil
	}
	if err := datafolder.WriteFile(path, s.stepPort.authority.PEM(), 0o644); err != nil { // a certificate is public
		return fmt.Errorf("show the steps' authority: %w", err)
	}
	return nil
}
