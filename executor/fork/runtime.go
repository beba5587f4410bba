package fork

import (
	_ "unsafe" // go:linkname
)

// What package syscall itself calls around a fork. Go keeps these three names for programs that fork on their own (go.dev/issue/67401): they
// keep signals away meanwhile, and a stack from growing.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// clone makes a process that shares the memory of this one, on the same stack: this one waits until the child executes something or ends. The
// result is 0 in the child, and negative for an error.
func clone(flags uintptr) (pid uintptr)
