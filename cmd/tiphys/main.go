// Command tiphys is the whole of CI/CD in one program.
package main

import (
	"context"
	"os"

	"github.com/tiphys/tiphys/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
	}))
}
