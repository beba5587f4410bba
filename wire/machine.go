// Package wire is assembly and nothing else: it says which adapter stands behind which interface, for `tiphys run` (a
// [Machine]) and for `tiphys serve` (a [Server]).
package wire

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/image"
	artifactlocal "github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/artifact/mover"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/executor/initbin"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// MachineOptions say how a Machine works.
type MachineOptions struct {
	// Data is the folder that everything is kept in; empty for one that Close removes.
	Data string
	// LedgerKey signs what the ledger forgets; nil for a machine that forgets nothing.
	LedgerKey ed25519.PrivateKey
	// Locked says that the caller has the folder's lock.
	Locked bool
	// Ephemeral ends every step with this process and leaves out what only a crash would need.
	Ephemeral bool
	// Executor names the one that runs steps unless a run chooses otherwise; local.NameContainer if empty.
	Executor string
	// Mirrors are where images of a registry are pulled from instead: host to URL.
	Mirrors map[string]string
	// Layers is where unpacked images are kept; a folder of Data if empty.
	Layers string
	// Objects are what runs refer to; MakeObjects makes them of the opened machine instead.
	Objects     runs.Objects
	MakeObjects func(*Machine) runs.Objects
	// Projections are those of the rooms beside the engine's own.
	Projections []ledger.Projection
	// HostFiles and HostCommand stand in for images under the host executor; see executor/local.
	HostFiles   map[string]string
	HostCommand func(image string) (entrypoint, cmd []string)
	// ResolveRepo finds a built-in repository's folder; nil for none.
	ResolveRepo func(ctx context.Context, url string) (string, bool, error)
	// Authorize is asked before an artifact of the default store is read or written by a step.
	Authorize func(ctx context.Context, key string, write bool) error
	// Token makes a step's own token; nil for none.
	Token func(workflow.Run, executor.ID) secret.Value
	// RefuseHost says why a run may not use the host executor, and what to do; nil allows it.
	RefuseHost func(context.Context, runs.Submission) (reason, hint string)
	Orphan     func(context.Context, executor.Report)
	Network    local.Network
	// Pods is how many pods may be live at the same time; 0 takes what the machine can bear.
	Pods int
	Env  map[string]string
	Log  *slog.Logger
	Now  func() time.Time
	// Fault is called at named points in test builds, with ROOM/POINT.
	Fault func(point string)
}

// Machine is what runs need on this machine: ledger, artifacts, images, executor and the controller of runs.
// `tiphys run` is a Machine; the server is one with more around it.
type Machine struct {
	Ledger    *sqlite.Ledger
	Artifacts *artifactlocal.Store
	// Images is the built-in registry's store; Library unpacks images from there or elsewhere.
	Images   *image.Store
	Library  *image.Library
	Executor *local.Executor
	// Executors are those that runs choose from; both of them are ways of Executor, for pods of the server's epoch.
	Executors *executor.Registry
	// Containers is the one of them that executes pods from images.
	Containers executor.Named
	// Restored says whether the ledger was restored from a backup, and with it the server's epoch.
	Restored hold.State
	Runs     *runs.Controller
	// Places bounds how many pods are live, of runs and of whatever else has pods started.
	Places *admission.Gate
	// Data is the folder; Socket the folder that steps see at /run/tiphys.
	Data, Socket string

	hosts   executor.Named
	cancel  context.CancelFunc
	running sync.WaitGroup
	away    *throwaway // nil if Data stays
	scratch string     // Data, or the part of it that is on disk
	lock    *datafolder.Lock
	log     *slog.Logger
}

// OpenMachine opens the folder and everything in it. Call Start next, and Close at the end.
func OpenMachine(ctx context.Context, o MachineOptions) (_ *Machine, err error) {
	m := &Machine{Data: o.Data, log: o.Log, cancel: func() {}}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.Data == "" {
		if m.away, err = newThrowaway(); err != nil {
			return m, err
		}
		m.Data, m.scratch = m.away.state, m.away.scratch
		m.running.Go(func() { sweepThrowaways(memoryFolder, os.TempDir()) })
	}
	if m.Data, err = filepath.Abs(m.Data); err != nil {
		return m, fmt.Errorf("find data folder: %w", err)
	}
	if m.scratch == "" {
		m.scratch = m.Data
	}
	if m.away == nil && !o.Locked {
		if m.lock, err = datafolder.Take(ctx, m.Data); err != nil {
			return m, err
		}
	}
	m.Socket = filepath.Join(m.Data, "socket")
	for _, dir := range []string{m.Data, m.Socket} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return m, fmt.Errorf("make data folder: %w", err)
		}
	}
	if err := m.openLedger(ctx, o); err != nil {
		return m, err
	}
	if err := m.openExecutor(o); err != nil {
		return m, err
	}
	m.prepare(o)
	return m, nil
}

// Start takes up what was running and drives runs until Close.
func (m *Machine) Start(ctx context.Context) {
	ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.running.Go(func() {
		if err := m.Runs.Run(ctx); err != nil {
			m.log.Error("the controller of runs ended", "error", err)
		}
	})
}

// machineProjections make the rows of runs.
func machineProjections() []ledger.Projection {
	return []ledger.Projection{workflow.Projection{}, lock.Projection{}, runs.Projection{}}
}

func (m *Machine) openLedger(ctx context.Context, o MachineOptions) (err error) {
	opt := sqlite.Options{
		Path: filepath.Join(m.Data, "ledger.db"), Now: o.Now, Fault: at("ledger", o.Fault),
		Key:         o.LedgerKey,
		Projections: append(machineProjections(), o.Projections...),
	}
	if o.Ephemeral {
		opt.Synchronous = sqlite.Off
	}
	if m.Ledger, err = sqlite.Open(ctx, opt); err != nil {
		return err
	}
	if m.Restored, err = hold.Read(ctx, m.Ledger); err != nil {
		return err
	}
	if m.away == nil {
		if err := checkEpoch(m.Data, m.Restored); err != nil {
			return err
		}
	}
	return m.Ledger.Outbox().Release(ctx, m.Ledger.Leases().Owner())
}

func (m *Machine) openExecutor(o MachineOptions) (err error) {
	if m.Artifacts, err = artifactlocal.Open(filepath.Join(m.scratch, "artifacts"), artifactlocal.Options{Unsynced: o.Ephemeral, Now: o.Now}); err != nil {
		return err
	}
	place := initbin.Path
	if m.away != nil {
		place = initbin.Once
	}
	init, err := place(filepath.Join(m.Data, "bin"))
	if err != nil {
		return err
	}
	if err := m.openImages(o); err != nil {
		return err
	}
	scratch, hide := "", []string{m.Data}
	if m.scratch != m.Data {
		scratch, hide = filepath.Join(m.scratch, "pods"), append(hide, m.scratch)
	}
	m.Executor, err = local.New(local.Options{
		Dir: filepath.Join(m.Data, "executor"), Scratch: scratch, Volumes: filepath.Join(m.scratch, "executor", "volumes"), Init: init, Images: images{m.Library}, Socket: m.Socket,
		Mover: mover.New(mover.Options{
			Store: m.Artifacts, Secrets: m.secret, ResolveRepo: o.ResolveRepo, TempDir: os.TempDir(), Authorize: o.Authorize,
		}),
		Network: o.Network, Hide: hide, HostFiles: o.HostFiles, HostCommand: o.HostCommand, HostPath: os.Getenv("PATH"),
		NoSync: o.Ephemeral, Bound: o.Ephemeral, Now: o.Now, Log: m.log, Fault: at("executor", o.Fault),
	})
	if err != nil {
		return err
	}
	m.Containers, m.hosts = m.Executor.Container().Named(), m.Executor.Host().Named()
	if epoch := m.Restored.Epoch; epoch > 0 {
		m.Containers, m.hosts = executor.InEpoch(m.Containers, epoch, m.log), executor.InEpoch(m.hosts, epoch, m.log)
	}
	m.Executors, err = executors(m.Containers, m.hosts, o.Executor)
	return err
}

// executors are the two of this machine, the one of that name first.
func executors(container, host executor.Named, name string) (*executor.Registry, error) {
	switch name {
	case "", container.Name:
		return executor.NewRegistry(container, host), nil
	case host.Name:
		return executor.NewRegistry(host, container), nil
	}
	return nil, &executor.UnknownError{Name: name, Known: []string{container.Name, host.Name}}
}

func (m *Machine) prepare(o MachineOptions) {
	objects := o.Objects
	if o.MakeObjects != nil {
		objects = o.MakeObjects(m)
	}
	limit := o.Pods
	if limit == 0 {
		limit = admission.ThisMachine(runtime.GOMAXPROCS(0)).Places()
	}
	m.Places = admission.New(limit)
	m.Runs = runs.New(runs.Options{
		Ledger: m.Ledger, Executors: m.Executors, RefuseHost: o.RefuseHost, Objects: objects, Validate: validator(objects),
		List: lister(m.Artifacts, o.Authorize), Places: m.Places,
		Token: o.Token, Env: o.Env, Now: o.Now, Log: m.log, Orphan: o.Orphan, Fault: at("runs", o.Fault),
	})
}

// secret gives one key of a Secret to the mover.
func (m *Machine) secret(ctx context.Context, namespace, name, key string) (secret.Value, error) {
	v, err := m.Runs.Secret(ctx, namespace, name, key)
	if errors.Is(err, runs.ErrNoObject) {
		err = fmt.Errorf("%w: %w", artifact.ErrNotFound, err)
	}
	return v, err
}

// Close stops driving runs. Steps go on, unless the machine is ephemeral.
func (m *Machine) Close() error {
	var errs []error
	m.cancel()
	m.running.Wait()
	switch {
	case m.Executors != nil:
		errs = append(errs, m.Executors.Close())
	case m.Executor != nil:
		errs = append(errs, m.Executor.Close())
	}
	if m.Images != nil {
		errs = append(errs, m.Images.Close())
	}
	if m.Artifacts != nil {
		errs = append(errs, m.Artifacts.Close())
	}
	if m.Ledger != nil {
		errs = append(errs, m.Ledger.Close())
	}
	if m.away != nil {
		errs = append(errs, m.away.remove())
	}
	if m.lock != nil {
		errs = append(errs, m.lock.Unlock())
	}
	return errors.Join(errs...)
}

// Nodes gives a run's nodes that changed after a sequence, and the sequence to ask after next.
func (m *Machine) Nodes(ctx context.Context, namespace, name string, after int64) ([]workflow.Node, int64, error) {
	return runs.Nodes(ctx, m.Ledger, runs.Key(namespace, name), after, math.MaxInt)
}

// Run gives a run's summary.
func (m *Machine) Run(ctx context.Context, namespace, name string) (workflow.Run, error) {
	return m.Runs.Summary(ctx, namespace, name)
}

// Changed is closed at the next commit.
func (m *Machine) Changed() <-chan struct{} { return m.Ledger.Changed() }

// Log reads the log of a run's node.
func (m *Machine) Log(ctx context.Context, run workflow.Run, n workflow.Node, container string, o executor.LogOptions) (io.ReadCloser, error) {
	return m.Executors.Logs(ctx, executor.ID{Owner: run.UID, Node: n.ID, Attempt: n.Attempt}, container, o)
}
