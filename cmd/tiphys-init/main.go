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
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	if len(args) > 0 && filepath.Base(args[0]) == "tiphys" {
		return client.Main(args[1:])
	}
	if len(args) == 2 {
		// The kernel ties a parent-death signal and namespaces to a thread; the first one lives as long as the process.
		runtime.LockOSThread()
		switch args[1] {
		case "shim":
			return shimMain()
		case "keeper":
			return keeperMain()
		case "init":
			return initMain()
		}
	}
	fmt.Fprintln(os.Stderr, "tiphys-init is started by tiphys; there is nothing here to call by hand")
	return 2
}
