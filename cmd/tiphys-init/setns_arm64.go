package main

// sysSetns is the number of setns(2), which package syscall does not know everywhere.
const sysSetns = 268
