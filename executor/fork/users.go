package fork

import (
	"fmt"
	"os"
	"strings"
)

// MachineUsers tells how many users there are here: in a user namespace those that somebody outside was given for, and all on the machine itself.
func MachineUsers() (count uint64, machine bool) {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return 1 << 32, true // a kernel without user namespaces
	}
	for line := range strings.Lines(string(data)) {
		var inside, outside, size uint64
		if n, _ := fmt.Sscan(line, &inside, &outside, &size); n == 3 {
			count += size
			machine = machine || inside == 0 && outside == 0 && size == 1<<32-1
		}
	}
	return count, machine
}
