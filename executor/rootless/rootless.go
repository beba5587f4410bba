// Package rootless lets a user who is not root have pods: this program is started again as root of a user namespace, with a mount namespace of
// its own, in which it may make namespaces and mounts as root does. Outside it is that user as before.
//
// Who the users of the namespace are is said by newuidmap and newgidmap (package uidmap) where they are there and give the user a range
// (subuid(5)); otherwise root, who is the user, is its only one. The network is this machine's, or one of the namespace's own that pasta (package
// passt) connects with it.
//
// Pods and the keeper outlive a server, and with them the namespaces that they are in: the next server of the same folder enters these.
package rootless

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Command is the hidden command by which the program waits in its new namespace until it is known who its users are. [Wait] is its work.
const Command = "__rootless"

// patience is how long each step on the way into a namespace may take.
const patience = 10 * time.Second

// Wanted tells whether this process would have to be started again to have pods.
func Wanted() bool { return os.Geteuid() != 0 }

// OwnNetwork tells whether this process may change the network that it is in: interfaces, addresses and routes.
func OwnNetwork() bool {
	network, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return false
	}
	defer func() { _ = network.Close() }()
	owner, err := unix.IoctlRetInt(int(network.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false // it belongs to a namespace around this one
	}
	defer func() { _ = unix.Close(owner) }()
	var own, here unix.Stat_t
	return unix.Fstat(owner, &own) == nil && unix.Stat("/proc/self/ns/user", &here) == nil && own.Ino == here.Ino
}
