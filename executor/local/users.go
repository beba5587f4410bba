package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/fork"
	"github.com/tiphys/tiphys/executor/protocol"
)

// Each pod of the container executor has a user namespace, in which its users are from 0 to 65,535, and on this machine a range of as many ids
// that no other pod has: root in it is nobody here. Who has a range holds a lock on a byte of a file that all servers of this machine share;
// first the server, then the pod's shim, so that a range is free when its pod has ended, however that came.

const (
	// firstUser and userRanges bound the ids of pods. They lie behind those that systemd gives to containers and before those that it keeps for
	// other purposes (systemd, docs/UIDS-GIDS.md), and far from those of people.
	firstUser  = 0x70000000
	userRanges = 0xFFE
	// usersFile is where ranges are held, one byte for each.
	usersFile = "/run/tiphys/users"
)

// users gives pods their user namespaces.
type users struct {
	folders []string // of what pods see by mounts that translate ids
	log     *slog.Logger
	// usable says why there are none, or nil. It tries everything once.
	usable func() error

	mu   sync.Mutex
	last int // the range that was given out last
}

// userRange is a pod's range of ids and its user namespace; the zero value is none.
type userRange struct {
	first uint32
	index int64
	space *os.File
	lock  *os.File
}

func (r userRange) there() bool { return r.space != nil }

func (r userRange) close() {
	if r.there() {
		_, _ = r.space.Close(), r.lock.Close()
	}
}

// order is what a shim is told of it.
func (r userRange) order() *protocol.Users {
	if !r.there() {
		return nil
	}
	return &protocol.Users{
		First: r.first, Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.space.Fd()), LockFile: usersFile, LockByte: r.index,
	}
}

// usersFolders are those that pods see by mounts that translate ids.
func usersFolders(o Options) []string {
	folders := []string{o.Dir, o.Volumes}
	for _, dir := range []string{o.Scratch, o.Layers} {
		if dir != "" {
			folders = append(folders, dir)
		}
	}
	return folders
}

func newUsers(folders []string, log *slog.Logger) *users {
	u := &users{folders: folders, log: log, last: rand.IntN(userRanges)}
	u.usable = sync.OnceValue(u.try)
	return u
}

// leastOverlay is the first kernel that makes an overlay of mounts that translate ids.
const leastOverlay = "5.19"

// errNoMachine says that there are no ids of this machine to give to pods.
var errNoMachine = errors.New("this process has itself only the users of a namespace")

// try finds out whether pods can have user namespaces.
func (u *users) try() error {
	if _, machine := fork.MachineUsers(); !machine {
		return errNoMachine
	}
	if !kernelAtLeast(5, 19) {
		return errors.New("the kernel is older than " + leastOverlay)
	}
	r, network, err := u.make()
	if err != nil {
		return err
	}
	_ = unix.Close(network)
	defer r.close()
	for _, dir := range u.folders {
		if err := translates(dir, r.space); err != nil {
			return fmt.Errorf("the file system of %s cannot translate ids: %w", dir, err)
		}
	}
	return nil
}

// translates tries a mount of a folder that translates ids. Nothing of it stays.
func translates(dir string, space *os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(space.Fd())})
}

// kernelAtLeast reports whether this machine's kernel is of that version or a newer one; one that cannot be read is not.
func kernelAtLeast(major, minor int) bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var has, and int
	if n, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &has, &and); n != 2 || err != nil {
		return false
	}
	return has > major || has == major && and >= minor
}

// make makes a user namespace with a range that is free, and a network namespace that belongs to it.
func (u *users) make() (r userRange, network int, err error) {
	if r, err = u.claim(); err != nil {
		return r, -1, err
	}
	space, network, err := fork.Spaces(r.first, protocol.UsersSize)
	if err != nil {
		_ = r.lock.Close()
		return userRange{}, -1, err
	}
	r.space = os.NewFile(uintptr(space), "user namespace")
	return r, network, nil
}

// claim takes a range that is free: not the one that was given back last, whose pod's files may still be on the disk.
func (u *users) claim() (r userRange, err error) {
	if err := os.MkdirAll(filepath.Dir(usersFile), 0o700); err != nil {
		return r, fmt.Errorf("hold a range of user ids: %w", err)
	}
	f, err := os.OpenFile(usersFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return r, fmt.Errorf("hold a range of user ids: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for range userRanges {
		u.last = (u.last + 1) % userRanges
		taken, err := hold(f, int64(u.last))
		if err != nil {
			_ = f.Close()
			return r, fmt.Errorf("hold a range of user ids: %w", err)
		}
		if taken {
			return userRange{first: firstUser + uint32(u.last)*protocol.UsersSize, index: int64(u.last), lock: f}, nil
		}
	}
	_ = f.Close()
	return r, &executor.TransientError{Err: fmt.Errorf("no range of user ids is free: this machine has %d pods", userRanges)}
}

// hold takes a byte of the file if nobody has it, so that one more may have it with us: the shim.
func hold(f *os.File, index int64) (taken bool, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: index, Len: 1}
	switch err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return false, nil
	case err != nil:
		return false, err
	}
	lock.Type = unix.F_RDLCK
	return true, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
}

// say says once why pods have no user namespaces.
func (u *users) say(ctx context.Context) {
	err := u.usable()
	if errors.Is(err, errNoMachine) {
		return // root in a container is then whoever made the namespace
	}
	if err != nil && ctx.Err() == nil {
		u.log.Warn("root in a container is root for the kernel on this machine: there are no user namespaces for pods", "reason", err)
	}
}

// needsHostUsers names the field of a pod that keeps it from having users of its own; empty if none does.
func needsHostUsers(spec *corev1.PodSpec) string {
	if spec.HostNetwork {
		return "spec.hostNetwork"
	}
	for i := range spec.Volumes {
		if spec.Volumes[i].HostPath != nil {
			return fmt.Sprintf("spec.volumes[%d].hostPath", i)
		}
	}
	for path, c := range containers(spec) {
		if s := c.SecurityContext; s != nil && s.Privileged != nil && *s.Privileged {
			return path + ".securityContext.privileged"
		}
	}
	return ""
}

// ownUsers reports whether a pod has users of its own. Who does not say (hostUsers) has them where that can be.
func (e *Executor) ownUsers(spec *corev1.PodSpec, host bool) bool {
	if host || spec.HostUsers != nil && *spec.HostUsers || needsHostUsers(spec) != "" {
		return false
	}
	return e.users.usable() == nil
}

// sharesNetwork says that a pod has this machine's network.
func (e *Executor) sharesNetwork(spec *corev1.PodSpec) bool {
	return spec.HostNetwork || e.o.Network.Shared
}

// hostUsers checks what a pod says about its users.
func (c *checker) hostUsers(spec *corev1.PodSpec) {
	const path = "spec.hostUsers"
	if spec.HostUsers != nil && !*spec.HostUsers {
		switch field := needsHostUsers(spec); {
		case c.host:
			c.fatal(path, "the host executor runs steps as users of this machine: leave hostUsers out, or use the container executor")
			return
		case field != "":
			c.fatal(path, "%s needs the users of this machine: leave one of the two out", field)
			return
		}
		if err := c.e.users.usable(); err != nil {
			c.fatal(path, "pods cannot have users of their own on this machine: %v: leave hostUsers out", err)
			return
		}
	}
	if !c.e.ownUsers(spec, c.host) {
		return
	}
	c.ids("spec.securityContext", spec.SecurityContext)
	for path, container := range containers(spec) {
		if s := container.SecurityContext; s != nil {
			c.id(path+".securityContext.runAsUser", s.RunAsUser)
			c.id(path+".securityContext.runAsGroup", s.RunAsGroup)
		}
	}
}

func (c *checker) ids(path string, s *corev1.PodSecurityContext) {
	if s == nil {
		return
	}
	c.id(path+".runAsUser", s.RunAsUser)
	c.id(path+".runAsGroup", s.RunAsGroup)
	c.id(path+".fsGroup", s.FSGroup)
	for i := range s.SupplementalGroups {
		c.id(path+".supplementalGroups", &s.SupplementalGroups[i])
	}
}

// id checks that a pod has the user or group.
func (c *checker) id(path string, id *int64) {
	if id != nil && (*id < 0 || *id >= protocol.UsersSize) {
		c.fatal(path, "a pod has the users and groups from 0 to %d: choose one of these, or set hostUsers for those of this machine, which needs a grant on a server", protocol.UsersSize-1)
	}
}
