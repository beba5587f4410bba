package rootless

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Range is some of the users or groups outside, which have numbers in a row.
type Range struct{ First, Size uint32 }

// ServerUsers is how many users beside root a server gives its pods at least: those of images, and nobody (65534).
const ServerUsers = 65535

// Mapping is what newuidmap and newgidmap can say of the users of a namespace; the zero value is nothing.
type Mapping struct{ Users, Groups []Range }

func (m Mapping) there() bool { return len(m.Users) > 0 && len(m.Groups) > 0 }

// Count is how many users beside root there would be.
func (m Mapping) Count() (n uint64) {
	for _, r := range m.Users {
		n += uint64(r.Size)
	}
	return n
}

// Helpers looks for newuidmap and newgidmap, and for the ranges that they would give to this process's user.
func Helpers() Mapping {
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(name); err != nil {
			return Mapping{}
		}
	}
	m := Mapping{Users: subordinate("/etc/subuid"), Groups: subordinate("/etc/subgid")}
	if !m.there() {
		return Mapping{}
	}
	return m
}

// tell says who the users of a process's namespace are: root is this process's user, and the others those of the ranges, in their order.
func (m Mapping) tell(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, c := range []struct {
		program string
		own     int
		ranges  []Range
	}{{"newuidmap", os.Geteuid(), m.Users}, {"newgidmap", os.Getegid(), m.Groups}} {
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(c.own), "1"}
		next := uint32(1)
		for _, r := range c.ranges {
			args = append(args, fmt.Sprint(next), fmt.Sprint(r.First), fmt.Sprint(r.Size))
			next += r.Size
		}
		if said, err := exec.CommandContext(ctx, c.program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s gives no users to the namespace: %s: %w", c.program, bytes.TrimSpace(said[:min(len(said), 500)]), err)
		}
	}
	return nil
}

// mostRanges is how many a mapping may have (user_namespaces(7)), beside that of root; mostUsers is the highest number that a user of the namespace may have.
const (
	mostRanges = 300
	mostUsers  = 1 << 31
)

// subordinate are the ranges that a file of subuid(5) gives to this process's user.
func subordinate(file string) (ranges []Range) {
	data, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil
	}
	names := []string{strconv.Itoa(os.Geteuid())}
	if u, err := user.Current(); err == nil {
		names = append(names, u.Username)
	}
	total := uint64(1)
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || !slices.Contains(names, f[0]) || len(ranges) == mostRanges {
			continue
		}
		first, firstErr := strconv.ParseUint(f[1], 10, 32)
		size, sizeErr := strconv.ParseUint(f[2], 10, 32)
		if firstErr != nil || sizeErr != nil || size == 0 || first+size > 1<<32-1 || total+size > mostUsers {
			continue
		}
		total += size
		ranges = append(ranges, Range{uint32(first), uint32(size)})
	}
	return ranges
}
