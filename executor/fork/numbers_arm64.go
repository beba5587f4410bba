package fork

// Numbers of system calls that package syscall does not know everywhere.
const (
	SysSetns   = 268
	sysSeccomp = 277
)
