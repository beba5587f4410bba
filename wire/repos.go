package wire

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/render"
	targetlocal "github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/event/forge/builtin"
	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/secret"
)

// programs evaluates programs of repositories, a few at a time: each may use hundreds of megabytes.
func (s *Server) programs() func(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error) {
	const most = 2
	slots := make(chan struct{}, most)
	return func(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error) {
		if err := pipeline.Evaluable(path); err != nil {
			return nil, err
		}
		dir, _, release, err := s.repos.Checkout(ctx, url, revision)
		if err != nil {
			return nil, err
		}
		defer release()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for other programs: %w", context.Cause(ctx))
		}
		return pipeline.Confined{}.Evaluate(ctx, dir, path, input)
	}
}

// openDeploy opens the target and the controller of applications.
func (s *Server) openDeploy(ctx context.Context) (err error) {
	digestKey, err := secret.RandomKey(filepath.Join(s.o.Data, "keys", "digests.key"), keySize)
	if err != nil {
		return err
	}
	containers := s.machine.Containers
	s.holdPlaces(ctx)
	addresses, wall := s.addresses()
	hostProofs, err := s.openHosts()
	if err != nil {
		return err
	}
	s.target, err = targetlocal.Open(ctx, targetlocal.Options{
		Ledger: s.ledger, Executor: containers.Executor, Claims: containers.Claims, Logs: containers.Logs, Commands: containers.Commands, Volumes: containers.Volumes, Reports: s.reports, Places: s.machine.Places, Box: s.box, DigestKey: digestKey,
		Names: s.machine.Executor, Front: s.carrier.front, Addresses: addresses, Wall: wall.executor, Callers: wall.callers, Machine: wall.machine, OwnNames: s.ownNames(), Held: s.hold.State().Held, Now: s.o.Now, Log: s.o.Log,
		Certificates: hostProofs, BehindProxy: s.o.BehindProxy,
		Fault: at("target", s.o.Fault),
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.target.Close)
	s.targets, err = deploy.NewTargets(s.pods, deploy.Cluster{Place: deploy.Place{Name: deploy.InCluster, Server: deploy.InClusterServer}, Target: s.target, Pods: s.target})
	if err != nil {
		return err
	}
	s.apps = apps.New(apps.Options{
		Ledger: s.ledger, Targets: s.targets, Render: render.Child{}.Render, Scripts: s.scripts,
		Definitions: s.defs, Repositories: s.repos, Forges: forges{s}, Front: hosts{s}, Rights: s.grantNames(), Quarantine: s.book,
		Now: s.o.Now, Log: s.o.Log,
	})
	return nil
}

// targetService has a target that was opened as held begin. The target looks after itself then.
type targetService struct{ target *targetlocal.Target }

// Name implements control.Service.
func (targetService) Name() string { return "target" }

// Start implements control.Service.
func (t targetService) Start(context.Context) error { t.target.Begin(); return nil }

// Run implements control.Service.
func (targetService) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Health implements control.Service: it waits while something does not succeed that is tried again.
func (t targetService) Health() control.Health {
	if trouble := t.target.Trouble(); trouble != "" {
		return control.Health{State: control.Waiting, Reason: trouble}
	}
	return control.Health{}
}

// gitService has the built-in remote compare its repositories with the record.
type gitService struct{ remote *builtin.Remote }

// Name implements control.Service.
func (gitService) Name() string { return "git" }

// Start implements control.Service.
func (gitService) Start(context.Context) error { return nil }

// Run implements control.Service.
func (g gitService) Run(ctx context.Context) error { return g.remote.Run(ctx, reconcileEvery) }

// Health implements control.Service: it waits while a repository cannot be compared, which keeps no other from it.
func (g gitService) Health() control.Health {
	if trouble := g.remote.Trouble(); trouble != "" {
		return control.Health{State: control.Waiting, Reason: trouble}
	}
	return control.Health{}
}

// What applications ask for, from what this server has.
type (
	forges struct{ s *Server }
	hosts  struct{ s *Server }
)

// URL implements apps.Front.
func (f hosts) URL(host string) string {
	scheme := "http"
	if f.s.certificate != nil && !strings.HasSuffix(host, ".localhost") {
		scheme = "https"
	}
	return scheme + "://" + host + ":" + f.s.portNumber() + "/"
}

// Wakes implements apps.Forges.
func (forges) Wakes() []string {
	return []string{"mr.opened", "mr.updated", "mr.synced", "mr.labeled", "mr.draft", "mr.ready", "mr.closed", "mr.reopened", "mr.merged"}
}

// holdPlaces has the pods that run already counted before an application asks for a place. If the executor does not say which those are,
// the controller of runs asks it again and shows it.
func (s *Server) holdPlaces(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	reports, err := s.machine.Executors.List(ctx)
	if err != nil {
		return
	}
	for _, rep := range reports {
		if !rep.Phase.Done() {
			s.machine.Places.Hold(rep.ID)
		}
	}
}

// listPatience is how long a start of the server waits for the list of what runs.
const listPatience = 5 * time.Second
