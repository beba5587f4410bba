package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/access/grant"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/access/stepclaims"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/control/audit"
	"github.com/tiphys/tiphys/control/crons"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/events"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/control/posts"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/control/sweep"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/deploy"
	targetlocal "github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/builtin"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/executor/pushed"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/repo"
	"github.com/tiphys/tiphys/script/confined"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server"
	"github.com/tiphys/tiphys/server/api"
	"github.com/tiphys/tiphys/server/doors"
	"github.com/tiphys/tiphys/server/feed"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/server/steps"
	"github.com/tiphys/tiphys/web"
)

// Options of a Server.
type Options struct {
	// Config is the folder of definitions; empty for none.
	Config string
	// Data is the folder that everything is kept in.
	Data string
	// Listen is the address of the one port: "127.0.0.1:2746".
	Listen string
	// StepsListen is the address where steps of other machines reach the server over HTTPS; empty for none.
	StepsListen string
	// Executor names the default executor; the container executor if empty.
	Executor string
	// Grants are the operator's: what pods may do beyond the baseline, and whose.
	Grants []podpolicy.Grant
	// Name is the host name under which the server is reached, beside loopback and its address.
	Name string
	// Public is the address under which people reach the server from elsewhere, https://ci.example.org; empty where it has none.
	Public string
	// Token is the admin token; if empty, the one of the data folder, which the first start makes.
	Token   secret.Value
	Mirrors map[string]string
	Images  local.HostImages
	Network local.Network
	// AllowEgress are the operator's exceptions from what manifests may have the server reach.
	AllowEgress []egress.Rule
	// Processes is how many processes and threads a pod may have; see local.Options.
	Processes int
	// Hide are folders of this machine that steps do not see, beside Data: credentials.
	Hide []string
	// TLS is the certificate of the port, by absolute paths; its zero value is none. BehindProxy says that a proxy in front has one, so that a port
	// without may be reached from other machines.
	TLS         certificate.Files
	BehindProxy bool
	// PerClient is how many connections one client may have at the same time, and this machine itself sixteen times that; 0 is no bound.
	PerClient int
	// Pods is how many pods may be live at the same time; 0 takes what the machine can bear.
	Pods int
	// ForgeTypes are the types of forges that can be declared; nil for [ForgeTypes].
	ForgeTypes []forge.Type
	// Keeper has the port and the requests to applications in a process that outlives this one. A keeper is never used but by
	// the program itself, since it is started as its hidden command.
	Keeper  bool
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	// Fault is called at named points in test builds, with ROOM/POINT.
	Fault func(string)
}

// Server is the one process.
type Server struct {
	o         Options
	carrier   carrier
	madeToken bool
	network   *local.Claim
	egress    *egress.Client
	// certificate proves the port; nil for none.
	certificate *certificate.Pair
	stepPort    stepPort
	machine     *Machine
	record      *record
	ledger      *sqlite.Ledger
	policy      access.Policy
	pods        podpolicy.Policy
	defs        *definitions.Store
	remote      *builtin.Remote
	repos       *repo.Store
	forges      *forge.Forges
	posts       *posts.Controller
	scripts     *confined.Scripts
	events      *events.Controller
	crons       *crons.Controller
	audit       *audit.Auditor
	target      *targetlocal.Target
	targets     *deploy.Targets
	apps        *apps.Controller
	steps       *steps.API
	api         *api.API
	gate        *gate.Gate
	people      *people.Store
	metrics     secret.Value
	public      *url.URL
	tokens      *steptoken.Issuer
	pushes      *pushed.Store
	box         *secret.Box
	registry    *image.Registry
	sweeper     *sweep.Sweeper
	port        *server.Port
	services    *control.Group
	hold        *hold.Hold
	book        *quarantine.Book
	recording   *audit.Recording
	feed        *feed.Hub
	reports     targetlocal.Reports
	closers     []func() error
}

// Open opens everything and listens; Serve serves.
func Open(ctx context.Context, o Options) (_ *Server, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ForgeTypes == nil {
		o.ForgeTypes = ForgeTypes()
	}
	s := &Server{o: o, reports: targetlocal.NewReports()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, open := range []func(context.Context) error{s.lockData, s.openTokens, s.openCarrier, s.openNetwork, s.openEgress, s.openRecord, s.openStepPort, s.openQuarantine, s.openGit, s.openForges, s.openMachine, s.openEvents, s.openDeploy, s.openSteps, s.openPort} {
		if err := open(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// URL is the server's address as users write it.
func (s *Server) URL() string {
	host, port, _ := net.SplitHostPort(s.carrier.listener.Addr().String())
	if ip := net.ParseIP(host); ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func (s *Server) portNumber() string {
	_, port, _ := net.SplitHostPort(s.carrier.listener.Addr().String())
	return port
}

// keySize is the size of the keys of step tokens and of digests of secret values, in bytes.
const keySize = 32

// serverProjections make the rows of the rooms beside runs.
func serverProjections() []ledger.Projection {
	return []ledger.Projection{definitions.Projection{}, event.Rows{}, builtin.Projection{}, deploy.Projection(), crons.Projection{}, posts.Projection{}, quarantine.Projection{}, people.Projection{}}
}

// openRecord opens the ledger and what is kept in it for everybody: keys, definitions, and who may do what.
func (s *Server) openRecord(ctx context.Context) (err error) {
	keys := filepath.Join(s.o.Data, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if s.box, err = secret.OpenBox(filepath.Join(keys, "secrets.key")); err != nil {
		return err
	}
	stepKey, err := secret.RandomKey(filepath.Join(keys, "steps.key"), keySize)
	if err != nil {
		return err
	}
	// The key that signs heads is made now: when the first head is asked for the disk may be full.
	key, err := ledger.LoadKey(s.o.Data)
	if err != nil {
		return err
	}
	if s.record, err = openRecord(ctx, recordOptions{Data: s.o.Data, Key: key, Rooms: serverProjections(), Now: s.o.Now, Fault: s.o.Fault}); err != nil {
		return err
	}
	s.ledger = s.record.Ledger
	s.closers = append(s.closers, s.ledger.Close)
	s.tokens = steptoken.NewIssuer(stepKey, s.record.Restored.Epoch)
	s.hold = hold.New(s.ledger, s.record.Restored)
	s.audit = audit.New(audit.Options{Ledger: s.ledger, Folder: s.o.Data, Key: key, Unclean: s.ledger.Unclean(), Now: s.o.Now, Log: s.o.Log})
	rules, err := Rules(s.o.ForgeTypes)
	if err != nil {
		return err
	}
	s.defs = definitions.New(s.ledger, s.box, rules)
	s.policy, s.pods = access.BuiltIn(), podpolicy.New(s.o.Grants...).With(s.defs)
	s.people = people.New(s.ledger, s.record.Restored.Epoch, s.o.Now)
	s.gate, err = gate.New(gate.Options{
		Token: s.o.Token, Metrics: s.metrics, People: s.people, Public: s.public, Steps: s.tokens, Attempts: stepclaims.Attempts{Ledger: s.ledger}, Projects: apps.NewRoles(s.defs, s.ledger), Policy: s.policy, Now: s.o.Now, Log: s.o.Log,
	})
	return err
}

// openQuarantine takes up what an earlier process had in hand when it ended.
func (s *Server) openQuarantine(ctx context.Context) error {
	crash, err := quarantine.CatchCrashes(s.o.Data)
	if err != nil {
		return err
	}
	if crash != "" {
		s.o.Log.Warn("the server ended by a fault of its own: what it had in hand is tried alone", "report", quarantine.Report(s.o.Data))
	}
	if s.book, err = quarantine.Open(ctx, quarantine.Options{Folder: s.o.Data, Ledger: s.ledger, Fault: at("quarantine", s.o.Fault)}, crash); err != nil {
		return err
	}
	s.closers = append(s.closers, s.book.Close)
	return nil
}

// openMachine opens what runs need, with what was opened before it.
func (s *Server) openMachine(ctx context.Context) (err error) {
	if s.pushes, err = pushed.Open(filepath.Join(s.o.Data, "pushed")); err != nil {
		return err
	}
	network, err := s.podNetwork()
	if err != nil {
		return err
	}
	claims := s.claims()
	s.machine, err = OpenMachine(ctx, MachineOptions{
		Data: s.o.Data, Locked: true, Record: s.record, Objects: s.defs, Executor: s.o.Executor, Mirrors: s.o.Mirrors, HostImages: s.o.Images,
		Own: stepclaims.Repositories{Own: s.remote, Claims: claims}, Guard: stepclaims.Artifacts{Claims: claims}, MayPull: stepclaims.Images{Claims: claims}.MayPull,
		Claims: claims, Tokens: stepclaims.Tokens{Issuer: s.tokens, Claims: claims},
		Egress: s.egress, Registries: s.registries(), Policy: s.pods, Orphans: s.reports, Pushed: s.pushes, Applications: targetlocal.OwnerPrefix, Network: network, Apart: true, Hide: s.o.Hide, Pods: s.o.Pods, Processes: s.o.Processes,
		Quarantine: s.book, Env: s.stepEnvironment(), Log: s.o.Log, Now: s.o.Now, Fault: s.o.Fault,
	})
	if s.machine != nil {
		s.closers = append(s.closers, s.machine.Close)
	}
	if err == nil {
		err = s.showAuthority()
	}
	return err
}

// claims reads whom and what runs act for.
func (s *Server) claims() stepclaims.Reader {
	return stepclaims.Reader{Ledger: s.ledger, Forges: s.forges, Names: s.grantNames()}
}

// grantNames are those of repositories in grants.
func (s *Server) grantNames() grant.Names { return grant.Names{Own: s.remote} }

func (s *Server) openGit(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	s.remote, err = builtin.New(builtin.Options{
		Dir: filepath.Join(s.o.Data, "git"), Ledger: s.ledger, Hook: self, Callers: doors.Git{Gate: s.gate, Policy: s.policy},
		BaseURL: s.URL(), Names: s.elsewhere(), CreateOnPush: true, Now: s.o.Now, Log: s.o.Log, Fault: at("git", s.o.Fault),
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.remote.Close)
	s.repos, err = repo.Open(repo.StoreOptions{
		Dir: filepath.Join(s.o.Data, "repos"), Checkouts: filepath.Join(s.o.Data, "checkouts"), Own: []repo.Own{s.remote}, Egress: s.egress, Now: s.o.Now,
	})
	if err != nil {
		return err
	}
	if s.hold.State().Held {
		return nil // the refs are those of the ledger, and what was begun is not ended now
	}
	s.remote.Settle(ctx, reconcileEvery)
	return nil
}

func (s *Server) openEvents(context.Context) error {
	kinds, err := SourceKinds()
	if err != nil {
		return err
	}
	s.scripts = confined.NewScripts(confined.Options{})
	s.closers = append(s.closers, s.scripts.Close)
	s.events = events.New(events.Options{
		Scripts: s.scripts,
		Ledger:  s.ledger, Runs: s.machine.Runs, Definitions: s.defs, Egress: s.egress, Policy: &s.policy, Sources: kinds, Secrets: s.machine.secrets,
		Repositories: files{s}, Programs: programs(s.programs()), Answers: commenter{s}, Quarantine: s.book, Now: s.o.Now, Log: s.o.Log, Fault: at("events", s.o.Fault),
	})
	s.crons = crons.New(crons.Options{Ledger: s.ledger, Runs: s.machine.Runs, Definitions: s.defs, Now: s.o.Now, Log: s.o.Log})
	return nil
}

// openSteps opens what looks on, and what steps reach.
func (s *Server) openSteps(context.Context) (err error) {
	s.sweeper = s.sweeps()
	s.recording = &audit.Recording{Folder: s.o.Data, Disk: datafolder.Disk{}, Auditor: s.audit, Rows: s.ledger, Held: s.hold}
	s.feed = api.NewFeed(feed.Options{Ledger: s.ledger, Banner: s.recording})
	s.closers = append(s.closers, func() error { s.feed.Close(); return nil })
	s.steps = &steps.API{
		Policy: s.policy, Pushes: s.pushes,
		Ledger: s.ledger, Posts: s.posts, Merged: mergedAs{s.forges}, Images: s.machine.Images, Artifacts: s.machine.Artifacts, Log: s.o.Log,
		Server: strings.TrimRight(s.URL(), "/"),
	}
	s.registry = image.NewRegistry(image.RegistryOptions{
		Store: s.machine.Images, Now: s.o.Now, Door: doors.Images{Gate: s.gate, Policy: s.policy, Ledger: s.ledger, Fault: at("registry", s.o.Fault)},
	})
	s.closers = append(s.closers, func() error { s.registry.Close(); return nil })
	return nil
}

// openPort puts what was opened behind the routes of the one port.
func (s *Server) openPort(context.Context) error {
	s.services = s.loops()
	s.api = &api.API{
		Policy: s.policy, Ledger: access.NewView(s.ledger, s.policy), Runs: s.machine.Runs, Definitions: s.defs, Logs: s.machine, Artifacts: s.machine.Artifacts, Guard: stepclaims.Artifacts{Claims: s.claims()}, Events: s.events, Git: s.remote, Forges: s.forges,
		Apps: s.apps, Targets: s.targets, Crons: s.crons, Audit: s.audit, Hold: s.hold, Planners: s.planners(), Quarantine: s.book, Rooms: s.rooms(), Eraser: s.ledger, Keys: s.o.Data, Version: s.o.Version, Feed: s.feed, Log: s.o.Log, Now: s.o.Now,
		People: s.people, Public: strings.TrimRight(s.o.Public, "/"),
	}
	s.port = server.New(server.Options{
		Names: s.names(), Gate: s.gate, Steps: s.steps, API: s.api,
		Webhooks: s.events, Git: s.remote.Handler(), Registry: s.registry, Screens: web.Handler(), Applications: s.carrier.applications,
		Ledger: s.ledger, Hold: s.hold, Services: s.services,
		Collectors: []prometheus.Collector{server.NewLedgerMetrics(s.ledger), server.NewPodMetrics(s.machine.Places), s.sweeper, control.NewMetrics(s.services.Status)},
	})
	return nil
}

// rooms are those that can do something about an item that is quarantined.
func (s *Server) rooms() quarantine.Rooms {
	return quarantine.Rooms{
		quarantine.KindEvent: s.events, quarantine.KindFiring: s.events, quarantine.KindDefinition: s.events, quarantine.KindRun: s.machine.Runs,
		quarantine.KindCron: s.crons, quarantine.KindApplication: s.apps, quarantine.KindApplicationSet: s.apps,
	}
}

// projections are all that a server's ledger has.
func projections() []ledger.Projection { return append(machineProjections(), serverProjections()...) }

// Times of the server.
const (
	reconcileEvery = time.Minute
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	drainTimeout   = 10 * time.Second
	// maxHeader bounds the first line and the headers of a request, in bytes.
	maxHeader = 64 << 10
)

// loops is everything that loops, in the order of its start.
func (s *Server) loops() *control.Group {
	// What acts waits for the release of a restored server.
	acts := s.hold.Service
	services := []control.Service{
		s.recording,
		s.book,
		acts(s.events),
		acts(s.posts),
		podsService{s.machine.Executor, []executor.Executor{s.machine.Containers.Executor, s.machine.hosts.Executor}},
		acts(s.machine.Runs),
		s.audit,
		acts(s.crons),
		acts(targetService{s.target}),
		acts(s.apps),
		acts(s.sweeper),
		control.Loop("streams", s.gate.Run),
		acts(gitService{s.remote}),
	}
	if s.carrier.keeper != nil {
		services = append(services, keeperService{s.carrier.keeper})
	}
	if s.certificate != nil {
		services = append(services, tlsService{s.certificate})
	}
	if s.o.Config != "" {
		services = append(services, acts(definitions.NewFolder(s.o.Config, s.defs, s.o.Log)))
	}
	return control.NewGroup(control.GroupOptions{Now: s.o.Now, Log: s.o.Log}, services...)
}

// Close closes everything, the last opened first.
func (s *Server) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}
