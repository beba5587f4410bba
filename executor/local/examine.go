package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/fork"
	"github.com/tiphys/tiphys/executor/rootless"
)

// State is how far something is there that a server wants of its machine.
type State string

// The states.
const (
	StateOK      State = "ok"
	StateLimited State = "limited" // it works without, and Condition says what does not
	StateMissing State = "missing" // steps cannot be executed
)

// Condition is something that a server wants of its machine.
type Condition struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Found is what is there, or what cannot be had without it.
	Found string `json:"found"`
	// Do is what to do about it; empty where nothing need be done.
	Do string `json:"do,omitempty"`
}

// Kernels that bring something (major, minor).
const (
	leastMajor, leastMinor = 5, 6  // look-ups that stay below a folder (openat2(2))
	pidMajor, pidMinor     = 6, 14 // pid_max counts by PID namespace
)

// Examine says what this machine has of what pods want, for a data folder, which need not be there yet. It changes nothing.
func Examine(data string) []Condition {
	return []Condition{
		examineRoot(), examineKernel(), examineUsers(), examineMapped(data), examineOverlay(), examineCgroups(), examineFirewall(), examineSeccomp(), examineProcesses(),
		examineIDs(), examineConnector(),
	}
}

func examineRoot() Condition {
	c := Condition{Name: "root", State: StateOK, Found: "yes"}
	if os.Geteuid() != 0 {
		c.State, c.Found = StateLimited, fmt.Sprintf("user %d: run and serve make themselves root of a user namespace, and root in a pod is this user for the kernel", os.Geteuid())
	}
	return c
}

func examineKernel() Condition {
	var name unix.Utsname
	c := Condition{Name: "kernel", State: StateOK}
	if err := unix.Uname(&name); err != nil {
		return Condition{Name: "kernel", State: StateLimited, Found: "cannot be told: " + err.Error()}
	}
	c.Found = "Linux " + unix.ByteSliceToString(name.Release[:])
	switch {
	case !kernelAtLeast(leastMajor, leastMinor):
		c.State, c.Do = StateMissing, fmt.Sprintf("install Linux %d.%d or newer", leastMajor, leastMinor)
	case !kernelAtLeast(pidMajor, pidMinor):
		c.State, c.Do = StateLimited, fmt.Sprintf("Linux %d.%d bounds the processes of each pod, and %s gives pods users of their own", pidMajor, pidMinor, leastOverlay)
	}
	return c
}

// examineUsers tries a user namespace.
func examineUsers() Condition {
	c := Condition{Name: "user namespaces", State: StateOK, Found: "pods have users of their own"}
	first, size := uint32(firstUser), uint32(1)
	users, network, err := fork.Spaces(first, size)
	var path *fs.PathError
	switch {
	case err == nil:
		_, _ = unix.Close(users), unix.Close(network)
	case os.Geteuid() != 0 && errors.As(err, &path): // it was made, and is for others to say who is who
		c.Found = "may be made"
	case os.Geteuid() != 0:
		c.State, c.Found = StateMissing, "none: "+err.Error()+": neither run nor serve start for this user"
		c.Do = "raise user.max_user_namespaces (sysctl), allow them where a security module or a container engine refuses them, or run tiphys as root"
	default:
		c.State, c.Found = StateLimited, "none: "+err.Error()+": root in a container is root for the kernel"
		c.Do = "raise user.max_user_namespaces (sysctl), and allow them where a security module or a container engine refuses them"
	}
	return c
}

// examineMapped tries a mount that translates ids where the data folder is or will be.
func examineMapped(data string) Condition {
	c := Condition{Name: "idmapped mounts", State: StateOK}
	dir := Nearest(data)
	c.Found = "in " + dir
	if os.Geteuid() != 0 {
		return Condition{Name: "idmapped mounts", State: StateOK, Found: "not used without root"}
	}
	users, network, err := fork.Spaces(firstUser, 1)
	if err == nil {
		_ = unix.Close(network)
		space := os.NewFile(uintptr(users), "users")
		err = translates(dir, space)
		_ = space.Close()
	}
	if err != nil {
		c.State, c.Found = StateLimited, fmt.Sprintf("not in %s: %v: root in a container is root for the kernel", dir, err)
		c.Do = "put the data folder on ext4, xfs, btrfs or another file system that can, with Linux " + leastOverlay + " or newer"
	}
	return c
}

// Nearest is the folder itself, or the first above it that is there.
func Nearest(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "/"
	}
	for dir != "/" {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func examineOverlay() Condition {
	data, err := os.ReadFile("/proc/filesystems")
	if err == nil && slices.Contains(strings.Fields(string(data)), "overlay") {
		return Condition{Name: "overlay", State: StateOK, Found: "the kernel has overlayfs"}
	}
	return Condition{Name: "overlay", State: StateMissing, Found: "the kernel has no overlayfs, or has not loaded it: steps have no root file system", Do: "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS"}
}

func examineCgroups() Condition {
	c := findCgroups("")
	var has, lacks []string
	for _, one := range []struct {
		name string
		in   controller
	}{{"memory", c.memory}, {"cpu", c.cpu}} {
		switch {
		case !one.in.there():
			lacks = append(lacks, one.name)
		case one.in.v2:
			has = append(has, one.name+" (version 2)")
		default:
			has = append(has, one.name+" (version 1)")
		}
	}
	found := Condition{Name: "cgroups", State: StateOK, Found: strings.Join(has, ", ")}
	if len(lacks) > 0 {
		found.State, found.Found = StateLimited, "limits on "+strings.Join(lacks, " and ")+" have no effect: this process may make no such groups"
		found.Do = "run the server as a service with Delegate=yes (systemd), or as root outside of a container"
	}
	return found
}

func examineFirewall() Condition {
	c := Condition{Name: "nf_tables", State: StateOK, Found: "the network of pods can be filtered"}
	if os.Geteuid() != 0 {
		return Condition{Name: "nf_tables", State: StateOK, Found: "only root can ask"}
	}
	if _, err := (&nftables.Conn{}).ListTables(); err != nil {
		c.State, c.Found = StateLimited, "cannot be spoken to: "+err.Error()+": a server starts no pod with a network of its own"
		c.Do = "modprobe nf_tables, or a kernel with CONFIG_NF_TABLES; --open-pod-network does without"
	}
	return c
}

func examineSeccomp() Condition {
	data, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if err == nil && slices.Contains(strings.Fields(string(data)), "errno") {
		return Condition{Name: "seccomp", State: StateOK, Found: "system calls of containers are filtered"}
	}
	return Condition{Name: "seccomp", State: StateMissing, Found: "system calls cannot be filtered: no container starts but an unconfined one", Do: "a kernel with CONFIG_SECCOMP_FILTER"}
}

func examineProcesses() Condition {
	if kernelAtLeast(pidMajor, pidMinor) {
		return Condition{Name: "pid_max namespaces", State: StateOK, Found: "processes and threads of each pod are bounded"}
	}
	return Condition{Name: "pid_max namespaces", State: StateLimited, Found: "a pod may take all processes of the machine", Do: fmt.Sprintf("install Linux %d.%d or newer", pidMajor, pidMinor)}
}

// examineIDs looks for the users of pods of a user who is not root.
func examineIDs() Condition {
	c := Condition{Name: "newuidmap", State: StateOK, Found: "not used by root"}
	if os.Geteuid() == 0 {
		return c
	}
	count := rootless.Helpers().Count()
	if count >= rootless.ServerUsers {
		c.Found = fmt.Sprintf("%d ids for this user: pods have users beside root", count)
		return c
	}
	c.State, c.Found = StateLimited, fmt.Sprintf("not there, or fewer than %d ids for this user: pods have no user but root, and serve does not start", rootless.ServerUsers)
	c.Do = "install newuidmap and newgidmap (package uidmap), and give this user ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME"
	return c
}

// examineConnector looks for what connects the network of pods of a user who is not root.
func examineConnector() Condition {
	c := Condition{Name: "pasta", State: StateOK, Found: "not used by root"}
	if os.Geteuid() == 0 {
		return c
	}
	if c.Found = rootless.Connector(); c.Found == "" {
		c.State, c.Found, c.Do = StateLimited, "not there: serve does not start", "install pasta (package passt)"
	}
	return c
}
