package main

// Numbers of system calls that package syscall does not know everywhere.
const (
	sysSetns = 308
)
