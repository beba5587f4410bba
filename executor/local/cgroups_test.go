package local

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeMachine is a tree of real files with what a machine shows of its cgroups.
func fakeMachine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	v1Mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n" +
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	emptyV2Mount = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	v2Mount      = "30 23 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	// A container without a cgroup namespace sees its own part of the hierarchy at the mount point.
	partMounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	v1Self     = "4:memory:/me\n1:cpu,cpuacct:/me\n"
)

// The formats are those of proc_pid_mountinfo(5) and cgroups(7); where pods go is section "Limits" of docs/executors.md.
func TestWhereLimitsAre(t *testing.T) {
	const file = "sys/fs/cgroup/"
	cases := map[string]struct {
		files map[string]string
		want  cgroups
		// control is what was written to cgroup.subtree_control, by folder.
		control map[string]string
	}{
		"version 1": {
			files: map[string]string{
				"proc/self/cgroup": v1Self, "proc/self/mountinfo": v1Mounts,
				file + "memory/me/cgroup.procs": "", file + "cpu,cpuacct/me/cgroup.procs": "",
			},
			want: cgroups{memory: controller{dir: "/sys/fs/cgroup/memory/me"}, cpu: controller{dir: "/sys/fs/cgroup/cpu,cpuacct/me"}},
		},
		"version 1, a part of it": {
			files: map[string]string{
				"proc/self/cgroup": "4:memory:/docker/abc/inner\n", "proc/self/mountinfo": partMounts, file + "memory/inner/cgroup.procs": "",
			},
			want: cgroups{memory: controller{dir: "/sys/fs/cgroup/memory/inner"}},
		},
		"version 2, beside this process": {
			files: map[string]string{
				"proc/self/cgroup": "0::/system.slice/tiphys.service\n", "proc/self/mountinfo": v2Mount,
				file + "cgroup.controllers":              "cpuset cpu io memory pids\n",
				file + "system.slice/cgroup.controllers": "cpu memory pids\n", file + "system.slice/tiphys.service/cgroup.procs": "1\n",
			},
			want: cgroups{
				memory: controller{"/sys/fs/cgroup/system.slice", true}, cpu: controller{"/sys/fs/cgroup/system.slice", true},
				unified: "/sys/fs/cgroup/system.slice",
			},
			control: map[string]string{"system.slice": "+memory"}, // the last that was written; a real one keeps both
		},
		"version 2, topmost group": {
			files: map[string]string{
				"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount, file + "cgroup.controllers": "memory\n",
			},
			want:    cgroups{memory: controller{"/sys/fs/cgroup", true}, unified: "/sys/fs/cgroup"},
			control: map[string]string{"": "+memory"},
		},
		"version 2, a controller that only the topmost group gives": {
			files: map[string]string{
				"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2Mount,
				file + "cgroup.controllers": "memory\n", file + "a/cgroup.controllers": "pids\n", file + "a/b/cgroup.procs": "",
			},
			want:    cgroups{memory: controller{"/sys/fs/cgroup", true}, unified: "/sys/fs/cgroup"},
			control: map[string]string{"": "+memory"},
		},
		"hybrid, version 2 without controllers": {
			files: map[string]string{
				"proc/self/cgroup": v1Self + "0::/\n", "proc/self/mountinfo": v1Mounts + emptyV2Mount,
				file + "memory/me/cgroup.procs": "", file + "cpu,cpuacct/me/cgroup.procs": "", file + "unified/cgroup.controllers": "\n",
			},
			want: cgroups{
				memory: controller{dir: "/sys/fs/cgroup/memory/me"}, cpu: controller{dir: "/sys/fs/cgroup/cpu,cpuacct/me"},
				unified: "/sys/fs/cgroup/unified",
			},
		},
		"hybrid, memory here and cpu there": {
			files: map[string]string{
				"proc/self/cgroup": "4:memory:/me\n0::/\n", "proc/self/mountinfo": partMounts + emptyV2Mount,
				file + "memory/cgroup.procs": "", file + "unified/cgroup.controllers": "cpu\n",
			},
			want: cgroups{
				memory: controller{dir: "/sys/fs/cgroup/memory"}, cpu: controller{"/sys/fs/cgroup/unified", true}, unified: "/sys/fs/cgroup/unified",
			},
			control: map[string]string{"unified": "+cpu"},
		},
		"none": {
			files: map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "22 27 0:21 / /proc rw - proc proc rw\n"},
		},
		"mounted, but the folder is not there": {
			files: map[string]string{"proc/self/cgroup": v1Self + "0::/x/y\n", "proc/self/mountinfo": v1Mounts + v2Mount},
		},
		"no proc": {},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			root := fakeMachine(t, c.files)
			got := findCgroups(root)
			for _, dir := range []*string{&got.memory.dir, &got.cpu.dir, &got.unified} {
				*dir = strings.TrimPrefix(*dir, root)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(cgroups{}, controller{})); diff != "" {
				t.Error(diff)
			}
			for dir, want := range c.control {
				data, err := os.ReadFile(filepath.Join(root, file, dir, "cgroup.subtree_control"))
				if err != nil || string(data) != want {
					t.Errorf("%s: %q %v", dir, data, err)
				}
			}
		})
	}
}

// The files and their formats are those of the kernel's documentation of cgroup v1 (memory, sched-bwc) and v2.
func TestLimitsAreWritten(t *testing.T) {
	l := limits{memory: 64 << 20, milli: 1500}
	cases := map[string]struct {
		make func(root string) cgroups
		l    limits
		want map[string]string
	}{
		"version 1": {
			func(r string) cgroups {
				return cgroups{memory: controller{dir: r + "/memory"}, cpu: controller{dir: r + "/cpu"}}
			}, l,
			map[string]string{"memory/tiphys-pod/memory.limit_in_bytes": "67108864", "cpu/tiphys-pod/cpu.cfs_quota_us": "150000"},
		},
		"version 2": {
			func(r string) cgroups {
				return cgroups{memory: controller{r + "/memory", true}, cpu: controller{r + "/memory", true}, unified: r + "/memory"}
			}, l,
			map[string]string{"memory/tiphys-pod/memory.max": "67108864", "memory/tiphys-pod/cpu.max": "150000 100000"},
		},
		"hybrid": {
			func(r string) cgroups {
				return cgroups{memory: controller{dir: r + "/memory"}, cpu: controller{r + "/cpu", true}, unified: r + "/cpu"}
			}, l,
			map[string]string{"memory/tiphys-pod/memory.limit_in_bytes": "67108864", "cpu/tiphys-pod/cpu.max": "150000 100000"},
		},
		"a very small part of a processor": {
			func(r string) cgroups { return cgroups{cpu: controller{r + "/cpu", true}} }, limits{milli: 1},
			map[string]string{"cpu/tiphys-pod/cpu.max": "1000 100000"},
		},
		"no limits, no groups": {
			func(r string) cgroups { return cgroups{memory: controller{dir: r + "/memory"}, unified: r + "/cpu"} }, limits{}, nil,
		},
		"none": {func(string) cgroups { return cgroups{} }, l, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			root := fakeMachine(t, map[string]string{"memory/x": "", "cpu/x": ""})
			made, err := c.make(root).create("pod", c.l)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, dir := range made {
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					data, err := os.ReadFile(filepath.Join(dir, e.Name()))
					if err != nil {
						t.Fatal(err)
					}
					got[strings.TrimPrefix(dir, root+"/")+"/"+e.Name()] = string(data)
				}
			}
			if len(c.want) == 0 && len(made) > 0 {
				t.Errorf("made %v", made)
			}
			if diff := cmp.Diff(c.want, got); diff != "" && len(c.want)+len(got) > 0 {
				t.Error(diff)
			}
		})
	}
}

// A limit that cannot be set is an error, and leaves no group behind.
func TestLimitRefused(t *testing.T) {
	c := cgroups{memory: controller{dir: filepath.Join(t.TempDir(), "nowhere")}}
	if _, err := c.create("pod", limits{memory: 1}); err == nil || !strings.Contains(err.Error(), "make cgroup") {
		t.Errorf("got %v", err)
	}
}

// mountUnified mounts version 2 of this machine's cgroups in a folder of the test's.
func mountUnified(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not tested: groups of cgroup version 2 (needs root)")
	}
	dir := t.TempDir()
	if err := syscall.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		t.Skipf("SKIPPED: not tested: groups of cgroup version 2 (mount: %v)", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if !writable(dir) {
		t.Skip("SKIPPED: not tested: groups of cgroup version 2 (this process may not make any)")
	}
	return dir
}

// On the real file system of version 2: a pod's group is made, joined, and killed as a whole, forks and all.
func TestUnifiedGroups(t *testing.T) {
	dir := mountUnified(t)
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	root := fakeMachine(t, map[string]string{"proc/self/cgroup": string(self)})
	mounts := "41 31 0:38 / /unified rw - cgroup2 cgroup2 rw\n"
	if err := os.WriteFile(filepath.Join(root, "proc/self/mountinfo"), []byte(mounts), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(root, "unified")); err != nil {
		t.Fatal(err)
	}
	c := findCgroups(root)
	if c.unified == "" {
		t.Fatalf("found %+v", c)
	}
	name := "test" + strconv.Itoa(os.Getpid())
	made, err := c.create(name, limits{memory: 64 << 20, milli: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer c.remove(name)
	switch {
	case c.memory.v2:
		for _, file := range []string{"memory.max", "memory.events"} {
			if _, err := os.Stat(filepath.Join(made[0], file)); err != nil {
				t.Error(err)
			}
		}
	default:
		t.Log("SKIPPED: not tested: limits of cgroup version 2 (no memory controller there)")
		// Without controllers a pod with limits of version 1 still has a group here.
		c.memory = controller{dir: filepath.Join(t.TempDir())}
		if made, err = c.create(name, limits{memory: 64 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	group := made[len(made)-1]
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", "read go; sleep 1000 & sleep 1000 & wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		data, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if len(strings.Fields(string(data))) == 3 {
			break
		}
		<-time.After(time.Millisecond)
	}
	c.remove(name)
	if err := cmd.Wait(); err == nil || ctx.Err() != nil {
		t.Errorf("the group was not killed: %v", err)
	}
	if _, err := os.Stat(group); !os.IsNotExist(err) {
		t.Errorf("the group is there: %v", err)
	}
}
