package local_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/executortest"
	"github.com/tiphys/tiphys/executor/local"
)

// initBinary is built once for all tests.
var initBinary string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serverArg {
		os.Exit(serverMain(os.Args[2:]))
	}
	dir, err := os.MkdirTemp("", "tiphys-init")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	initBinary = filepath.Join(dir, "tiphys-init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", initBinary, "github.com/tiphys/tiphys/cmd/tiphys-init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build tiphys-init: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func needRoot(t testing.TB) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func open(t testing.TB, dir string, change ...func(*local.Options)) *local.Executor {
	t.Helper()
	o := local.Options{Dir: dir, Init: initBinary, NoSync: true}
	for _, c := range change {
		c(&o)
	}
	e, err := local.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestHostConformance(t *testing.T) {
	needRoot(t)
	executortest.Run(t, executortest.Setup{
		Host: true, New: func(t *testing.T, dir string) executor.Executor { return open(t, dir) }, Leftovers: leftovers,
	})
}

// leftovers describes processes, mounts and cgroups that belong to a state folder, and working files.
func leftovers(dir string) string {
	var left []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		for _, link := range []string{"cwd", "root"} {
			if at, err := os.Readlink(filepath.Join("/proc", e.Name(), link)); err == nil && strings.HasPrefix(at, dir) {
				left = append(left, "process "+e.Name()+" in "+at)
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, dir) {
			left = append(left, "mount "+line)
		}
	}
	for _, part := range []string{"live", "trash"} {
		files, _ := os.ReadDir(filepath.Join(dir, part))
		for _, f := range files {
			left = append(left, part+"/"+f.Name())
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/tiphys-*")
	return strings.Join(append(left, groups...), "\n")
}
