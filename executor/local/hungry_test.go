package local_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
)

// smallDisk is a file system of its own with so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("SKIPPED: not tested: full disks (mount: %v)", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A step that fills the disk fails with the kernel's words in its log, its end is on record all the same, and what it
// wrote is given back although nobody has acknowledged it: a ledger on the same disk could not.
func TestStepFillsTheDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 16<<20)
	e := open(t, filepath.Join(disk, "pods"))
	defer func() { _ = e.Close() }()
	// The file is held open while the shell ends, and what is left is filled by small files.
	fill := "echo begin; dd if=/dev/zero of=/big bs=64k; i=0; while echo x > /f$i; do i=$((i+1)); done; exit 5"
	p := shell(t, fill)
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, done)
	if r.Phase != executor.Failed || r.ExitCode == nil || *r.ExitCode != 5 || r.Message != "main: Error (exit code 5)" {
		t.Errorf("%s %v %q", r.Phase, r.ExitCode, r.Message)
	}
	log, err := e.Logs(context.Background(), p.ID, "main", executor.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(log)
	_ = log.Close()
	if err != nil || !strings.HasPrefix(string(text), "begin\n") {
		t.Errorf("log %q %v", text, err)
	}
	free := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(disk, &st); err != nil {
			t.Fatal(err)
		}
		return st.Bfree * uint64(st.Bsize)
	}
	for limit := time.Now().Add(patience); free() < 12<<20; <-time.After(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d bytes are free", free())
		}
	}
	next := shell(t, "echo room again")
	next.ID.Attempt = 1
	result(t, run(t, e, next), "room again")
	if err := e.Acknowledge(context.Background(), p.ID); err != nil {
		t.Error(err)
	}
}

// A pod whose own files, or whose log, outgrow its limit of ephemeral storage is evicted, as in Kubernetes.
func TestEphemeralStorageLimit(t *testing.T) {
	t.Parallel()
	needRoot(t)
	e := open(t, t.TempDir())
	defer func() { _ = e.Close() }()
	for i, script := range []string{
		"dd if=/dev/zero of=/big bs=64k count=256; sleep 1000",
		"i=0; while [ $i -lt 400 ]; do head -c 60000 /dev/zero; echo; i=$((i+1)); done; sleep 1000",
	} {
		p := shell(t, script)
		p.ID.Attempt = i
		p.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("8Mi")}
		r := run(t, e, p)
		if r.Phase != executor.Failed || r.Reason != executor.ReasonEvicted || r.Message != "the pod used more than the limit of 8Mi of ephemeral storage" {
			t.Errorf("%s %s %q", r.Phase, r.Reason, r.Message)
		}
	}
	within := shell(t, "dd if=/dev/zero of=/small bs=64k count=16 2>/dev/null; sleep 1.5; echo fine")
	within.ID.Attempt = 2
	within.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("8Mi")}
	result(t, run(t, e, within), "fine")
}

// A gigabyte in one line, to either stream, is cut to the log's limit and costs the shim no more memory than a short one.
func TestEndlessLine(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, bound(dir), func(o *local.Options) { o.LogLimit = 1 << 20 })
	defer func() { _ = e.Close() }()
	p := shell(t, "head -c 500000000 /dev/zero; head -c 500000000 /dev/zero >&2; sleep 1000")
	p.Outputs = executor.Outputs{Result: true}
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
	_, s := shimOf(t, dir)
	var read int64
	for limit := time.Now().Add(2 * patience); ; <-time.After(20 * time.Millisecond) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.PID))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscanf(string(data), "rchar: %d", &read)
		if read > 1_000_000_000 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the shim has read %d bytes", read)
		}
	}
	if peak := peakMemory(t, s.PID); peak > 48<<20 {
		t.Errorf("the shim took %d bytes of memory", peak)
	}
	if err := e.Stop(context.Background(), p.ID, 0); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, done)
	if r.Result != nil && len(*r.Result) > 256<<10 {
		t.Errorf("a result of %d bytes", len(*r.Result))
	}
	var size int64
	_ = filepath.Walk(dir, func(path string, st os.FileInfo, err error) error {
		if err == nil && strings.HasSuffix(path, ".log") {
			size += st.Size()
		}
		return nil
	})
	if size > 2<<20 {
		t.Errorf("%d bytes of log", size)
	}
}

// peakMemory is the most that a process ever had in memory, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no peak in status")
	return 0
}
