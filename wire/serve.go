package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

// door is a listener with who answers there.
type door struct {
	what     string
	server   *http.Server
	listener net.Listener
}

// doors are the ways in: the port, and where steps come.
func (s *Server) doors(ctx context.Context) ([]door, error) {
	socket, err := s.stepSocket(ctx)
	if err != nil {
		return nil, err
	}
	all := []door{
		{"the port", s.portServer(), s.carrier.listener},
		{"the steps' socket", s.httpServer(s.port.StepHandler()), socket},
	}
	if s.stepPort.listener != nil {
		all = append(all, door{"the steps' port", s.httpServer(s.port.StepHandler()), s.stepPort.listener})
	}
	return all, nil
}

// Serve serves until ctx ends. Steps and applications go on after it.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.services.Start(ctx); err != nil {
		return err
	}
	defer s.services.Stop()
	doors, err := s.doors(ctx)
	if err != nil {
		return err
	}
	failed := make(chan error, len(doors))
	for _, d := range doors {
		go func() {
			if err := d.server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s: %w", d.what, err)
			}
		}()
	}
	if s.carrier.keeper != nil {
		s.carrier.keeper.Serve()
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.drain(ctx, doors)
	return err
}

// drain has no new connection come, and waits for the requests that are under way.
func (s *Server) drain(ctx context.Context, doors []door) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer done()
	if s.carrier.keeper != nil {
		s.carrier.keeper.Pause(ctx) // new connections wait for the next server
	}
	s.gate.EndStreams()
	var ending sync.WaitGroup
	for i, d := range doors {
		ending.Go(func() {
			_ = d.server.Shutdown(ctx) // what has not ended by then is broken off
			if s.carrier.keeper != nil && i == 0 {
				s.carrier.keeper.Wait(ctx)
			}
			_ = d.server.Close()
		})
	}
	ending.Wait()
}

// portServer takes HTTP/2 without TLS, too, as the keeper does: gRPC of applications comes that way.
func (s *Server) portServer() *http.Server {
	server := s.httpServer(s.port.Handler())
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Protocols.SetHTTP2(true)
	return s.encrypted(server)
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
}

// stepSocket listens where every step finds it at /run/tiphys/api.sock. Whoever connects still needs a step's token.
func (s *Server) stepSocket(ctx context.Context) (net.Listener, error) {
	path := filepath.Join(s.machine.Socket, "api.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make socket for steps: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err == nil {
		err = os.Chmod(path, 0o666) //nolint:gosec // steps of any user connect; the token is what counts
	}
	if err != nil {
		return nil, fmt.Errorf("make socket for steps: %w", err)
	}
	return l, nil
}
