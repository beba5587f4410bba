// Package story plays the main job on this machine with real parts: a push becomes a running application, a merge
// request a preview, a merge a roll-out, and the ledger says why. Each claim is checked over HTTP or by the command
// line, each with a deadline; the first that does not hold ends the story with what was seen instead.
package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Names are what the sample's repository and services are called. Nothing in the program knows any of them.
type Names struct {
	Repo, API, Web, Worker string
}

// Harbour is the sample as it is kept in examples.
var Harbour = Names{Repo: "harbour", API: "api", Web: "web", Worker: "worker"}

// Options say what is played, and where.
type Options struct {
	// Tiphys is the program; Sample the folder of the sample; Deliveries the folder with GitLab's recorded ones.
	Tiphys, Sample, Deliveries string
	// Names to give the repository and the services; the zero value means Harbour.
	Names Names
	// Grants are further grants of the server, each an item of the list in its configuration file.
	Grants []string
	// Egress are addresses that manifests may have the server reach though they are this machine's.
	Egress []string
	// Out is told each step in a line.
	Out io.Writer
	// Edit changes the sample's files before they are committed; nil for no change.
	Edit func(dir string) error
	// Rough says that the server is killed while the story is played: what is claimed of times and of
	// requests without a failure does not hold then, and every call is tried again until its deadline.
	Rough bool
	// Stay is called after the story, with everything still up; nil to stop at once.
	Stay func(ctx context.Context, w *World) error
	// Env is added to the server's environment.
	Env []string
	// Began is called when the server is up for the first time.
	Began func(w *World)
}

// Play plays the story and stops everything that it started, whatever happens. Its error says what did not hold.
func Play(ctx context.Context, o Options) (err error) {
	w, err := Open(o)
	if err != nil {
		return err
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, w.Close(cleanup, err == nil))
	}()
	began := time.Now()
	acts := []struct {
		title string
		play  func(context.Context) error
	}{
		{"The server starts, and a repository is made", w.opening},
		{"A push becomes a running application", w.push},
		{"A merge request gets a preview", w.mergeRequest},
		{"The merge rolls production without a failed request", w.merge},
		{"The ledger says why, and shows when it was changed", w.trail},
		{"GitLab's deliveries, and every decision about them", w.deliveries},
	}
	for i, act := range acts {
		w.title("%d. %s", i+1, act.title)
		if err := act.play(ctx); err != nil {
			return fmt.Errorf("%d. %s: %w%s", i+1, act.title, err, w.lastWords())
		}
	}
	if o.Stay != nil {
		w.title("The whole story took %s", round(time.Since(began)))
		if err := o.Stay(ctx, w); err != nil {
			return err
		}
		ctx = context.WithoutCancel(ctx) // A Ctrl-C ended the stay; the rest ends in order.
	}
	if err := w.ending(ctx); err != nil {
		return fmt.Errorf("the end: %w%s", err, w.lastWords())
	}
	w.title("All of it held, in %s", round(time.Since(began)))
	return nil
}
