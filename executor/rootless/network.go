package rootless

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/protocol"
)

// Network is a network of a namespace's own. pasta connects it: what leaves it does so as this user, with the addresses of the machine, of
// which nothing is reached by their own name; what comes to one of the ports arrives at the same address inside.
type Network struct {
	// Folder is where the namespaces are noted, with mode 0700 or less: who enters them does so by this note.
	Folder string
	// Ports are those of this machine that lead into the network.
	Ports []netip.AddrPort
}

// connector is the program that connects networks.
const connector = "pasta"

// Connector is the path of the program that connects networks; empty where there is none.
func Connector() string {
	path, err := exec.LookPath(connector)
	if err != nil {
		return ""
	}
	return path
}

// file is where namespaces are noted, in the folder.
const file = "namespaces.json"

// note is what is known of the namespaces of a folder's server.
type note struct {
	Boot string `json:"boot"`
	// User, Mount and Net are the numbers of the namespaces.
	User  uint64 `json:"user"`
	Mount uint64 `json:"mount"`
	Net   uint64 `json:"net"`
	// Connector is the process that connects the network, for these ports.
	Connector protocol.Shim    `json:"connector"`
	Ports     []netip.AddrPort `json:"ports"`
}

func readNote(folder string) (n note, err error) {
	raw, err := os.ReadFile(filepath.Join(folder, file))
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err != nil {
		return note{}, fmt.Errorf("read which namespaces the server had: %w: remove %s if nothing of it runs any more", err, filepath.Join(folder, file))
	}
	if boot, err := protocol.BootID(); err != nil || boot != n.Boot {
		return note{}, err // nothing outlives the machine
	}
	return n, nil
}

func (n note) write(folder string) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("note the namespaces: %w", err)
	}
	if err := protocol.WriteFile(filepath.Join(folder, file), raw, true); err != nil {
		return fmt.Errorf("note the namespaces: %w", err)
	}
	return nil
}

// spaces are the namespaces of a process that matter here. A process that may not be looked at has none.
func spaces(pid int) (n note, ok bool) {
	for name, number := range map[string]*uint64{"user": &n.User, "mnt": &n.Mount, "net": &n.Net} {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
		if err != nil {
			return n, false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return n, false
		}
		*number = st.Ino
	}
	return n, true
}

// somebody finds a process that is in the namespaces; 0 if there is none.
func (n note) somebody() (pid int, err error) {
	if n.User == 0 {
		return 0, nil
	}
	list, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("look for the server's namespaces: %w", err)
	}
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == n.Connector.PID {
			continue
		}
		if has, ok := spaces(pid); ok && has.User == n.User && has.Mount == n.Mount && has.Net == n.Net {
			return pid, nil
		}
	}
	return 0, nil
}

// empties waits until nobody is in the namespaces, for so long at most, and tells whether that is so.
func (n note) empties(within time.Duration) (bool, error) {
	limit := time.Now().Add(within)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		pid, err := n.somebody()
		if err != nil || pid == 0 {
			return err == nil, err
		}
		if time.Now().After(limit) {
			return false, nil
		}
		<-look.C
	}
}

// connect connects the network of a process, which is new, and notes its namespaces.
func (o *Network) connect(ctx context.Context, pid int) error {
	before, err := readNote(o.Folder)
	if err != nil {
		return err
	}
	if err := before.disconnect(ctx); err != nil {
		return err
	}
	n, ok := spaces(pid)
	if !ok {
		return errors.New("the new namespaces cannot be looked at: /proc is not there, or hides processes")
	}
	return o.start(ctx, pid, n)
}

// start starts the connector for the network of a process, and notes it.
func (o *Network) start(ctx context.Context, pid int, n note) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if n.Boot, err = protocol.BootID(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Folder, 0o700); err != nil {
		return fmt.Errorf("connect the network: %w", err)
	}
	where := filepath.Join(o.Folder, "connector.pid")
	args := []string{
		"--config-net", "--quiet", "--no-map-gw", "--no-netns-quit", "--pid", where,
		"--userns", fmt.Sprintf("/proc/%d/ns/user", pid), "--netns", fmt.Sprintf("/proc/%d/ns/net", pid),
		"--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
	}
	for _, p := range o.Ports {
		port := strconv.Itoa(int(p.Port()))
		if !p.Addr().IsUnspecified() {
			port = p.Addr().String() + "/" + port
		}
		args = append(args, "--tcp-ports", port)
	}
	if len(o.Ports) == 0 {
		args = append(args, "--tcp-ports", "none")
	}
	// It goes on in the background when the network is connected.
	said := &bytes.Buffer{}
	cmd := exec.CommandContext(ctx, connector, args...)
	cmd.Stderr, cmd.WaitDelay = said, time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%s does not connect the network: %s: %w", connector, complaint(said.Bytes()), err)
	}
	raw, err := os.ReadFile(where)
	if err == nil {
		n.Connector.PID, err = strconv.Atoi(strings.TrimSpace(string(raw)))
	}
	if err == nil {
		n.Connector.Boot = n.Boot
		n.Connector.Start, err = protocol.StartTime(n.Connector.PID)
	}
	if err != nil {
		return fmt.Errorf("%s does not say which process it is: %w", connector, err)
	}
	n.Ports = o.Ports
	return n.write(o.Folder)
}

// complaint is what a program said last, bounded.
func complaint(said []byte) []byte {
	said = bytes.TrimSpace(said)
	return said[max(0, len(said)-500):]
}

// disconnect ends the connector of namespaces, and waits until it has.
func (n note) disconnect(ctx context.Context) error {
	if n.Connector.PID == 0 || !n.Connector.Alive() {
		return nil
	}
	if err := syscall.Kill(n.Connector.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end %s (process %d): %w", connector, n.Connector.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for n.Connector.Alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s (process %d) does not end: %w", connector, n.Connector.PID, ctx.Err())
		case <-look.C:
		}
	}
	return nil
}

// keep sees to it that a network that is there already is connected for these ports.
func (o *Network) keep(ctx context.Context, pid int, n note) error {
	if n.Connector.PID != 0 && n.Connector.Alive() && slices.Equal(n.Ports, o.Ports) {
		return nil
	}
	if err := n.disconnect(ctx); err != nil {
		return err
	}
	return o.start(ctx, pid, n)
}

// Leave disconnects the network of a folder's namespaces if nobody is in them any more: no server, no keeper and no pod. Who is about to end has so
// long to do so.
func Leave(ctx context.Context, folder string, ending time.Duration) error {
	ctx = context.WithoutCancel(ctx)
	n, err := readNote(folder)
	if err != nil || n.User == 0 {
		return err
	}
	if empty, err := n.empties(ending); err != nil || !empty {
		return err
	}
	if err := n.disconnect(ctx); err != nil {
		return err
	}
	for _, name := range []string{file, "connector.pid"} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget the namespaces: %w", err)
		}
	}
	return nil
}
