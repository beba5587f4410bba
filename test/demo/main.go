// Demo plays the main job on this machine and tells each step in a line. It then stays up until Ctrl-C; with -once it
// stops everything and exits 0, or says what did not hold and exits 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tiphys/tiphys/test/story"
)

func main() {
	o := story.Options{Out: os.Stdout}
	flag.StringVar(&o.Tiphys, "tiphys", "bin/tiphys", "the program")
	flag.StringVar(&o.Sample, "sample", "examples/harbour", "the sample's folder")
	flag.StringVar(&o.Deliveries, "deliveries", "event/testdata/gitlab", "the folder of recorded deliveries")
	once := flag.Bool("once", false, "stop after the story")
	flag.Parse()
	if !*once {
		o.Stay = stay
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := story.Play(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "\nthe story does not hold: %v\n", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// stay leaves everything up until Ctrl-C; what follows needs a context that has not ended.
func stay(ctx context.Context, w *story.World) error {
	fmt.Printf("\nLook around: %s (Ctrl-C ends it)\n", w.Screen())
	<-ctx.Done()
	return nil
}
