package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/executor/rootless"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/wire"
	"github.com/tiphys/tiphys/workflow"
)

type runOptions struct {
	parameters []string
	executor   string
	output     string
	data       string
	entrypoint string
	name       string
	mirrors    []string
	hostImages string
	quiet      bool
	verbose    bool
}

func newRun(std IO) *cobra.Command {
	o := runOptions{}
	c := &cobra.Command{
		Use:   "run FILE... [-p name=value]",
		Short: "Run Argo Workflow manifests on this machine, without a server",
		Long: `Run loads the other objects in the files (WorkflowTemplate, ConfigMap, Secret, PersistentVolumeClaim), runs
each Workflow with the server's own engine, and follows it. A file named - is standard input; a program (.ts, .js, .py, .go or
any executable file) makes its manifest first, see tiphys render.

Executors:
  container  images pulled from any OCI registry, each step in namespaces of its own, no daemon (the default)
  host       images are ignored; each step runs on a private copy-on-write view of this machine

The ledger is thrown away at the end, and the steps end with the command, unless --data names a folder to keep it in.

Exit status: 0 Succeeded, 1 Failed or Error, 2 a bad manifest or command line.`,
		Example: `  tiphys run hello.yaml
  tiphys run ci.yaml -p message=hello --executor host
  tiphys run ci.yaml -o json | jq .status.phase
  tiphys run ci.ts`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runRun(c.Context(), std, o, args) },
	}
	f := c.Flags()
	f.StringArrayVarP(&o.parameters, "parameter", "p", nil, "set a workflow parameter, name=value (may be repeated)")
	f.StringVar(&o.executor, "executor", local.NameContainer, "where steps run: container or host")
	f.StringVarP(&o.output, "output", "o", "", "json prints the finished Workflow in Argo's shape, and nothing else")
	f.StringVar(&o.data, "data", "", "keep the ledger, logs and artifacts in this folder")
	f.StringVar(&o.entrypoint, "entrypoint", "", "start at this template instead of spec.entrypoint")
	f.StringVar(&o.name, "name", "", "name of the run instead of metadata.name")
	f.StringArrayVar(&o.mirrors, "registry-mirror", nil, "pull images of a registry from elsewhere, HOST=URL (may be repeated)")
	f.StringVar(&o.hostImages, "host-images", "", "YAML file that tells the host executor the commands and programs of images (see docs/executors.md)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print the result only, no logs")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say more about what the program does")
	return c
}

func runRun(ctx context.Context, std IO, o runOptions, files []string) error {
	params, err := parameters(o.parameters)
	if err != nil {
		return usage(err)
	}
	if o.output != "" && o.output != "json" {
		return usage(fmt.Errorf("output %q: only json is known", o.output))
	}
	switch o.executor {
	case local.NameContainer, local.NameHost:
	case "docker":
		return usage(errors.New("the docker executor is not part of this version: use --executor container or host"))
	default:
		return usage(fmt.Errorf("executor %q: use container or host", o.executor))
	}
	if entered, err := asRoot(ctx, std, nil); entered {
		return err
	}
	objects, diags, made, err := decodeFiles(ctx, std, files)
	if err != nil {
		return usage(err)
	}
	workflows := 0
	for _, obj := range objects {
		if obj.Kind == "Workflow" {
			workflows++
		}
	}
	for _, d := range diags {
		if d.Severity == manifest.SeverityWarning && !o.quiet {
			fmt.Fprintln(std.Err, "warning: "+d.Error())
		}
	}
	if workflows == 0 {
		return usage(fmt.Errorf("no Workflow in %s: there is nothing to run", strings.Join(files, ", ")))
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = runAll(ctx, std, o, objects, params)
	var invalid *workflow.InvalidError
	if errors.As(err, &invalid) {
		made.placeAll(invalid.Diagnostics)
	}
	return err
}

// runAll runs every Workflow, one after another.
func runAll(ctx context.Context, std IO, o runOptions, objects []manifest.Object, params map[string]string) (err error) {
	mirrors, err := parameters(o.mirrors)
	if err != nil {
		return usage(err)
	}
	host := local.HostImages{}
	if o.hostImages != "" {
		if host, err = local.ReadHostImages(o.hostImages); err != nil {
			return usage(err)
		}
	}
	level := io.Discard
	if o.verbose {
		level = std.Err
	}
	m, err := wire.OpenMachine(ctx, wire.MachineOptions{
		Data: o.data, Mirrors: mirrors, Log: logger(level, true), Ephemeral: o.data == "", Objects: definitions.NewMemory(objects),
		Executor: o.executor, HostImages: host, Egress: egress.Unrestricted(),
		Network: local.Network{Open: true, Bare: true, Shared: !rootless.OwnNetwork()}, // the pods are their own user's
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	m.Start(ctx)
	failed := false
	for _, obj := range objects {
		if obj.Kind != "Workflow" {
			continue
		}
		run, err := runOne(ctx, std, o, m, runs.Submission{
			Object: obj, Parameters: params, Entrypoint: o.entrypoint, Name: o.name, Actor: "user:" + userName(std),
		})
		if err != nil {
			return err
		}
		failed = failed || run.Phase != workflow.Succeeded
	}
	if failed {
		return errRunFailed
	}
	return nil
}

// endGrace is how long an interrupted run may take to stop its steps.
const endGrace = 30 * time.Second

func runOne(ctx context.Context, std IO, o runOptions, m *wire.Machine, s runs.Submission) (workflow.Run, error) {
	run, err := m.Runs.Submit(ctx, s)
	if err != nil {
		return run, err
	}
	if !o.quiet {
		printWarnings(std.Err, run.Conditions)
	}
	ended := make(chan struct{})
	defer close(ended)
	follow, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	go func() {
		select {
		case <-ended:
		case <-ctx.Done():
			_ = m.Runs.Control(follow, run.Namespace, run.Name, workflow.Control{Meta: workflow.Meta{Actor: s.Actor}, Verb: workflow.Terminate})
			select {
			case <-ended:
			case <-time.After(endGrace):
				cancel(errors.New("interrupted"))
			}
		}
	}()
	if o.output == "json" || o.quiet {
		// Nobody looks before the end, so nothing is read before it.
		if run, err = m.Runs.Wait(follow, run.Namespace, run.Name); err != nil {
			return run, err
		}
	}
	if o.output == "json" {
		status, err := m.Runs.Status(follow, run.Namespace, run.Name)
		if err != nil {
			return run, err
		}
		return run, printJSON(std.Out, status)
	}
	return newFollower(std.Out, m, o.quiet).follow(follow, run)
}

// decodeFiles reads manifests, and runs programs that make some; an error in one of them is the returned error. What is found in the
// objects later is given its place by made.
func decodeFiles(ctx context.Context, std IO, files []string) (objects []manifest.Object, diags []manifest.Diagnostic, made makers, err error) {
	made = makers{}
	for _, file := range files {
		m, err := makeManifest(ctx, std, file)
		if err != nil {
			return nil, nil, nil, err
		}
		made.add(file, m)
		found, ds := manifest.Decode(manifestName(file), m.Text)
		objects, diags = append(objects, found...), append(diags, made.placeAll(ds)...)
	}
	return objects, diags, made, manifest.FirstError(diags)
}

// manifestName is a manifest's name for what is said of it: of one that a program makes, the lines are those of tiphys render.
func manifestName(file string) string {
	if kindOfFile(file) != pipeline.Manifest {
		return file + " (rendered)"
	}
	return file
}

// maxManifest bounds what is read of one file before it is looked at.
const maxManifest = 64 << 20

func readFile(in io.Reader, name string) ([]byte, error) {
	if name == "-" {
		data, err := io.ReadAll(io.LimitReader(in, maxManifest))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return data, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return data, nil
}

// parameters reads name=value pairs.
func parameters(pairs []string) (map[string]string, error) {
	m := map[string]string{}
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not of the form name=value", p)
		}
		m[name] = value
	}
	return m, nil
}

func userName(std IO) string {
	if u := std.Getenv("USER"); u != "" {
		return u
	}
	return fmt.Sprintf("uid-%d", os.Getuid())
}
