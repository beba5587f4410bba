package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/executor/protocol"
)

// The files are those of the kernel: memory.events of version 2 ("oom_kill: The number of processes belonging to this
// cgroup killed by any kind of OOM killer"), memory.oom_control of version 1.
func TestOOMIsToldByTheKernel(t *testing.T) {
	cases := map[string]struct {
		file, text string
		want       bool
	}{
		"version 2, killed":      {"memory.events", "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n", true},
		"version 2, not killed":  {"memory.events", "low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n", false},
		"version 1, killed":      {"memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", true},
		"version 1, not killed":  {"memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", false},
		"without a controller":   {"cgroup.events", "populated 0\nfrozen 0\n", false},
		"a group that went away": {},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			group := t.TempDir()
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(group, c.file), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := &shim{spec: protocol.Spec{Cgroups: []string{filepath.Join(group, "other"), group}}}
			if got := s.oomKilled(); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
