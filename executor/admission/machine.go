package admission

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// Machine is what there is for pods.
type Machine struct {
	// Processors that the process may use.
	Processors int
	// Memory in bytes, of the machine or of the control group that the process lives in; 0 if it is not known.
	Memory int64
	// Descriptors that the process may have open.
	Descriptors int64
}

// What a pod takes beside what its own command does. The figures are meant to keep the machine usable, not to fill it: what a command
// uses is bounded by the pod's own limits.
const (
	podsPerProcessor = 500
	// memoryPerPod is for the shim and a small process, taken from half of the memory.
	memoryPerPod = 4 << 20
	// descriptorsPerPod are the server's own: the pod's socket, its connection, its shim.
	descriptorsPerPod = 4
	// ownDescriptors are left for the ledger, requests and logs, or half of all if there are few.
	ownDescriptors = 512
)

// Places is how many pods a machine takes at the same time; at least one.
func (m Machine) Places() int {
	n := int64(max(m.Processors, 1)) * podsPerProcessor
	if m.Memory > 0 {
		n = min(n, m.Memory/2/memoryPerPod)
	}
	if m.Descriptors > 0 {
		n = min(n, (m.Descriptors-min(ownDescriptors, m.Descriptors/2))/descriptorsPerPod)
	}
	return int(max(n, 1))
}

// ThisMachine reads what this process has. What cannot be read does not bound it.
func ThisMachine(processors int) Machine {
	m := Machine{Processors: processors, Memory: machineMemory()}
	if group := groupMemory(); group > 0 && (m.Memory == 0 || group < m.Memory) {
		m.Memory = group
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		m.Descriptors = int64(min(limit.Cur, 1<<40))
	}
	return m
}

// machineMemory is MemTotal of /proc/meminfo, which has kilobytes.
func machineMemory() int64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(raw, []byte("MemTotal:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// groupMemory is the limit of the process's control group as it sees it; 0 for none.
func groupMemory() int64 {
	raw, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(raw)), 10, 64)
	if err != nil {
		return 0 // "max"
	}
	return n
}
