package audit

import (
	"context"
	"fmt"

	"github.com/tiphys/tiphys/control"
)

// A disk is full for the server when less than this is free: nothing more can be counted on to be recorded. It is an eighth of what
// logs leave free on theirs, so that steps alone do not make it so.
const (
	leastRoom     = 8 << 20 // bytes
	leastRoomPart = 128     // of a small disk
)

// Recording tells whether things can be recorded, and whether the record is as it should be. It is a [control.Service] that has nothing
// to do but to be asked. All fields are required.
type Recording struct {
	// Folder is the data folder.
	Folder string
	Disk   interface {
		// Room tells how many bytes are free on a folder's disk, and how many it has.
		Room(folder string) (free, size uint64)
	}
	Auditor *Auditor
	Rows    interface {
		// Trouble is why the rows could not be derived anew; nil if they could.
		Trouble() error
	}
	Held interface {
		// Reason says why nothing acts; empty if the server is not held.
		Reason() string
	}
}

// Name implements [control.Service].
func (*Recording) Name() string { return "disk" }

// Start implements [control.Service].
func (*Recording) Start(context.Context) error { return nil }

// Run implements [control.Service].
func (*Recording) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Health implements [control.Service].
func (r *Recording) Health() control.Health {
	if t := r.trouble(); t != "" {
		return control.Health{State: control.Failing, Reason: t}
	}
	return control.Health{}
}

// Shown is what the screens show above everything: what is wrong, or that the server is held.
func (r *Recording) Shown() string {
	if t := r.trouble(); t != "" {
		return t
	}
	if reason := r.Held.Reason(); reason != "" {
		return "This server is " + reason
	}
	return ""
}

// trouble says for people what keeps the server from recording anything, or what is wrong with its record; empty if nothing is. What runs
// goes on, and what is there can be read.
func (r *Recording) trouble() string {
	free, size := r.Disk.Room(r.Folder)
	if free < min(leastRoom, size/leastRoomPart) {
		return fmt.Sprintf("the disk of the data folder is full (%d KiB are free): nothing new is recorded until there is room again", free>>10)
	}
	if t := r.Auditor.Trouble(); t != "" {
		return t
	}
	if err := r.Rows.Trouble(); err != nil {
		return err.Error()
	}
	return ""
}
