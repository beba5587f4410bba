package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// limits are what a pod may use; 0 is no limit.
type limits struct {
	memory int64 // bytes
	milli  int64 // thousandths of a processor
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
	}
}

// cgroups knows where pods can be limited on this machine: a folder per controller of version 1, one folder for
// version 2, or nothing.
type cgroups struct {
	memory, cpu string // folders under which pods get their own; "" if there is no such controller
	v2          bool
}

const cgroupName = "tiphys"

// findCgroups looks what this process may use. On hybrid systems controllers are where they are mounted.
func findCgroups() cgroups {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroups{}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}
	}
	return parseCgroups(string(data), string(mounts), writable)
}

func writable(dir string) bool {
	probe := filepath.Join(dir, cgroupName)
	if err := os.Mkdir(probe, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return false
	}
	_ = os.Remove(probe)
	return true
}

func parseCgroups(self, mounts string, usable func(string) bool) cgroups {
	var c cgroups
	points := map[string]string{}
	for _, line := range strings.Split(mounts, "\n") {
		f := strings.Fields(line)
		for i := 6; i+3 < len(f)+1; i++ {
			if i+3 > len(f)-1 || f[i] != "-" {
				continue
			}
			switch f[i+1] {
			case "cgroup":
				for _, o := range strings.Split(f[i+3], ",") {
					points[o] = f[4]
				}
			case "cgroup2":
				points[""] = f[4]
			}
			break
		}
	}
	for _, line := range strings.Split(self, "\n") {
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, controller := range strings.Split(f[1], ",") {
			dir, ok := points[controller]
			if !ok {
				continue
			}
			dir = filepath.Join(dir, f[2])
			switch {
			case controller == "memory" && usable(dir):
				c.memory = dir
			case controller == "cpu" && usable(dir):
				c.cpu = dir
			}
		}
	}
	if root, ok := points[""]; ok && c.memory == "" && c.cpu == "" {
		c = findV2(root, self, usable)
	}
	return c
}

// findV2 finds a folder of version 2 whose children may have controllers: the process's own, if it was delegated,
// or the root.
func findV2(root, self string, usable func(string) bool) cgroups {
	own := root
	for _, line := range strings.Split(self, "\n") {
		if rest, ok := strings.CutPrefix(line, "0::"); ok {
			// Processes and controllers do not go together in one group, so pods are siblings of this process's group.
			own = filepath.Join(root, filepath.Dir(rest))
		}
	}
	for _, dir := range []string{own, root} {
		controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil || !usable(dir) {
			continue
		}
		c := cgroups{v2: true}
		for _, name := range strings.Fields(string(controllers)) {
			if os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0o600) != nil {
				continue
			}
			switch name {
			case "memory":
				c.memory = dir
			case "cpu":
				c.cpu = dir
			}
		}
		if c.memory != "" || c.cpu != "" {
			return c
		}
	}
	return cgroups{}
}

func (c cgroups) folders() []string {
	var dirs []string
	for _, dir := range []string{c.memory, c.cpu} {
		if dir != "" && (len(dirs) == 0 || dirs[0] != dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// create makes the cgroups of a pod that has limits. Groups are not made for others: they cost more than the
// namespaces do.
func (c cgroups) create(name string, l limits) ([]string, error) {
	var made []string
	write := func(dir, file string, value int64) error {
		return os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(value, 10)), 0o600)
	}
	for _, parent := range c.folders() {
		memory, cpu := l.memory > 0 && parent == c.memory, l.milli > 0 && parent == c.cpu
		if !memory && !cpu {
			continue
		}
		dir := filepath.Join(parent, cgroupName+"-"+name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		made = append(made, dir)
		var err error
		switch {
		case memory && c.v2:
			err = write(dir, "memory.max", l.memory)
		case memory:
			err = write(dir, "memory.limit_in_bytes", l.memory)
		}
		if err == nil && cpu && c.v2 {
			err = os.WriteFile(filepath.Join(dir, "cpu.max"), fmt.Appendf(nil, "%d 100000", max(l.milli*100, 1000)), 0o600)
		} else if err == nil && cpu {
			err = write(dir, "cpu.cfs_quota_us", max(l.milli*100, 1000))
		}
		if err != nil {
			c.remove(name)
			return nil, fmt.Errorf("limit pod: %w", err)
		}
	}
	return made, nil
}

// remove kills what is left in a pod's cgroups and removes them.
func (c cgroups) remove(name string) {
	for _, parent := range c.folders() {
		dir := filepath.Join(parent, cgroupName+"-"+name)
		for range 100 {
			data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				break
			}
			for _, f := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(f); err == nil {
					if p, err := os.FindProcess(pid); err == nil {
						_ = p.Kill()
					}
				}
			}
			if os.Remove(dir) == nil {
				break
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}
