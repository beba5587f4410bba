// Package wire is assembly and nothing else: it says which adapter stands behind which interface, for `tiphys run` (a
// [Machine]) and for `tiphys serve` (a [Server]).
package wire

import (
	"cmp"
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

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/image"
	artifactlocal "github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/artifact/mover"
	"github.com/tiphys/tiphys/backup/folder"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/executor/initbin"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// MachineOptions say how a Machine works.
type MachineOptions struct {
	// Data is the folder that everything is kept in; empty for one that Close removes.
	Data string
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
	// Record is that of Data, which its opener closes; nil opens it.
	Record *record
	// Objects are what runs refer to.
	Objects runs.Objects
	// HostImages stands in for images under the host executor.
	HostImages local.HostImages
	// Own are repositories of this machine; nil for none.
	Own mover.Repositories
	// Egress is the way to other hosts for what manifests name; nil refuses what is to be refused.
	Egress *egress.Client
	// Registries are further names of the built-in registry in image references, with their ports.
	Registries []string
	// Guard says which artifacts of the default store a step may read and write; nil for all.
	Guard artifact.Guard
	// MayPull says whether the caller in ctx may have an image of the built-in registry; nil lets everybody.
	MayPull func(ctx context.Context, repo, version string) error
	// Claims settles whom and what submitted runs act for; nil has them act for whoever runs this process.
	Claims runs.Claims
	// Tokens makes the steps' own tokens; nil for none.
	Tokens runs.Tokens
	// Policy is what pods are held to.
	Policy podpolicy.Policy
	// Orphans takes the reports of pods that are of no run; nil for nobody.
	Orphans runs.Orphans
	Network local.Network
	// Apart keeps steps of the host executor from the rest of the machine; see local.Options.
	Apart bool
	// Processes is how many processes and threads a pod may have; see local.Options.
	Processes int
	// Hide are folders that host views do not show, beside Data.
	Hide []string
	// Quarantine has what runs compute on; nil lets everything happen.
	Quarantine *quarantine.Book
	// Pushed has what pods push; nil for none.
	Pushed runs.Pushed
	// Applications begins the names of the owners of applications' pods, for which a share of the places is kept; empty if there are none.
	Applications string
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
	// Executors are those that runs choose from, behind the policy; both of them are ways of Executor, for pods of the server's epoch.
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
	secrets *runs.Secrets
	record  *sqlite.Ledger // the ledger, if it was opened here
	cancel  context.CancelFunc
	running sync.WaitGroup
	away    *datafolder.Throwaway // nil if Data stays
	scratch string                // Data, or the part of it that is on disk
	layers  string                // where images are unpacked
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
		if m.away, err = datafolder.NewThrowaway(); err != nil {
			return m, err
		}
		m.Data, m.scratch = m.away.State, m.away.Scratch
		m.running.Go(datafolder.SweepThrowaways)
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
	if o.Record == nil {
		o.Record, err = openRecord(ctx, recordOptions{Data: m.Data, Away: m.away != nil, Ephemeral: o.Ephemeral, Now: o.Now, Fault: o.Fault})
		if err != nil {
			return m, err
		}
		m.record = o.Record.Ledger
		if o.Record.Restored.Held {
			// A server holds; whoever opens the folder without one would go on with what is in it.
			return m, failure.WithHint(hold.ErrHeld, "start its server with tiphys serve, and "+hold.Hint)
		}
	}
	m.Ledger, m.Restored = o.Record.Ledger, o.Record.Restored
	m.secrets = runs.NewSecrets(o.Objects)
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

// recordOptions say how a record is opened.
type recordOptions struct {
	Data string
	// Key signs what the ledger forgets; nil for one that forgets nothing.
	Key ed25519.PrivateKey
	// Rooms are the projections of the rooms beside runs.
	Rooms []ledger.Projection
	// Away says that the folder goes with the process.
	Away, Ephemeral bool
	Now             func() time.Time
	Fault           func(point string)
}

// record is the ledger of a data folder, and whether it was restored from a backup.
type record struct {
	Ledger   *sqlite.Ledger
	Restored hold.State
}

// openRecord opens the ledger of a data folder. Nobody else has it: what another process claimed is given back.
func openRecord(ctx context.Context, o recordOptions) (*record, error) {
	opt := sqlite.Options{
		Path: filepath.Join(o.Data, "ledger.db"), Now: o.Now, Fault: at("ledger", o.Fault), Key: o.Key,
		Projections: append(machineProjections(), o.Rooms...),
	}
	if o.Ephemeral {
		opt.Synchronous = sqlite.Off
	}
	l, err := sqlite.Open(ctx, opt)
	if err != nil {
		return nil, err
	}
	r := &record{Ledger: l}
	if r.Restored, err = hold.Read(ctx, l); err == nil && !o.Away {
		err = folder.CheckEpoch(o.Data, r.Restored)
	}
	if err == nil {
		err = l.Outbox().Release(ctx, l.Leases().Owner())
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return r, nil
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
	scratch, hide := "", append([]string{m.Data}, o.Hide...)
	if m.scratch != m.Data {
		scratch, hide = filepath.Join(m.scratch, "pods"), append(hide, m.scratch)
	}
	network := o.Network
	network.Ahead = network.Ahead || o.Ephemeral && cmp.Or(o.Executor, local.NameContainer) == local.NameContainer
	m.Executor, err = local.New(local.Options{
		Dir: filepath.Join(m.Data, "executor"), Scratch: scratch, Volumes: filepath.Join(m.scratch, "executor", "volumes"), Init: init, Images: images{m.Library}, Layers: m.layers, Socket: m.Socket,
		Mover: mover.New(mover.Options{
			Store: m.Artifacts, Secrets: m.secrets, Own: o.Own, Egress: o.Egress, TempDir: os.TempDir(), Guard: o.Guard,
		}),
		Processes: o.Processes, Network: network, Apart: o.Apart, Hide: hide, HostFiles: o.HostImages.Files, HostCommand: o.HostImages.Command, HostPath: os.Getenv("PATH"),
		NoSync: o.Ephemeral, Bound: o.Ephemeral, Now: o.Now, Log: m.log, Fault: at("executor", o.Fault),
	})
	if err != nil {
		return err
	}
	m.Containers, m.hosts = m.Executor.Container().Named(), m.Executor.Host().Named()
	if epoch := m.Restored.Epoch; epoch > 0 {
		m.Containers, m.hosts = executor.InEpoch(m.Containers, epoch, m.log), executor.InEpoch(m.hosts, epoch, m.log)
	}
	if m.Executors, err = executors(o.Policy, m.Containers, m.hosts, o.Executor); err != nil {
		return err
	}
	m.Containers, err = m.Executors.Named(m.Containers.Name) // behind the policy
	return err
}

// desk is where somebody runs the program for themselves: what is theirs may be used.
type desk struct{}

// Settle implements runs.Claims.
func (desk) Settle(context.Context, claims.Made) (claims.Record, error) {
	return claims.Record{Kind: podpolicy.Operator}, nil
}

// executors are the two of this machine, the one of that name first.
func executors(policy podpolicy.Policy, container, host executor.Named, name string) (*executor.Registry, error) {
	switch name {
	case "", container.Name:
		return executor.NewRegistry(policy, container, host), nil
	case host.Name:
		return executor.NewRegistry(policy, host, container), nil
	}
	return nil, &executor.UnknownError{Name: name, Known: []string{container.Name, host.Name}}
}

func (m *Machine) prepare(o MachineOptions) {
	limit := o.Pods
	if limit == 0 {
		limit = admission.ThisMachine(runtime.GOMAXPROCS(0)).Places()
	}
	m.Places = admission.New(limit)
	if o.Applications != "" {
		m.Places = admission.Shared(limit, o.Applications)
	}
	claimed := o.Claims
	if claimed == nil {
		claimed = desk{}
	}
	keep := int64(0)
	if m.away != nil {
		keep = -1 // what is kept is for the next process
	}
	m.Runs = runs.New(runs.Options{
		Keep:   keep,
		Ledger: m.Ledger, Executors: m.Executors, Objects: o.Objects, Secrets: m.secrets, Validator: runs.Manifests{Objects: o.Objects, Platform: local.Fields()},
		Folders: artifact.Folders{Store: m.Artifacts, Guard: o.Guard}, Places: m.Places, Pushed: o.Pushed,
		Egress: o.Egress, Claims: claimed, Tokens: o.Tokens, Quarantine: o.Quarantine, Env: o.Env, Now: o.Now, Log: m.log, Orphans: o.Orphans, Fault: at("runs", o.Fault),
	})
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
	if m.record != nil {
		errs = append(errs, m.record.Close())
	}
	if m.away != nil {
		errs = append(errs, m.away.Remove())
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
