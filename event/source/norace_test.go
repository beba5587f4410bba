//go:build !race

package source_test

// raced says that the race detector is on, whose own memory and time count against limits.
const raced = false
