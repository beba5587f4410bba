package rootless

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	resolvers = "/etc/resolv.conf"
	// upstream are the name servers behind the one that systemd-resolved has on loopback (systemd-resolved.service(8)).
	upstream = "/run/systemd/resolve/resolv.conf"
)

// NamesResolve tells whether a network of a namespace's own would reach a name server: one on loopback it does not, but systemd-resolved says
// which ones are behind it.
func NamesResolve() bool { return reaches(resolvers) || reaches(upstream) }

// reaches tells whether a file of resolv.conf(5) names a server that is not on loopback.
func reaches(file string) bool {
	data, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !a.IsLoopback() {
			return true
		}
	}
	return false
}

// resolveNames shows in this mount namespace the name servers that its own network reaches.
func resolveNames() error {
	if reaches(resolvers) || !reaches(upstream) {
		return nil
	}
	shown, err := filepath.EvalSymlinks(resolvers)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = unix.Mount(upstream, shown, "", unix.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("show the name servers of the namespace: %w", err)
	}
	return nil
}
