// Package faults kills a test build of the server at its named fault points. Only cmd/tiphys with the build tag faults
// and the tests import it, so that nothing of it is in a release.
package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// The environment of a test build.
const (
	// EnvArmed says where the process ends: "ledger/append:3,executor/shim-launch:1" is the third time that the first
	// point is passed, and the first of the second. With a "!" behind it the whole process group is killed.
	EnvArmed = "TIPHYS_FAULT"
	// EnvTrace is a file that each passed point is written to, a line each. What it has already counts: N is of all
	// processes that had the same file, so that one who starts the server again is not killed at the same place again.
	EnvTrace = "TIPHYS_FAULT_TRACE"
	// EnvPoison is an item, KIND/KEY or the beginning of it, that ends the process by a fault of its own whenever it is in hand.
	EnvPoison = "TIPHYS_POISON"
)

// Point is a named place where the server may die.
type Point struct {
	// Name is ROOM/POINT.
	Name string
	// When says what is done by then, and what is not.
	When string
}

// Points are all of them. Beside "ledger/append" and "ledger/after-commit" there is one of each kind of entry: the same
// name, a space and the kind.
func Points() []Point {
	return []Point{
		{"ledger/append", "an entry is in the transaction, with its rows"},
		{"ledger/before-commit", "a batch is written and not committed"},
		{"ledger/after-commit", "a batch is durable, and nobody was told"},
		{"ledger/outbox-claim", "work is leased and the lease is not committed"},
		{"ledger/outbox-claimed", "the lease is durable and the work is not begun"},
		{"git/repo-record", "a repository is on record and not on disk"},
		{"git/ref-update", "a push or merge is on record as intended, refs are as before"},
		{"git/before-confirm", "refs have moved, which is not on record"},
		{"git/after-confirm", "refs have moved, which is on record; git was not answered"},
		{"quarantine/try", "an item is in hand, and nothing was made of it"},
		{"events/fired", "a trigger was carried out, which is not on record"},
		{"runs/append", "an entry of a run is in the transaction"},
		{"runs/shim-launch", "a step is decided on and the executor was not asked"},
		{"runs/acknowledge", "a step's end is on record and the executor was not told"},
		{"executor/pod-record", "an attempt has its folder and nothing else"},
		{"executor/network-lease", "a pod's interfaces are there and not on record"},
		{"executor/shim-start", "a pod is prepared: images, volumes, inputs"},
		{"executor/shim-order", "a shim runs and has no order"},
		{"executor/shim-launch", "a shim has its order"},
		{"executor/exit-record", "a pod has left its exit record, which nobody has read"},
		{"executor/artifacts-saved", "output artifacts are stored, which nobody was told"},
		{"executor/report-record", "a final report is in the attempt's folder, and was not sent"},
		{"executor/acknowledge", "the end of an attempt is settled and its folder is as it was"},
		{"executor/acknowledge-half", "the working files are in the trash, the attempt is still among the live"},
		{"executor/acknowledged", "the attempt is among the done"},
		{"registry/image-stored", "an image is in the registry and not on record"},
		{"target/apply", "an object is decided on and not on record"},
		{"target/applied", "an object is on record and nothing was done about it"},
		{"target/delete", "an object is to go, which is not on record"},
		{"target/pod-start", "an application's pod is on record and the executor was not asked"},
		{"target/pod-started", "the executor has an application's pod, and nobody was told"},
		{"target/pod-end", "an application's pod has ended, which is not on record"},
	}
}

// CommandPoints are those of the commands that work beside a server: backup and restore.
func CommandPoints() []Point {
	return []Point{
		{"backup/ledger", "the ledger is copied and verified, the archive is not begun"},
		{"backup/git", "ledger and repositories are in the archive"},
		{"backup/contents", "artifacts and images are in the archive, which is not ended"},
		{"backup/written", "the archive is on the disk and was not read back"},
		{"backup/verified", "the archive was read back and has no name"},
		{"backup/keys", "the keys have their file, the archive has no name"},
		{"restore/extracted", "the archive was read to its end; keys and refs are not written"},
		{"restore/whole", "the restored ledger is verified"},
		{"restore/refs", "the repositories' refs are where the ledger says"},
		{"restore/recorded", "the restore is in the ledger; the folder has not its epoch"},
		{"restore/place", "everything is on the disk and the folder has not its name"},
		{"restore/placed", "the folder has its name, and a mark that it was being made"},
	}
}

// FromEnviron gives the function that rooms call at their points, or nil if the environment asks for nothing.
func FromEnviron(getenv func(string) string) (func(point string), error) {
	armed, trace, poison := getenv(EnvArmed), getenv(EnvTrace), getenv(EnvPoison)
	if armed == "" && trace == "" && poison == "" {
		return nil, nil
	}
	f := &faults{path: trace, poison: poison, armed: map[pass]int{}}
	for part := range strings.SplitSeq(armed, ",") {
		if armed == "" {
			break
		}
		text, group := strings.CutSuffix(part, "!")
		name, number, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s: %q is not POINT:N", EnvArmed, part)
		}
		// The numbers of kill(2): a process, or 0 for the caller's process group.
		f.armed[pass{name, n}] = os.Getpid()
		if group {
			f.armed[pass{name, n}] = 0
		}
	}
	return f.pass, nil
}

type pass struct {
	point string
	n     int
}

type faults struct {
	path   string
	poison string
	armed  map[pass]int // who is killed

	mu     sync.Mutex
	passed map[string]int
	trace  *os.File
}

// pass counts a point, and ends the process at the armed one.
func (f *faults) pass(point string) {
	if item, ok := strings.CutPrefix(point, "quarantine/try "); ok {
		if f.poison != "" && strings.HasPrefix(item, f.poison) {
			go func() { panic("poisoned: " + item) }() //nolint:forbidigo // where nobody recovers it
			select {}
		}
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.passed == nil {
		f.open()
	}
	f.passed[point]++
	n := f.passed[point]
	whom, ends := f.armed[pass{point, n}]
	word := ""
	if ends {
		word = killed
	}
	if f.trace != nil {
		_, _ = f.trace.WriteString(point + word + "\n") // The driver sees that a line is missing.
	}
	if ends {
		_ = syscall.Kill(whom, syscall.SIGKILL)
		select {} // The signal is on its way; nothing more is done meanwhile.
	}
}

// killed ends the line of the pass that ended the process.
const killed = "\tkilled"

func (f *faults) open() {
	f.passed = map[string]int{}
	if f.path == "" {
		return
	}
	if t, err := ReadTrace(f.path); err == nil {
		for _, p := range t {
			f.passed[p.Point]++
		}
	}
	f.trace, _ = os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// Pass is a point that was passed; Killed says that the process ended there.
type Pass struct {
	Point  string
	Killed bool
}

// ReadTrace reads the passes of all processes in order. A file that is not there has none.
func ReadTrace(path string) ([]Pass, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	var passes []Pass
	for line := range strings.Lines(string(data)) {
		point, ended := strings.CutSuffix(strings.TrimSuffix(line, "\n"), killed)
		passes = append(passes, Pass{Point: point, Killed: ended})
	}
	return passes, nil
}
