// Command tiphys is the whole of CI/CD in one program.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/tiphys/tiphys/cli"
	"github.com/tiphys/tiphys/event/forge/builtin"
	"github.com/tiphys/tiphys/executor/rootless"
)

func main() {
	keepInherited()
	if err := rootless.Begin(); err != nil {
		fmt.Fprintln(os.Stderr, "tiphys: "+err.Error())
		os.Exit(cli.ExitFailed)
	}
	// Git starts this program as the hooks of the built-in remote.
	if hook, ok := builtin.HookName(os.Args[0]); ok {
		os.Exit(builtin.HookMain(hook, os.Stdin, os.Stdout, os.Stderr, os.Environ()))
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Fault: fault(),
	}))
}
