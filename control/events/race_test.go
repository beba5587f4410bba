//go:build race

package events_test

// raced says that the race detector is on, whose own memory counts against the limits of a script's process.
const raced = true
