package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/keeper"
	"github.com/tiphys/tiphys/keeper/clients"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/wire"
)

// defaultListen is loopback: who listens beyond it says so.
const defaultListen = "127.0.0.1:2746"

type serveOptions struct {
	config, data, listen, stepsListen, executor, tokenFile, name, public, hostImages, tlsCert, tlsKey string
	bridge, subnet, serverConfig                                                                      string
	mirrors, removed, allowEgress                                                                     []string
	grants                                                                                            []podpolicy.Grant
	verbose, keeper, behindProxy                                                                      bool
	pods, perClient, podProcesses                                                                     int
	openNetwork                                                                                       bool
	podPorts                                                                                          []uint
}

func newServe(std IO) *cobra.Command {
	o := serveOptions{}
	c := &cobra.Command{
		Use:   "serve [--config DIR] [--data DIR]",
		Short: "Run the server: events, workflows, deployments, previews, screens, Git remote and registry on one port",
		Long: `Serve runs everything in one process on one port. Definitions (EventSource, Sensor, WorkflowTemplate,
CronWorkflow, Application, ApplicationSet, Secret, ConfigMap) are read from a folder of manifests and again when it
changes, as a whole: a bad file is reported with file:line:column and the last good set stays.

Every flag can stand in a file instead, see --server-config; a flag of the command line wins. What pods may do beyond
Kubernetes' Pod Security Standard "baseline", the host executor, the machine's network and the Secrets of repositories
are granted in that file alone.

Everything is kept in the data folder. Killed at any moment and started again, the server takes up what was running.

The port belongs to a keeper, a small process of this program that outlives the server: applications are served, and requests
for the server's own pages wait a little, while it is stopped, killed or replaced by another version. "tiphys down" ends it.

Every request carries a credential. The first start makes an admin token, keys/admin.token in the data folder, and notes it for the
user who started it in ~/.config/tiphys, where the other commands find it. --token-file or TIPHYS_ADMIN_TOKEN give another one.

Beyond loopback the port needs a certificate (--tls-cert, --tls-key), or a proxy in front that has one (--behind-proxy).

Exit status: 0 stopped by a signal, 1 a part of the server failed, 2 a bad command line.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.serverConfig != "" {
				grants, diags := configure(o.serverConfig, c.Flags())
				o.grants = grants
				if err := manifest.FirstError(diags); err != nil {
					return usage(err)
				}
			}
			if o.behindProxy && !c.Flags().Changed("connections-per-client") {
				o.perClient = 0 // the proxy speaks for all
			}
			return runServe(c.Context(), std, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.serverConfig, configFlag, "", "file with these settings and the grants of this server, kind ServerConfiguration (docs/configuration.md)")
	f.StringVar(&o.config, "config", "", "folder of manifests that declare what this server does")
	f.StringVar(&o.data, "data", "tiphys-data", "folder for the ledger, repositories, artifacts, images and logs")
	f.StringVar(&o.listen, "listen", defaultListen, "address of the one port")
	f.StringVar(&o.stepsListen, "steps-listen", "", "address where steps of other machines reach the server over HTTPS, with their tokens (default none)")
	f.StringVar(&o.executor, "executor", local.NameContainer, "where steps run unless a workflow's annotation tiphys.dev/executor says: container, or host, which needs a grant")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the admin token (default keys/admin.token in the data folder, which the first start makes)")
	f.StringVar(&o.name, "name", "", "host name under which the server is reached from elsewhere")
	f.StringVar(&o.public, "public-url", "", "address under which people reach the server from elsewhere, https://HOST (default the listener's)")
	f.StringVar(&o.hostImages, "host-images", "", "YAML file that tells the host executor the commands and programs of images")
	f.StringVar(&o.bridge, "bridge", "", "name of the bridge of the pods' own network (default what this data folder had, or the first of tiphys0, tiphys1, … that is free)")
	f.StringVar(&o.subnet, "subnet", "", "IPv4 network of the pods; the first /24 behind it is for Services (default what this data folder had, or the first of 10.88.0.0/16, 10.90.0.0/16, … that is free)")
	f.IntVar(&o.podProcesses, "pod-processes", local.DefaultProcesses, "how many processes and threads a pod may have, on Linux 6.14 and newer; -1 for no bound")
	f.UintSliceVar(&o.podPorts, "pod-ports", nil, "ports of this machine that pods may reach by TCP, beside the server's own and name service")
	f.BoolVar(&o.openNetwork, "open-pod-network", false, "let pods reach everything that this machine reaches, the machine itself and each other (docs/security.md)")
	f.IntVar(&o.pods, "pods", 0, "how many pods may be live at the same time; the others wait (default what processors, memory and descriptors bear)")
	f.StringArrayVar(&o.mirrors, "registry-mirror", nil, "pull images of a registry from elsewhere, HOST=URL (may be repeated)")
	f.StringVar(&o.tlsCert, "tls-cert", "", "file with the certificate of the port and those that vouch for it, in PEM; read again when it changes")
	f.StringVar(&o.tlsKey, "tls-key", "", "file with the key of the certificate, in PEM")
	f.BoolVar(&o.behindProxy, "behind-proxy", false, "listen beyond loopback without a certificate, because a proxy in front has one and nobody else reaches the port")
	f.IntVar(&o.perClient, "connections-per-client", clients.DefaultPerClient, "how many connections one client address may have at the same time, and this machine sixteen times that; 0 is no bound")
	f.StringArrayVar(&o.allowEgress, "allow-egress", nil, "let manifests have the server reach addresses that it refuses otherwise (loopback, link-local, metadata, its own), CIDR[:PORT] (may be repeated)")
	f.BoolVar(&o.keeper, "keeper", true, "have the port and the requests to applications in a process that outlives the server; with --keeper=false they end with it")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log more")
	f.StringArrayVar(&o.removed, removedFlag, nil, "")
	_ = f.MarkHidden(removedFlag) // it is there, so it can be hidden
	return c
}

func runServe(ctx context.Context, std IO, o serveOptions) (err error) {
	opt, err := o.server(std)
	if err != nil {
		return usage(err)
	}
	if entered, err := serveAsRoot(ctx, std, opt.Data, o.listen, o.stepsListen); entered {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	began := time.Now()
	s, err := wire.Open(ctx, opt)
	if err != nil {
		return err
	}
	defer func() {
		carries := s.Carries()
		err = errors.Join(err, s.Close())
		select {
		case <-interrupted:
			err = errors.Join(err, leave(context.WithoutCancel(ctx), std, opt.Data, carries))
		default:
		}
	}()
	fmt.Fprintf(std.Out, "Tiphys is at %s (data in %s, ready after %s)\n", s.URL(), opt.Data, time.Since(began).Round(time.Millisecond))
	noteToken(std, opt, s)
	if terminal(std.Out) {
		link, until, err := s.LoginURL(ctx, committerName(ctx, std))
		if err != nil {
			return fmt.Errorf("make a login link: %w", err)
		}
		fmt.Fprintf(std.Out, "Log in, once, until %s: %s\n", until.Local().Format(time.TimeOnly), link)
	}
	if std.Getenv("GOGC") == "" {
		// Little lives long here, and a collection takes the processor from deliveries: let there be twice as much in between.
		debug.SetGCPercent(200)
	}
	return s.Serve(ctx)
}

// noteToken has the command line of whoever started the server find the token that the server made. One that the operator gave stays
// where they keep it.
func noteToken(std IO, o wire.Options, s *wire.Server) {
	token, made := s.Token()
	if !made {
		return
	}
	address, err := addressOf(s.URL())
	if err != nil {
		o.Log.Warn("no command line finds the token by itself: set TIPHYS_TOKEN", "error", err)
		return
	}
	for _, n := range note(std, credential{Server: address, Data: o.Data, Token: token.Reveal()}) {
		if n.Err != nil {
			o.Log.Warn("the command line of a user will not find the token by itself: set TIPHYS_TOKEN, or run tiphys login --data", "folder", n.Folder, "error", n.Err)
		}
	}
}

// leave is for a person who pressed Ctrl-C, and so will not start the next server at once: nothing stays that has nothing to do.
func leave(ctx context.Context, std IO, data string, carries bool) error {
	if carries {
		fmt.Fprintln(std.Out, "Applications are still served: tiphys down --data "+data+" ends that")
		return nil
	}
	_, err := keeper.End(ctx, data)
	return err
}

func (o serveOptions) server(std IO) (wire.Options, error) {
	opt := wire.Options{
		Config: o.config, Listen: o.listen, StepsListen: o.stepsListen, Executor: o.executor, Name: o.name, Public: o.public, Version: Version, Keeper: o.keeper,
		Network: local.Network{Bridge: o.bridge, Subnet: o.subnet, Open: o.openNetwork}, Hide: hidden(std), Pods: o.pods, Processes: o.podProcesses, PerClient: o.perClient, BehindProxy: o.behindProxy, Grants: o.grants, Log: logger(std.Err, o.verbose), Fault: std.Fault,
	}
	for _, port := range o.podPorts {
		if port == 0 || port > math.MaxUint16 {
			return opt, fmt.Errorf("--pod-ports: %d is not a port: 1 to 65535", port)
		}
		opt.Network.Ports = append(opt.Network.Ports, uint16(port))
	}
	if len(o.removed) > 0 {
		return opt, fmt.Errorf("--%s was replaced by grants: %s", removedFlag, removedHint)
	}
	switch o.executor {
	case local.NameContainer, local.NameHost:
	case "docker", "kubernetes":
		return opt, fmt.Errorf("the %s executor is not part of this version: use --executor container or host", o.executor)
	default:
		return opt, fmt.Errorf("executor %q: use container or host", o.executor)
	}
	if o.public != "" {
		if _, err := wire.ParsePublic(o.public); err != nil {
			return opt, err
		}
	}
	if o.pods < 0 {
		return opt, fmt.Errorf("--pods %d: at least one pod must have a place", o.pods)
	}
	if o.perClient < 0 {
		return opt, fmt.Errorf("--connections-per-client %d: it cannot be less than none", o.perClient)
	}
	var err error
	if opt.Data, err = filepath.Abs(o.data); err != nil {
		return opt, err
	}
	if opt.Mirrors, err = parameters(o.mirrors); err != nil {
		return opt, err
	}
	for _, f := range []struct {
		from string
		to   *string
	}{{o.tlsCert, &opt.TLS.Cert}, {o.tlsKey, &opt.TLS.Key}} {
		if f.from != "" {
			if *f.to, err = filepath.Abs(f.from); err != nil {
				return opt, err
			}
		}
	}
	if opt.AllowEgress, err = egress.ParseRules(o.allowEgress); err != nil {
		return opt, fmt.Errorf("--allow-egress: %w", err)
	}
	if o.hostImages != "" {
		if opt.Images, err = local.ReadHostImages(o.hostImages); err != nil {
			return opt, err
		}
	}
	if o.config != "" {
		if st, err := os.Stat(o.config); err != nil || !st.IsDir() {
			return opt, fmt.Errorf("--config %s: it must be a folder of manifests", o.config)
		}
	}
	token := std.Getenv("TIPHYS_ADMIN_TOKEN")
	if o.tokenFile != "" {
		b, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return opt, fmt.Errorf("read admin token: %w", err)
		}
		token = string(b)
	}
	token = strings.TrimSpace(token)
	if token != "" && len(token) < wire.ShortestToken {
		return opt, fmt.Errorf("the admin token is too short: use at least %d characters", wire.ShortestToken)
	}
	opt.Token = secret.New(token)
	return opt, nil
}
