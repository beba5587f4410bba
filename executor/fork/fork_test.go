package fork_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/fork"
)

const (
	firstID = 0x7ffd0000 // the last range of pods
	idCount = 65536
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: namespaces and users are not tried without root")
	}
}

// spaces are a user namespace and the network namespace that belongs to it.
func spaces(t *testing.T) (users, network int) {
	t.Helper()
	users, network, err := fork.Spaces(firstID, idCount)
	if err != nil {
		t.Skip("SKIPPED: user namespaces cannot be had here: ", err)
	}
	t.Cleanup(func() { _, _ = unix.Close(users), unix.Close(network) })
	return users, network
}

// output starts a shell script and gives what it printed and its exit code.
func output(t *testing.T, c fork.Command, script string) (string, int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = null.Close(), r.Close() }()
	c.Path, c.Args, c.Env, c.Files = "/bin/sh", []string{"sh", "-c", script}, []string{"PATH=/usr/bin:/bin"}, [3]int{int(null.Fd()), int(w.Fd()), int(w.Fd())}
	if c.Dir == "" {
		c.Dir = "/"
	}
	pid, err := c.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var how syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &how, 0, nil); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text)), how.ExitStatus()
}

func TestSpaces(t *testing.T) {
	needRoot(t)
	users, network := spaces(t)
	owner, err := unix.IoctlRetInt(network, unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(owner) }()
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(users, &a), unix.Fstat(owner, &b)); err != nil || a.Ino != b.Ino {
		t.Errorf("the network belongs to another user namespace: %v", err)
	}
	for _, fd := range []int{users, network} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d is inherited: %v", fd, err)
		}
	}
	got, _ := output(t, fork.Command{Users: users, UID: 7, GID: 8, Groups: []uint32{9}}, "cat /proc/self/uid_map; id -u; id -G; grep CapEff /proc/self/status")
	want := fmt.Sprintf("0 %d %d 7 8 9 CapEff: 0000000000000000", firstID, idCount)
	if got = strings.Join(strings.Fields(got), " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStartIsWhatTheCommandSays(t *testing.T) {
	needRoot(t)
	users, _ := spaces(t)
	const some = 1<<unix.CAP_CHOWN | 1<<unix.CAP_KILL
	for name, c := range map[string]struct {
		command      fork.Command
		script, want string
	}{
		"root of the namespace": {fork.Command{Users: users, Capabilities: some}, "id -u; grep -E 'Cap(Bnd|Eff)' /proc/self/status", "0 CapEff: 0000000000000021 CapBnd: 0000000000000021"},
		"root outside":          {fork.Command{Users: -1, Capabilities: some}, "id -u; grep -E 'Cap(Bnd|Eff)' /proc/self/status", "0 CapEff: 0000000000000021 CapBnd: 0000000000000021"},
		"privileges":            {fork.Command{Users: -1, NoNewPrivs: true}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs: 1"},
		"files":                 {fork.Command{Users: -1, Descriptors: &syscall.Rlimit{Cur: 99, Max: 100}}, "ulimit -Sn; ulimit -Hn", "99 100"},
		"cgroup":                {fork.Command{Users: -1, Cgroups: true}, "grep -v ':/$' /proc/self/cgroup | wc -l", "0"},
		"folder":                {fork.Command{Users: -1, Dir: "/usr/bin"}, "pwd; test $(ps -o sid= $$) = $$ && echo session", "/usr/bin session"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := output(t, c.command, c.script)
			if got = strings.Join(strings.Fields(got), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestStartSaysWhatFailed(t *testing.T) {
	needRoot(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	fd := int(null.Fd())
	for name, c := range map[string]struct {
		command fork.Command
		want    string
		errno   syscall.Errno
	}{
		"program": {fork.Command{Path: "/no/such/program", Dir: "/", Users: -1}, "execute: no such file or directory", syscall.ENOENT},
		"folder":  {fork.Command{Path: "/bin/true", Dir: "/no/such", Users: -1}, "enter the working folder: no such file or directory", syscall.ENOENT},
		"root":    {fork.Command{Path: "/bin/true", Dir: "/", Root: "/no/such", Users: -1}, "enter the root folder: no such file or directory", syscall.ENOENT},
		"users":   {fork.Command{Path: "/bin/true", Dir: "/", Users: fd}, "enter the user namespace: invalid argument", syscall.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			c.command.Args, c.command.Files = []string{"x"}, [3]int{fd, fd, fd}
			_, err := c.command.Start()
			if err == nil || !errors.Is(err, c.errno) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := (&fork.Command{Path: "/bin/true", Dir: "/", Files: [3]int{0, 1, 2}}).Start(); err == nil {
		t.Error("descriptors that are overwritten are taken")
	}
}

func TestOpenAsAUser(t *testing.T) {
	needRoot(t)
	users, _ := spaces(t)
	dir := t.TempDir()
	for name, owner := range map[string]int{"outside": 0, "inside": firstID + 1000, "other": firstID + 2000} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(name), 0o600), os.Chown(path, owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	all := ^uint64(0)
	for name, c := range map[string]struct {
		user fork.User
		can  string
	}{
		"its owner":              {fork.User{Users: users, UID: 1000, GID: 1000, Capabilities: all}, "inside"},
		"root of the namespace":  {fork.User{Users: users, Capabilities: all}, "inside other"},
		"root without rights":    {fork.User{Users: users}, ""},
		"root outside":           {fork.User{Users: -1, Capabilities: all}, "inside other outside"},
		"root outside, the same": {fork.User{Users: -1}, "outside"},
		"somebody outside":       {fork.User{Users: -1, UID: 65534, GID: 65534, Capabilities: all}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var can []string
			for _, file := range []string{"inside", "other", "outside"} {
				fd, err := c.user.Open(int(folder.Fd()), file, fork.How{Flags: syscall.O_RDONLY})
				if errors.Is(err, os.ErrPermission) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				_ = unix.Close(fd)
				can = append(can, file)
			}
			if got := strings.Join(can, " "); got != c.can {
				t.Errorf("opens %q, want %q", got, c.can)
			}
		})
	}
	if _, err := (fork.User{Users: -1}).Open(int(folder.Fd()), "none", fork.How{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// Children are made beside goroutines that allocate and grow their stacks: the memory is shared with each for a moment.
func TestManyAtOnce(t *testing.T) {
	needRoot(t)
	users, _ := spaces(t)
	stop := make(chan struct{})
	var busy, all sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					_ = deep(n%500, make([]byte, 1<<12))
				}
			}
		})
	}
	for range 4 {
		all.Go(func() {
			for range 25 {
				if got, code := output(t, fork.Command{Users: users, UID: 5, GID: 5}, "id -u; exit 3"); got != "5" || code != 3 {
					t.Errorf("%q, exit code %d", got, code)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	busy.Wait()
}

func deep(n int, b []byte) int {
	var room [64]byte
	if n == 0 {
		return len(b) + int(room[0])
	}
	return deep(n-1, append(b[:len(b):len(b)], room[:]...))
}

// A process enters the namespaces that it is given, as root of the user namespace that owns them.
func TestEnterSpaces(t *testing.T) {
	needRoot(t)
	users, network := spaces(t)
	got, status := output(t, fork.Command{Users: users, Spaces: []int{network}, Capabilities: ^uint64(0)}, "readlink /proc/self/ns/net; tail -n +3 /proc/net/dev | wc -l; id -u")
	var want unix.Stat_t
	if err := unix.Fstat(network, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fmt.Sprintf("net:[%d]\n1\n0", want.Ino), got); diff != "" || status != 0 {
		t.Errorf("status %d: %s", status, diff)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	no := fork.Command{Path: "/bin/true", Args: []string{"true"}, Env: []string{"A=1"}, Dir: "/", Users: users, Spaces: []int{int(null.Fd())}, Files: [3]int{int(null.Fd()), int(null.Fd()), int(null.Fd())}}
	var failed *fork.Error
	if _, err := no.Start(); !errors.As(err, &failed) || failed.Step != "enter a namespace" {
		t.Errorf("what is no namespace: %v", err)
	}
}

// Where nobody may change groups a process keeps those that there are.
func TestKeepGroups(t *testing.T) {
	needRoot(t)
	before, err := syscall.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setgroups([]int{4, 24}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setgroups(before) }()
	for keep, want := range map[bool]string{true: "0 4 24", false: "0"} {
		if got, status := output(t, fork.Command{Users: -1, KeepGroups: keep, Capabilities: ^uint64(0)}, "id -G"); got != want || status != 0 {
			t.Errorf("keep %t: %q, status %d", keep, got, status)
		}
	}
}
