package fork

// Numbers of system calls that package syscall does not know everywhere.
const (
	SysSetns   = 308
	sysSeccomp = 317
)
