package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// pidMax is the setting of the PID namespace that a process is in. Before Linux 6.14 there is one for the whole machine.
const pidMax = "/proc/sys/kernel/pid_max"

// boundProcesses bounds how many processes and threads the pod has, by the highest number that one may have.
func (p *pod) boundProcesses() error {
	if p.spec.Processes <= 0 || !atLeast(6, 14) {
		return nil
	}
	if err := os.WriteFile(pidMax, fmt.Append(nil, p.spec.Processes), 0); err != nil {
		return fmt.Errorf("bound the pod's processes: %w", err)
	}
	return nil
}

// spareThreads is how many threads this process needs at most beside those that it has from its start.
const spareThreads = 4

// keepThreads has the threads made that this process will need: when the pod's own processes have taken every number, none can be made, and
// the runtime would end the process. Threads that nothing runs on stay.
func keepThreads() {
	var started sync.WaitGroup
	release := make(chan struct{})
	for range spareThreads {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			<-release // with its thread, so that the next one needs another
		}()
	}
	started.Wait()
	close(release)
}

// atLeast reports whether the kernel is of that version or a newer one; one that cannot be read is not.
func atLeast(major, minor int) bool {
	var name syscall.Utsname
	if syscall.Uname(&name) != nil {
		return false
	}
	text := make([]byte, 0, len(name.Release))
	for _, c := range name.Release {
		if c == 0 {
			break
		}
		text = append(text, byte(c))
	}
	var gotMajor, gotMinor int
	if n, err := fmt.Sscanf(string(text), "%d.%d", &gotMajor, &gotMinor); n != 2 || err != nil {
		return false
	}
	return gotMajor > major || gotMajor == major && gotMinor >= minor
}
