package rootless

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor/fork"
	"github.com/tiphys/tiphys/executor/protocol"
)

// Lines are "user:first:count" (subuid(5)); what is none, or would not fit into a mapping, is left out.
func TestSubordinateIDs(t *testing.T) {
	own := os.Geteuid()
	text := fmt.Sprintf("somebody:100000:65536\n%[1]d:200000:1000\n# a comment\n%[1]d:300000:x\n%[1]d:-1:5\n%[1]d:1:0\n%[1]d:4294967290:10\n%[1]d:5:3000000000\n%[1]d:400000:24\n", own)
	name := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := subordinate(name)
	if diff := cmp.Diff([]Range{{200000, 1000}, {400000, 24}}, got); diff != "" {
		t.Error(diff)
	}
	if n := (Mapping{Users: got}).Count(); n != 1024 {
		t.Errorf("%d ids", n)
	}
	if got := subordinate(name + "-none"); got != nil {
		t.Errorf("of no file: %v", got)
	}
	many := strings.Repeat(fmt.Sprintf("%d:7:1\n", own), 1000)
	if err := os.WriteFile(name, []byte(many), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := subordinate(name); len(got) != mostRanges {
		t.Errorf("%d ranges", len(got))
	}
}

// This process is in namespaces of its own right or of the machine's; another one's are told from them.
func TestSomebody(t *testing.T) {
	own, ok := spaces(os.Getpid())
	if !ok {
		t.Fatal("this process's namespaces cannot be told")
	}
	if pid, err := own.somebody(); err != nil || pid == 0 {
		t.Errorf("nobody is in this process's namespaces: %v", err)
	}
	own.Net++
	if pid, err := own.somebody(); err != nil || pid != 0 {
		t.Errorf("process %d is in namespaces that are not there: %v", pid, err)
	}
	if pid, err := (note{}).somebody(); err != nil || pid != 0 {
		t.Errorf("process %d is in no namespaces: %v", pid, err)
	}
}

// A note of another boot is none; one that cannot be read is an error that says what to do; leaving ends the connector and forgets.
func TestNote(t *testing.T) {
	boot, err := protocol.BootID()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "rootless")
	if n, err := readNote(dir); err != nil || n.User != 0 {
		t.Errorf("none: %+v %v", n, err)
	}
	if err := Leave(t.Context(), dir, 0); err != nil {
		t.Errorf("leave nothing: %v", err)
	}
	connector := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := connector.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := protocol.StartTime(connector.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	n := note{Boot: boot, User: 1, Mount: 2, Net: 3, Connector: protocol.Shim{PID: connector.Process.Pid, Start: start, Boot: boot}, Ports: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2746")}}
	if err := n.write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := readNote(dir)
	if diff := cmp.Diff(n, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	ended := make(chan error, 1)
	go func() { ended <- connector.Wait() }()
	if err := Leave(t.Context(), dir, 0); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := <-ended; !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the connector ended with %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	n.Boot = "another"
	if err := n.write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := readNote(dir); err != nil || got.User != 0 {
		t.Errorf("of another boot: %+v %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readNote(dir); err == nil || !strings.Contains(err.Error(), "remove ") {
		t.Errorf("damaged: %v", err)
	}
}

// On the machine itself there are all users; the network is this process's to change where it is root of its owner.
func TestUsers(t *testing.T) {
	count, machine := fork.MachineUsers()
	if count == 0 || machine && count != 1<<32-1 && count != 1<<32 {
		t.Errorf("%d users, the machine's: %t", count, machine)
	}
	if machine && !OwnNetwork() {
		t.Error("on the machine itself its network is nobody's")
	}
}

// Name servers on loopback are out of reach of a network of its own (resolv.conf(5)).
func TestReaches(t *testing.T) {
	for text, want := range map[string]bool{
		"nameserver 127.0.0.53\nsearch x\n": false, "nameserver ::1\n": false, "nameserver 127.0.0.1\nnameserver 192.0.2.1\n": true,
		"# nameserver 192.0.2.1\n": false, "nameserver fe80::1%eth0": true, "nameserver": false, "": false, "nameserver none": false,
	} {
		name := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if reaches(name) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
	if reaches("/none/such") {
		t.Error("a file that is not there names a server")
	}
}
