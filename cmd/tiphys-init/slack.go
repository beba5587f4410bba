package main

import "syscall"

// Go's runtime looks after a busy process by a thread that sleeps for 20 µs at a time. With the kernel's usual precision that is
// thousands of wake-ups a second, more processor time than most pods need to start. These processes have no use for it.

const (
	prSetTimerSlack = 29 // prctl(2)
	// restfulSlack is how late this program's own timers may be, in nanoseconds.
	restfulSlack = 1_000_000
	// usualSlack is how late those of a container's processes may be: what the kernel gives every process, in nanoseconds.
	usualSlack = 50_000
)

// restful lets this process, and the first processes of pods that it starts, sleep a little longer than they ask for.
func restful() {
	// Without it all works, at a higher cost.
	_, _, _ = syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prSetTimerSlack, restfulSlack, 0)
}
