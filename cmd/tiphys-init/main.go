// Command tiphys-init is the small program beside every pod: the shim that owns it, the first process in it,
// and, under the name tiphys, what its steps call to speak to the server. It imports the standard library only,
// because it is started twice per pod and must be there in milliseconds.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tiphys/tiphys/cmd/tiphys-init/client"
	"github.com/tiphys/tiphys/executor/fork"
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	if len(args) > 0 && filepath.Base(args[0]) == "tiphys" {
		return client.Main(args[1:])
	}
	fork.KeepInherited()
	if len(args) > 1 {
		switch args[1] {
		case "shim":
			// The kernel ties a parent-death signal to the thread that starts a process; the first one lives as long as this process.
			runtime.LockOSThread()
			return shimMain()
		case "keeper":
			runtime.LockOSThread()
			if len(args) == 3 {
				return keeperMain(args[2])
			}
		case "init":
			if len(args) == 3 {
				return initMain(args[2])
			}
		}
	}
	fmt.Fprintln(os.Stderr, "tiphys-init is started by tiphys; there is nothing here to call by hand")
	return 2
}
