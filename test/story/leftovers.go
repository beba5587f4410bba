package story

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Leftovers are what a server may leave on a machine.
type Leftovers struct {
	// Processes by number; Mounts, Cgroups and Interfaces by name.
	Processes  map[int]string
	Mounts     map[string]bool
	Cgroups    map[string]bool
	Interfaces map[string]bool
}

// Leftovers looks for what belongs to this world: processes that have its folder in their mounts or arguments, or are in it, mounts
// of it in this mount namespace, control groups of its pods, its bridge and what is connected to it.
func (w *World) Leftovers() Leftovers {
	l := Leftovers{Processes: map[int]string{}, Mounts: map[string]bool{}, Cgroups: map[string]bool{}, Interfaces: map[string]bool{}}
	own, _ := os.Readlink("/proc/self/ns/mnt")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], w.Dir) {
			l.Mounts[fields[4]] = true
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		line := strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
		// A shim says nothing in its arguments; it stands in its pod's folder.
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		ours := strings.Contains(line, w.Dir) || strings.HasPrefix(cwd, w.Dir+"/")
		if ns, err := os.Readlink(filepath.Join(dir, "ns/mnt")); err == nil && ns != own {
			info, _ := os.ReadFile(filepath.Join(dir, "mountinfo"))
			ours = ours || w.mountedFrom(string(info))
		}
		if ours && line != "" {
			l.Processes[pid] = line
		}
	}
	w.groups(l)
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		master, _ := os.Readlink("/sys/class/net/" + i.Name + "/master")
		if i.Name == w.bridge || filepath.Base(master) == w.bridge {
			l.Interfaces[i.Name] = true
		}
	}
	return l
}

// mountedFrom says whether something of this world is mounted, by what proc_pid_mountinfo(5) says. Where it is mounted says nothing: the steps of
// every server on this machine have something over the folders of the others.
func (w *World) mountedFrom(info string) bool {
	const mountPoint = 4
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		if len(fields) > mountPoint && strings.Contains(strings.Join(slices.Delete(fields, mountPoint, mountPoint+1), " "), filepath.Base(w.Dir)) {
			return true
		}
	}
	return false
}

// groups finds the control groups of this world's pods: they are named after the folders of their attempts, which stay
// when the attempts are over.
func (w *World) groups(l Leftovers) {
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*", "/sys/fs/cgroup/*/*/*"} {
		found, _ := filepath.Glob(pattern)
		for _, dir := range found {
			attempt, ours := strings.CutPrefix(filepath.Base(dir), "tiphys-")
			if !ours {
				continue
			}
			for _, state := range []string{"live", "done"} {
				if _, err := os.Stat(filepath.Join(w.Data, "executor", state, attempt)); err == nil {
					l.Cgroups[dir] = true
				}
			}
		}
	}
}

// since leaves out what was there before.
func (l Leftovers) since(before Leftovers) Leftovers {
	l.Processes, l.Mounts = maps.Clone(l.Processes), maps.Clone(l.Mounts)
	l.Cgroups, l.Interfaces = maps.Clone(l.Cgroups), maps.Clone(l.Interfaces)
	for pid := range before.Processes {
		delete(l.Processes, pid)
	}
	for _, pair := range []struct{ now, then map[string]bool }{
		{l.Mounts, before.Mounts}, {l.Cgroups, before.Cgroups}, {l.Interfaces, before.Interfaces},
	} {
		for name := range pair.then {
			delete(pair.now, name)
		}
	}
	return l
}

func (l Leftovers) empty() bool {
	return len(l.Processes)+len(l.Mounts)+len(l.Cgroups)+len(l.Interfaces) == 0
}

func (l Leftovers) String() string {
	var parts []string
	add := func(what string, names []string) {
		if len(names) > 0 {
			const shown = 5
			more := ""
			if len(names) > shown {
				more = fmt.Sprintf(" and %d more", len(names)-shown)
				names = names[:shown]
			}
			parts = append(parts, what+" "+strings.Join(names, ", ")+more)
		}
	}
	var processes []string
	for _, pid := range slices.Sorted(maps.Keys(l.Processes)) {
		processes = append(processes, fmt.Sprintf("%d (%s)", pid, l.Processes[pid]))
	}
	add("processes", processes)
	add("mounts", slices.Sorted(maps.Keys(l.Mounts)))
	add("control groups", slices.Sorted(maps.Keys(l.Cgroups)))
	add("interfaces", slices.Sorted(maps.Keys(l.Interfaces)))
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}

// Clean ends what a stopped server leaves serving, and waits until nothing of this world is left but its folder.
func (w *World) Clean(ctx context.Context, limit time.Duration) error {
	if _, err := w.Tiphys(ctx, "down", "--data", w.Data); err != nil {
		return err
	}
	return w.Within(ctx, limit, "nothing is left behind", func(context.Context) error {
		if left := w.Leftovers().since(w.before); !left.empty() {
			return fmt.Errorf("there are still %s", left)
		}
		return nil
	})
}

// PowerCut ends the server and everything that runs for it at once, and starts the server again.
func (w *World) PowerCut() error {
	w.Kill(true)
	for pid := range w.Leftovers().since(w.before).Processes {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return w.launch()
}

// ProductionRuns waits until production is whole and answers with the merged commit.
func (w *World) ProductionRuns(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	if _, err := w.app(ctx, w.o.Names.Repo+"-prod", time.Minute, func(appPart) error { return nil }); err != nil {
		return err
	}
	if err := w.shows(ctx, "prod", 30*time.Second, w.all(w.merged)); err != nil {
		return err
	}
	return w.page(ctx, "prod", 10*time.Second, "Fulmar")
}

// sweep ends by force what belongs to this world; a story that failed may leave pods behind.
func (w *World) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		left := w.Leftovers().since(w.before)
		if len(left.Processes)+len(left.Mounts)+len(left.Interfaces) == 0 {
			return
		}
		for pid := range left.Processes {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		for mount := range left.Mounts {
			_ = syscall.Unmount(mount, syscall.MNT_DETACH)
		}
		for name := range left.Interfaces {
			_ = exec.CommandContext(ctx, "ip", "link", "del", name).Run()
		}
		t := time.NewTimer(between)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}
