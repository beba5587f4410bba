// Package client is what steps call as "tiphys": it speaks to the server that runs them.
package client

import (
	"fmt"
	"os"
)

// Main runs the client with the arguments after the program's name and returns the exit code.
func Main(args []string) int {
	name := ""
	if len(args) > 0 {
		name = " " + args[0]
	}
	fmt.Fprintf(os.Stderr, "tiphys: unknown command%s\n", name)
	return 2
}
