package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/executor/rootless"
)

// newRootless is this program in the user namespace that it made for a user who is not root.
func newRootless() *cobra.Command {
	return &cobra.Command{
		Use: rootless.Command, Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error { return rootless.Wait(args) },
	}
}

// ended is the exit status of this program in another namespace, where it has said what there was to say.
type ended int

func (ended) Error() string { return "" }

// asRoot carries the same command out as root of a user namespace if the user is not root. entered is false if that need not be.
func asRoot(ctx context.Context, std IO, network *rootless.Network) (entered bool, err error) {
	if !rootless.Wanted() {
		return false, nil
	}
	o := rootless.Options{Args: std.args, Network: network}
	for i, f := range []any{std.In, std.Out, std.Err} {
		var ok bool
		if o.Files[i], ok = f.(*os.File); !ok {
			return true, errors.New("enter a user namespace: the standard files must be files")
		}
	}
	status, err := rootless.Enter(ctx, o)
	if err == nil && status != ExitOK {
		err = ended(status)
	}
	return true, err
}

// serveAsRoot is asRoot for a server, whose pods have a network and users of their own.
func serveAsRoot(ctx context.Context, std IO, data string, listen ...string) (entered bool, err error) {
	if !rootless.Wanted() {
		return false, nil
	}
	if rootless.Helpers().Count() < rootless.ServerUsers {
		return true, fmt.Errorf("a server without root gives its pods users: install newuidmap and newgidmap (package uidmap), and give this user %d ids in /etc/subuid and /etc/subgid; tiphys doctor says what is there", rootless.ServerUsers)
	}
	if rootless.Connector() == "" {
		return true, errors.New("a server without root connects the network of its pods by pasta: install it (package passt), or run the server as root; tiphys doctor says what is there")
	}
	if !rootless.NamesResolve() {
		fmt.Fprintln(std.Err, "tiphys: /etc/resolv.conf names only servers on loopback, which the network of a server without root does not reach: names are not resolved. Name another one there, or run the server as root")
	}
	network := &rootless.Network{Folder: rootlessFolder(data)}
	for _, address := range listen {
		if address == "" {
			continue
		}
		port, err := netip.ParseAddrPort(address)
		if err != nil {
			return true, usage(fmt.Errorf("--listen %s: a server without root listens on an address by number, such as 127.0.0.1:2746", address))
		}
		if port.Port() == 0 {
			return true, usage(fmt.Errorf("--listen %s: a server without root has a port that is known before it starts", address))
		}
		network.Ports = append(network.Ports, port)
	}
	return asRoot(ctx, std, network)
}

// rootlessFolder is where the namespaces of a server without root are noted.
func rootlessFolder(data string) string { return filepath.Join(data, "rootless") }
