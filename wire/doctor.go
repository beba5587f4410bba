package wire

import (
	"context"
	"fmt"

	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/repo/git"
)

// leastRoom is how much of a disk a server wants free, in bytes: images, artifacts and the record need more soon.
const leastRoom = 2 << 30

// Examine says what this machine has of what a server with that data folder wants. It changes nothing.
func Examine(ctx context.Context, data string) []local.Condition {
	list := local.Examine(data)
	version := local.Condition{Name: "git", State: local.StateOK, Found: "2.38 or newer"}
	if err := git.New("git").CheckVersion(ctx); err != nil {
		version.State, version.Found, version.Do = local.StateMissing, err.Error(), "install git 2.38 or newer"
	}
	free, size := datafolder.Disk{}.Room(local.Nearest(data))
	disk := local.Condition{Name: "disk", State: local.StateOK, Found: fmt.Sprintf("%d of %d GiB free for %s", free>>30, size>>30, data)}
	if free < leastRoom {
		disk.State, disk.Do = local.StateLimited, "make room, or name a data folder on another disk"
	}
	return append(list, version, disk)
}
