package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// bridgeLocks is where executors of this machine tell each other what they do with a bridge that they share.
const bridgeLocks = "/run/tiphys"

// bridgePatience is how long the lock of a bridge is waited for: whoever has it makes or removes an interface meanwhile.
const bridgePatience = 5 * time.Second

// lockBridge keeps another executor from removing the bridge, or with remove from relying on it, until unlock is called. The lock goes with
// the process, however it ends.
func (n *network) lockBridge(remove bool) (unlock func(), err error) {
	how := unix.LOCK_SH
	if remove {
		how = unix.LOCK_EX
	}
	_ = os.MkdirAll(bridgeLocks, 0o700) // the next line says if it is not there
	f, err := os.OpenFile(filepath.Join(bridgeLocks, filepath.Base(n.o.Bridge)+".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return func() {}, nil //nolint:nilerr // where /run cannot be written there are no other executors to agree with
	}
	limit := time.Now().Add(bridgePatience)
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // which unlocks it
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(limit) {
			return nil, errors.Join(fmt.Errorf("lock bridge %s: %w", n.o.Bridge, err), f.Close())
		}
		<-time.After(time.Millisecond)
	}
}
