package local

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// capabilityNumbers are those of capabilities(7) that a container may ask for.
func capabilityNumbers() map[string]uint {
	names := []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
		"CHECKPOINT_RESTORE",
	}
	numbers := make(map[string]uint, len(names))
	for i, n := range names {
		numbers[n] = uint(i)
	}
	return numbers
}

// defaultCapabilities are what container engines grant, without MKNOD: there is no device cgroup to tame it.
func defaultCapabilities() uint64 {
	numbers := capabilityNumbers()
	var set uint64
	for _, n := range []string{
		"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
		"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
	} {
		set |= 1 << numbers[n]
	}
	return set
}

func changeCapabilities(set uint64, c *corev1.Capabilities) uint64 {
	if c == nil {
		return set
	}
	numbers := capabilityNumbers()
	bits := func(list []corev1.Capability) (found uint64, all bool) {
		for _, name := range list {
			n := strings.TrimPrefix(strings.ToUpper(string(name)), "CAP_")
			if n == "ALL" {
				all = true
			} else if number, ok := numbers[n]; ok {
				found |= 1 << number
			}
		}
		return found, all
	}
	add, addAll := bits(c.Add)
	drop, dropAll := bits(c.Drop)
	switch {
	case addAll:
		return ^uint64(0) &^ drop
	case dropAll:
		return add
	}
	return set&^drop | add
}
