package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/control"
	targetlocal "github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/keeper"
	"github.com/tiphys/tiphys/keeper/clients"
	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/server"
)

// carrier brings requests to applications, and connections of our own pages to us: a keeper does, or this process itself.
type carrier struct {
	// listener has the connections of our own pages, and, without a keeper, every other one.
	listener net.Listener
	// front is told what goes where; applications answers the requests for applications that come to us.
	front        targetlocal.Front
	applications http.Handler
	// keeper is nil where this process carries the requests itself.
	keeper *keeper.Client
}

// openCarrier has the port: by the keeper of this data folder, or in this process where there is to be none or none can be had.
func (s *Server) openCarrier(ctx context.Context) error {
	if err := s.openTLS(); err != nil {
		return err
	}
	if s.o.Keeper {
		k, err := keeper.Attach(ctx, keeper.Options{Data: s.o.Data, Listen: s.o.Listen, Own: own(s.names()), PerClient: s.o.PerClient, TLS: s.o.TLS, Version: s.o.Version, Log: s.o.Log})
		if err == nil {
			s.closers = append(s.closers, k.Close)
			s.carrier = carrier{listener: k.Listener(), front: k, applications: k, keeper: k}
			return s.checkReach()
		}
		var refused *keeper.StartError
		if errors.As(err, &refused) && strings.Contains(refused.Reason, "listen on") {
			return portError(err)
		}
		s.o.Log.Warn("there is no keeper: applications can be reached only while this server runs", "error", err)
	} else if there, err := keeper.End(ctx, s.o.Data); err != nil {
		return err
	} else if there {
		s.o.Log.Info("the keeper of this data folder was ended: the server carries requests itself")
	}
	l, err := listen(ctx, s.o.Listen)
	if err != nil {
		return err
	}
	f := front.New(front.Options{Log: s.o.Log})
	s.closers = append(s.closers, f.Close, func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	l = clients.NewCrowd(s.o.PerClient).Listener(l)
	names := own(s.names())
	l = keeper.Sniff(l, keeper.Proving(func() keeper.Own { return names }, f, func() *certificate.Pair { return s.certificate }))
	s.carrier = carrier{listener: l, front: f, applications: f}
	return s.checkReach()
}

// keeperService tells how the keeper is; the client looks after it by itself.
type keeperService struct{ client *keeper.Client }

func (keeperService) Name() string                { return "keeper" }
func (keeperService) Start(context.Context) error { return nil }
func (keeperService) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (k keeperService) Health() control.Health {
	if t := k.client.Trouble(); t != "" {
		return control.Health{State: control.Failing, Reason: t}
	}
	return control.Health{}
}

// podsService tells how this machine's executor is, which looks after its pods by itself.
type podsService struct {
	executor *local.Executor
	// views are the executor as the pods of this epoch see it.
	views []executor.Executor
}

func (podsService) Name() string                { return "pods" }
func (podsService) Start(context.Context) error { return nil }
func (podsService) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Health says what was set aside until somebody has looked at it and removed it. It keeps no other pod from running.
func (p podsService) Health() control.Health {
	if t := p.executor.Trouble(); t != "" {
		return control.Health{State: control.Waiting, Reason: t}
	}
	for _, v := range p.views {
		if e, tells := v.(executor.Troubled); tells && e.Trouble() != "" {
			return control.Health{State: control.Waiting, Reason: e.Trouble()}
		}
	}
	aside := p.executor.SetAside()
	if len(aside) == 0 {
		return control.Health{}
	}
	return control.Health{State: control.Waiting, Reason: fmt.Sprintf("%d attempts at pods could not be read and were set aside (look at %s and remove it): %s",
		len(aside), aside[0].Folder, aside[0].Why)}
}

// Carries reports whether applications can be reached while no server runs.
func (s *Server) Carries() bool { return s.carrier.keeper != nil && s.carrier.keeper.Carries() }

// portPatience is how long a port is waited for.
const portPatience = time.Second

func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	for wait := time.Millisecond; errors.Is(err, syscall.EADDRINUSE) && wait < portPatience; wait *= 2 {
		// A child that a killed server was about to make holds the port until it executes something.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		l, err = lc.Listen(ctx, "tcp", address)
	}
	if err != nil {
		return nil, portError(fmt.Errorf("listen on %s: %w", address, err))
	}
	return l, nil
}

func portError(err error) error {
	return fmt.Errorf("%w (choose another address with --listen; what a server left serving ends with tiphys down)", err)
}

// names are the host names of our own pages.
func (s *Server) names() server.Names {
	host, _, _ := net.SplitHostPort(s.o.Listen)
	n := server.Names{Registry: RegistryHost, Listen: host, Public: []string{s.o.Name}}
	if s.public != nil {
		n.Public = append(n.Public, s.public.Hostname())
	}
	return n
}

// ownNames are the names of our own pages below which no application may be.
func (s *Server) ownNames() []string {
	return slices.DeleteFunc(s.names().Public, func(name string) bool {
		name = strings.ToLower(name)
		return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || net.ParseIP(name) != nil
	})
}

// own is what the keeper has to know of them.
func own(n server.Names) keeper.Own {
	return keeper.Own{Names: append([]string{server.LocalName, n.Registry, n.Listen}, n.Public...), Addresses: true}
}
