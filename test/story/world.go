package story

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// World is the stage: a folder of its own, a server, a clone of the repository.
type World struct {
	o Options
	// Dir holds everything; Config, Data and Clone are in it.
	Dir, Config, Data, Clone string
	// URL is the server's address: http://127.0.0.1:PORT.
	URL     string
	port    string
	logFile string
	// settings is the server's configuration file, which is the operator's and in no repository.
	settings string
	// home is what the server and its users remember of each other in: the command line's keyring.
	home string
	// bridge and subnet of the pods are this world's own, so that it can be played beside another server.
	bridge, subnet string

	mu      sync.Mutex
	program string // of the server
	server  *exec.Cmd
	ended   chan struct{}
	closed  bool

	// What the story remembers from act to act.
	first, feature, merged string // commits
	beforeMerge            time.Time
	head                   string // file with a signed head of the ledger
	tag                    string // id of the tag's event
	before                 Leftovers
}

// Open prepares a stage: a folder, a copy of the sample in it, a free port. Nothing runs yet; end with Close.
func Open(o Options) (*World, error) {
	dir, err := os.MkdirTemp("", "tiphys-story-")
	if err != nil {
		return nil, fmt.Errorf("make the stage: %w", err)
	}
	if o.Names == (Names{}) {
		o.Names = Harbour
	}
	w := &World{
		o: o, Dir: dir, Config: filepath.Join(dir, "config"), Data: filepath.Join(dir, "data"), Clone: filepath.Join(dir, o.Names.Repo),
		logFile: filepath.Join(dir, "server.log"), home: filepath.Join(dir, "home"),
	}
	if err := w.configure(); err != nil {
		return nil, err
	}
	if w.o.Tiphys, err = filepath.Abs(o.Tiphys); err != nil {
		return nil, err
	}
	w.program = w.o.Tiphys
	for _, d := range []string{w.Config, w.Clone, w.home} {
		if err := os.Mkdir(d, 0o755); err != nil { //nolint:gosec // others read it, as they would
			return nil, fmt.Errorf("make the stage: %w", err)
		}
	}
	if err := Copy(o.Sample, w.Clone, o.Names); err != nil {
		return nil, err
	}
	if o.Edit != nil {
		if err := o.Edit(w.Clone); err != nil {
			return nil, fmt.Errorf("edit the sample: %w", err)
		}
	}
	if err := os.CopyFS(w.Config, os.DirFS(filepath.Join(w.Clone, "tiphys"))); err != nil {
		return nil, fmt.Errorf("copy the definitions: %w", err)
	}
	if w.port, err = freePort(); err != nil {
		return nil, err
	}
	w.URL = "http://127.0.0.1:" + w.port
	if err := w.network(); err != nil {
		return nil, err
	}
	w.before = w.Leftovers()
	return w, nil
}

// configure writes the server's configuration file. What the repositories' pipelines say, that of a merge request too, is executed with
// this machine's own Go: it has to be granted.
func (w *World) configure() error {
	grants := append([]string{
		"{to: {repositories: [" + w.o.Names.Repo + "], mergeRequests: true}, executors: [host]}",
		"{to: {repositories: [gitlab.example.org/*], mergeRequests: true}, executors: [host]}",
		"{to: {roles: [admin]}, executors: [host]}",
	}, w.o.Grants...)
	w.settings = filepath.Join(w.Dir, "server.yaml")
	text := "apiVersion: tiphys.dev/v1alpha1\nkind: ServerConfiguration\nexecutor: host\ngrants:\n- " + strings.Join(grants, "\n- ") + "\n"
	if len(w.o.Egress) > 0 {
		text += "allowEgress: [" + strings.Join(w.o.Egress, ", ") + "]\n"
	}
	if err := os.WriteFile(w.settings, []byte(text), 0o600); err != nil {
		return fmt.Errorf("make the stage: %w", err)
	}
	return nil
}

// Token is the admin token that the server made.
func (w *World) Token() (string, error) {
	raw, err := os.ReadFile(filepath.Join(w.Data, "keys", "admin.token"))
	return strings.TrimSpace(string(raw)), err
}

// env is the environment of the program and of git here: what they remember, they remember in the stage's folder.
func (w *World) env(more ...string) []string {
	return append(append(os.Environ(), "XDG_CONFIG_HOME="+w.home, "SUDO_UID=", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"), more...)
}

// GitEnv is the environment of git for somebody who commits, and pushes with the admin token.
func (w *World) GitEnv(name, email string) []string {
	token, err := w.Token()
	if err != nil {
		token = "none: no server has run yet"
	}
	header := "http." + w.URL + ".extraHeader"
	return w.env("GIT_AUTHOR_NAME="+name, "GIT_AUTHOR_EMAIL="+email, "GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+email,
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0="+header, "GIT_CONFIG_VALUE_0=Authorization: Bearer "+token, "GIT_CONFIG_KEY_1="+header, "GIT_CONFIG_VALUE_1=Tiphys-User: "+name)
}

// network names a bridge and networks after the port, which is this world's own: the pods have a /24, and the
// Services the one behind it.
func (w *World) network() error {
	n, err := strconv.Atoi(w.port)
	if err != nil {
		return err
	}
	w.bridge = "tiphys" + w.port
	w.subnet = fmt.Sprintf("10.%d.%d.0/24", 100+n/128%100, n%128*2)
	return nil
}

// freePort finds a port below those that the system gives to connections: while the server is killed and started
// again none of them takes its port.
func freePort() (string, error) {
	var lc net.ListenConfig
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(12000)) //nolint:gosec // any will do
		l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			return port, l.Close()
		}
	}
	return "", errors.New("find a free port: there is none between 20000 and 32000")
}

// Start starts the server and waits until it is ready.
func (w *World) Start(ctx context.Context) error {
	if err := w.launch(); err != nil {
		return err
	}
	return w.ready(ctx)
}

// Use has another program be the server from its next start on: another version of it.
func (w *World) Use(program string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.program = program
}

func (w *World) launch() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil || w.closed {
		return errors.New("the server runs already, or the story has ended")
	}
	log, err := os.OpenFile(w.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	// It outlives the call that starts it, and ends by Stop, Kill or Close.
	cmd := exec.CommandContext(context.Background(), w.program, "serve", "--server-config", w.settings, "--config", w.Config, "--data", w.Data,
		"--listen", "127.0.0.1:"+w.port, "--bridge", w.bridge, "--subnet", w.subnet)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = w.env(w.o.Env...)
	// A session of its own, so that a Ctrl-C in the terminal reaches the player only and it can stop in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	w.server, w.ended = cmd, ended
	return nil
}

// ready waits for /readyz.
func (w *World) ready(ctx context.Context) error {
	return w.Within(ctx, 15*time.Second, "the server is ready", func(ctx context.Context) error {
		w.mu.Lock()
		ended := w.ended
		w.mu.Unlock()
		select {
		case <-ended:
			if !w.o.Rough {
				return final(errors.New("the server ended"))
			}
		default:
		}
		return w.Get(ctx, "", "/readyz", nil)
	})
}

// Kill ends the server without warning; group ends its whole process group.
func (w *World) Kill(group bool) { w.signal(syscall.SIGKILL, group) }

// Stop asks the server to end.
func (w *World) Stop() { w.signal(syscall.SIGTERM, false) }

func (w *World) signal(s syscall.Signal, group bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server == nil {
		return
	}
	pid := w.server.Process.Pid
	if group {
		pid = -pid
	}
	_ = syscall.Kill(pid, s)
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	select {
	case <-w.ended:
	case <-patience.C:
		_ = w.server.Process.Kill()
		<-w.ended
	}
	w.server, w.ended = nil, nil
}

// KillAndRestart ends the server without warning and starts it again.
func (w *World) KillAndRestart(group bool) error {
	w.Kill(group)
	return w.launch()
}

// Tend starts the server again whenever it was killed, until the returned function is called; that one tells how often
// it was, and what else went wrong.
func (w *World) Tend(ctx context.Context) (stop func() (kills int, err error)) {
	ctx, cancel := context.WithCancel(ctx)
	var kills int
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for failed == nil {
			w.mu.Lock()
			server, ended := w.server, w.ended
			w.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-ended:
			case <-time.After(between): // Nobody may have started one yet.
				continue
			}
			w.mu.Lock()
			if w.server != server {
				w.mu.Unlock()
				continue
			}
			w.server, w.ended = nil, nil
			w.mu.Unlock()
			if status, ok := server.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				failed = fmt.Errorf("the server ended by itself: %s", server.ProcessState)
				return
			}
			kills++
			failed = w.launch()
		}
	}()
	return func() (int, error) {
		cancel()
		<-done
		return kills, failed
	}
}

// Close stops what is left, by force if need be, and removes the folder of a story that went well.
func (w *World) Close(ctx context.Context, well bool) error {
	w.mu.Lock()
	w.closed = true // Nobody starts the server again.
	w.mu.Unlock()
	w.Stop()
	if _, err := os.Stat(w.Data); err == nil {
		if _, err := w.Tiphys(ctx, "down", "--data", w.Data); err != nil && well {
			return err
		}
	}
	// A process that has let go of everything takes a moment to end on a busy machine.
	const moment = 10 * time.Second
	left := w.Leftovers().since(w.before)
	_ = w.Within(ctx, moment, "nothing is left behind", func(context.Context) error {
		if left = w.Leftovers().since(w.before); !left.empty() {
			return errors.New(left.String())
		}
		return nil
	}) // what is left then is said below
	w.sweep(ctx)
	if !well {
		fmt.Fprintf(w.o.Out, "\nthe data, the clone and the server's log are in %s\n", w.Dir)
		return nil
	}
	if !left.empty() {
		return fmt.Errorf("left behind after the end: %s (kept in %s)", left, w.Dir)
	}
	return os.RemoveAll(w.Dir)
}
