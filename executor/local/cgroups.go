package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// limits are what a pod may use; 0 is no limit.
type limits struct {
	memory int64 // bytes
	milli  int64 // thousandths of a processor
	// storage is what the pod writes into its own files and logs, in bytes; no cgroup limits it.
	storage int64
}

// limits adds up the containers' limits. As in Kubernetes the pod as a whole is limited only if every one of
// its containers is; init containers run alone, so the largest counts.
func (b *builder) limits() limits { return podLimits(b.spec) }

func podLimits(spec *corev1.PodSpec) limits {
	sum := func(name corev1.ResourceName, amount func(q resource.Quantity) int64) int64 {
		var total int64
		for i := range spec.Containers {
			q, ok := spec.Containers[i].Resources.Limits[name]
			if !ok {
				return 0
			}
			total += amount(q)
		}
		for i := range spec.InitContainers {
			q, ok := spec.InitContainers[i].Resources.Limits[name]
			if !ok {
				return 0
			}
			total = max(total, amount(q))
		}
		return total
	}
	return limits{
		memory: sum(corev1.ResourceMemory, func(q resource.Quantity) int64 { return q.Value() }),
		milli:  sum(corev1.ResourceCPU, func(q resource.Quantity) int64 { return q.MilliValue() }),

		storage: sum(corev1.ResourceEphemeralStorage, func(q resource.Quantity) int64 { return q.Value() }),
	}
}

// cgroups knows where pods can be limited on this machine. A controller is in one hierarchy: that of version 2, or one
// of version 1; on hybrid systems some are here and some there.
type cgroups struct {
	memory, cpu controller
	// unified is a folder of version 2, if pods may have groups there: even without controllers such a group is
	// killed as a whole.
	unified string
}

// controller is the folder under which pods get groups of their own; empty if there is no such controller.
type controller struct {
	dir string
	v2  bool
}

func (c controller) there() bool { return c.dir != "" }

const cgroupName = "tiphys"

// findCgroups looks what this process may use. root is before every path: a test brings its own machine.
func findCgroups(root string) cgroups {
	self, err := os.ReadFile(root + "/proc/self/cgroup")
	if err != nil {
		return cgroups{}
	}
	mounts, err := os.ReadFile(root + "/proc/self/mountinfo")
	if err != nil {
		return cgroups{}
	}
	points, unified := cgroupMounts(root, string(mounts))
	var c cgroups
	for line := range strings.Lines(string(self)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[0] == "0" && f[1] == "" {
			if unified.path != "" {
				c.findUnified(unified, f[2])
			}
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			found := c.find(name)
			point, ok := points[name]
			if found == nil || !ok {
				continue
			}
			if dir := point.folder(f[2]); writable(dir) {
				*found = controller{dir: dir}
			}
		}
	}
	return c
}

func (c *cgroups) find(name string) *controller {
	switch name {
	case "memory":
		return &c.memory
	case "cpu":
		return &c.cpu
	}
	return nil
}

// cgroupMount is where a hierarchy, or the part of it that begins at top, is mounted.
type cgroupMount struct{ path, top string }

// folder is the place of a group of the hierarchy. A group outside of what is mounted has its nearest kin there.
func (m cgroupMount) folder(group string) string {
	rel, err := filepath.Rel(m.top, group)
	if err != nil || !filepath.IsLocal(rel) {
		rel = "."
	}
	return filepath.Join(m.path, rel)
}

// cgroupMounts reads proc_pid_mountinfo(5): the mounts of version 1 by controller, and that of version 2.
func cgroupMounts(root, mounts string) (v1 map[string]cgroupMount, unified cgroupMount) {
	v1 = map[string]cgroupMount{}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		f, fs := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(fs) < 3 {
			continue
		}
		m := cgroupMount{path: root + unescapeMount(f[4]), top: unescapeMount(f[3])}
		switch fs[0] {
		case "cgroup":
			for option := range strings.SplitSeq(fs[2], ",") {
				v1[option] = m
			}
		case "cgroup2":
			unified = m
		}
	}
	return v1, unified
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func writable(dir string) bool {
	probe := filepath.Join(dir, cgroupName)
	if err := os.Mkdir(probe, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return false
	}
	_ = os.Remove(probe)
	return true
}

// findUnified finds a folder of version 2 whose children may have controllers. Processes and controllers do not go
// together in one group (cgroups(7), "no internal processes"), so pods are siblings of this process's group, or, where
// that may not be, children of the topmost group, which is the exception.
func (c *cgroups) findUnified(m cgroupMount, group string) {
	for _, dir := range []string{filepath.Dir(m.folder(group)), m.path} {
		if !strings.HasPrefix(dir+"/", m.path+"/") {
			continue // this process is in the topmost group
		}
		names, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil || !writable(dir) {
			continue
		}
		if c.unified == "" {
			c.unified = dir
		}
		for name := range strings.FieldsSeq(string(names)) {
			found := c.find(name)
			if found == nil || found.there() || os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0o600) != nil {
				continue
			}
			*found = controller{dir: dir, v2: true}
			c.unified = dir
		}
	}
}

// folders are those that pods may have groups in.
func (c cgroups) folders() []string {
	var dirs []string
	for _, dir := range []string{c.memory.dir, c.cpu.dir, c.unified} {
		if dir != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// setting is what is written into a file of a group.
type setting struct{ dir, file, value string }

// settings are those of a pod's limits; what there is no controller for is left out.
func (c cgroups) settings(l limits) []setting {
	var list []setting
	if l.memory > 0 && c.memory.there() {
		file := "memory.limit_in_bytes"
		if c.memory.v2 {
			file = "memory.max"
		}
		list = append(list, setting{c.memory.dir, file, strconv.FormatInt(l.memory, 10)})
	}
	if l.milli > 0 && c.cpu.there() {
		// Time in each 100 ms, both versions' default period; the kernel takes no less than a millisecond.
		quota := max(l.milli*100, 1000)
		s := setting{c.cpu.dir, "cpu.cfs_quota_us", strconv.FormatInt(quota, 10)}
		if c.cpu.v2 {
			s.file, s.value = "cpu.max", fmt.Sprintf("%d 100000", quota)
		}
		list = append(list, s)
	}
	return list
}

// create makes the cgroups of a pod that has limits. Groups are not made for others: they cost more than the
// namespaces do.
func (c cgroups) create(name string, l limits) ([]string, error) {
	settings := c.settings(l)
	if len(settings) == 0 {
		return nil, nil
	}
	var made []string
	join := func(parent string) error {
		dir := filepath.Join(parent, cgroupName+"-"+name)
		if slices.Contains(made, dir) {
			return nil
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
		made = append(made, dir)
		return nil
	}
	var err error
	for _, s := range settings {
		if err = join(s.dir); err != nil {
			break
		}
		if err = os.WriteFile(filepath.Join(s.dir, cgroupName+"-"+name, s.file), []byte(s.value), 0o600); err != nil {
			err = fmt.Errorf("limit pod: %w", err)
			break
		}
	}
	if err == nil && c.unified != "" {
		err = join(c.unified)
	}
	if err != nil {
		c.remove(name)
		return nil, err
	}
	return made, nil
}

// groupsPatience is how long groups whose processes are slow to die are tried.
const groupsPatience = time.Minute

// removeGroups removes a pod's cgroups: at once as a rule, and beside everything else where its processes take their time to die.
func (e *Executor) removeGroups(name string) {
	if e.cgroups.remove(name) {
		return
	}
	e.spawn(func() {
		for limit := time.Now().Add(groupsPatience); !e.cgroups.remove(name) && e.ctx.Err() == nil; pause(e.ctx, scarceWait) {
			if time.Now().After(limit) {
				e.o.Log.Warn("control groups of a pod that has ended stay: their processes do not die", "attempt", name)
				return
			}
		}
	})
}

// remove kills what is left in a pod's cgroups and removes them; false means that some are still there.
func (c cgroups) remove(name string) (gone bool) {
	gone = true
	for _, parent := range c.folders() {
		dir := filepath.Join(parent, cgroupName+"-"+name)
		removed := false
		for range 100 {
			if removed = !killGroup(dir) || os.Remove(dir) == nil; removed {
				break
			}
			<-time.After(5 * time.Millisecond)
		}
		gone = gone && removed
	}
	return gone
}

// killGroup kills every process of a group, and reports whether there is such a group. Where the kernel does it (Linux
// 5.14, version 2) none gets away by forking; else what forks meanwhile is found the next time.
func killGroup(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("1")
		_ = f.Close()
	}
	if err == nil {
		return true
	}
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return false
	}
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return true
}
