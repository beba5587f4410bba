package local_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/local"
)

// What whoever started the server left open is no pod's: from a folder of the machine a step could go anywhere (CVE-2024-21626).
func TestNothingInheritedIsOpenInAPod(t *testing.T) {
	needRoot(t)
	folder, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	const left = 777 // a number that nothing else here has
	if err := unix.Dup3(folder, left, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(folder), unix.Close(left) })
	for name, change := range map[string][]func(*local.Options){"host": nil, "container": {withImages}} {
		t.Run(name, func(t *testing.T) {
			e := open(t, t.TempDir(), change...)
			for _, of := range []string{"self", "1", "$PPID"} {
				p := shell(t, `ls /proc/`+of+`/fd`)
				// A pod with users of its own does not see what its first process has open.
				yes := true
				if of != "self" {
					p.Pod.Spec.HostUsers = &yes
				}
				r := run(t, e, p)
				if r.Result == nil {
					t.Fatalf("%s: %+v", of, r)
				}
				open := strings.Fields(*r.Result)
				if !slices.Contains(open, "1") {
					t.Errorf("process %s has no output: %v", of, open)
				}
				if slices.Contains(open, "777") {
					t.Errorf("process %s has the folder: %v", of, open)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
