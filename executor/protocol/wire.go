// Package protocol is what the server and the shim of a pod say to each other: the order to run a pod, the events
// that follow, and the record that is left on disk. It imports nothing but the standard library, because the
// shim (cmd/tiphys-init) does neither.
package protocol

import "time"

// Files of an attempt's folder.
const (
	PodFile    = "pod.json"    // the pod as ordered, without secrets
	ShimFile   = "shim.json"   // who runs it; created exclusively before anything is executed
	RecordFile = "exit.json"   // how it ended
	ReportFile = "report.json" // the final report, where it says more than the record
	SocketFile = "sock"
	// NoticeFile, two folders above, is where the server hears of all pods: a datagram is a [Notice].
	NoticeFile = "notices"
	LogFolder  = "log"
	WorkFolder = "work"
)

// ResultLimit is the most that is kept of the main container's output as its result, in bytes.
const ResultLimit = 256 << 10

// ParametersLimit is the most that the files of a step's output parameters may hold together, in bytes: what a step leaves is
// recorded, and a hostile one must not fill the ledger. As JSON, in which they travel, it may be six times as much.
const ParametersLimit = 8 << 20

// Limits of what a pod pushes to the server in one request, in bytes.
const (
	PushedOutputLimit = 1 << 20 // an output parameter
	PushedPieceLimit  = 1 << 20 // a piece of a log
)

// Reserve is how much of the disk an attempt sets aside in its [ShimFile], in bytes: a step that fills the disk must not keep
// the record of its end from being written. Spaces after the JSON make it up.
const Reserve = 16 << 10

// ExecLimit is the most that is kept of the output of a command run in a container, in bytes.
const ExecLimit = 64 << 10

// Kinds of container.
const (
	KindInit    = "init"    // runs to its end before the next one starts
	KindMain    = "main"    // its end is part of the pod's end
	KindSidecar = "sidecar" // stopped once the main containers have ended
)

// Reasons of an end other than an exit code; they are those of package executor.
const (
	ReasonDeadline = "DeadlineExceeded"
	ReasonStopped  = "Stopped"
	ReasonLost     = "Lost"
	ReasonStart    = "StartFailed"
	ReasonScarce   = "Scarce" // of a shim that gives the attempt back because this machine has too little of something
)

// Spec is an order to run one pod. It may hold secrets, so it travels through a socket and is never stored.
type Spec struct {
	Hostname string `json:"hostname"`
	// Dir is the attempt's folder; empty where it is the shim's working folder.
	Dir string `json:"dir,omitempty"`
	// Name is the attempt's in notices; without one there are none.
	Name string `json:"name,omitempty"`
	// Work is the attempt's working folder, absolute.
	Work string `json:"work"`
	// Root is any folder; the pod's roots are mounted over it, where only the pod sees them.
	Root string `json:"root"`
	// Hide lists paths of this machine that host views do not show.
	Hide []string `json:"hide,omitempty"`
	// Network gives the pod a network namespace of its own.
	Network bool `json:"network,omitempty"`
	// NetworkPath is where that namespace can be opened, by the shim and at once: it goes with the server until then.
	NetworkPath string `json:"networkPath,omitempty"`
	// Users gives the pod's containers a user namespace of their own; nil for this machine's. Such a pod has a network of its own.
	Users *Users `json:"users,omitempty"`
	// Descriptors is the limit on open files of the pod's processes; nil for the shim's own.
	Descriptors *Descriptors `json:"descriptors,omitempty"`
	// Bound ends the pod when the connection that ordered it is closed.
	Bound bool `json:"bound,omitempty"`
	// Cgroups are folders that the pod's first process joins; the shim removes them in the end.
	Cgroups []string `json:"cgroups,omitempty"`
	// OOMScore is the pod's oom_score_adj of proc(5): the higher, the sooner it is killed when the machine is out of memory.
	OOMScore int `json:"oomScore,omitempty"`
	// Processes is how many processes and threads the pod may have, where the kernel counts them by PID namespace (Linux 6.14); 0 for no bound.
	Processes int `json:"processes,omitempty"`
	// Containers in the order in which they start.
	Containers []Container `json:"containers"`
	Volumes    []Volume    `json:"volumes,omitempty"`
	Deadline   time.Time   `json:"deadline"`
	// Grace is the time between SIGTERM and SIGKILL where nobody says otherwise.
	Grace time.Duration `json:"grace"`
	// Files are read from the main container's file system once it has ended, by name.
	Files map[string]string `json:"files,omitempty"`
	// Result asks for the tail of the main container's standard output.
	Result bool `json:"result,omitempty"`
	// Hold keeps the file systems mounted after the end until [Release].
	Hold bool `json:"hold,omitempty"`
	// Mask lists values that are taken out of logs and results.
	Mask []string `json:"mask,omitempty"`
	// LogLimit is the most that is kept of one container's log, in bytes.
	LogLimit int64 `json:"logLimit"`
	// LogSpill is a folder for what is more of a log than LogKeep bytes; empty where all of it stays with the attempt.
	LogSpill string `json:"logSpill,omitempty"`
	LogKeep  int64  `json:"logKeep,omitempty"`
	// NoSync leaves out fsync.
	NoSync bool `json:"noSync,omitempty"`
}

// UsersSize is how many users, and groups, a user namespace of a pod has: those from 0 on inside.
const UsersSize = 65536

// Users is a pod's user namespace. Whoever has the range of ids holds a lock on a byte of a file, which the kernel lets go with the process.
type Users struct {
	// First is the id on this machine that is 0 inside.
	First uint32 `json:"first"`
	// Path is where the namespace can be opened, by the shim and at once: it goes with the server until then.
	Path string `json:"path"`
	// LockFile and LockByte are where the shim holds the range for as long as the pod lives.
	LockFile string `json:"lockFile"`
	LockByte int64  `json:"lockByte"`
}

// Descriptors is a limit on open files (RLIMIT_NOFILE of getrlimit(2)).
type Descriptors struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Container is one container, with everything resolved that needs no look into its file system.
type Container struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Layers of the root file system, the topmost first. Host views have none.
	Layers []string `json:"layers,omitempty"`
	Host   bool     `json:"host,omitempty"`
	Args   []string `json:"args"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir,omitempty"`
	// User is a name or number, optionally with ":" and a group, as in an image's configuration.
	User   string   `json:"user,omitempty"`
	Groups []uint32 `json:"groups,omitempty"`
	// NonRoot refuses to run as user 0.
	NonRoot bool `json:"nonRoot,omitempty"`
	// Capabilities is the bounding set, one bit each.
	Capabilities uint64 `json:"capabilities"`
	Privileged   bool   `json:"privileged,omitempty"`
	NoNewPrivs   bool   `json:"noNewPrivs,omitempty"`
	// Filter says which system calls may be used: a program as seccomp(2) takes it, an array of struct sock_filter. Empty for all.
	Filter   []byte  `json:"filter,omitempty"`
	ReadOnly bool    `json:"readOnly,omitempty"`
	Mounts   []Mount `json:"mounts,omitempty"`
	// Aside marks a main container, one of a set, whose output and files are not wanted.
	Aside bool `json:"aside,omitempty"`
	// After names main containers that must end with code 0 first; if one does not, this one is left out.
	After []string `json:"after,omitempty"`
	// Again is how often the container is run again after another code than 0, AgainWait the time before that.
	Again     int           `json:"again,omitempty"`
	AgainWait time.Duration `json:"againWait,omitempty"`
	// Stdin is always empty; TTY is not provided.
}

// Mount brings a volume, or a file or folder of this machine, to a path in a container.
type Mount struct {
	Volume   string `json:"volume,omitempty"`
	Source   string `json:"source,omitempty"`
	SubPath  string `json:"subPath,omitempty"`
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Inside says that who owns what is in Source is written down in ids of the pod's user namespace, if it has one.
	Inside bool `json:"inside,omitempty"`
}

// Volume is something that the pod's containers share: a folder of this machine, or files kept in memory.
type Volume struct {
	Name string `json:"name"`
	// Path is the folder or file on this machine; empty for a volume in memory.
	Path string `json:"path,omitempty"`
	// Inside is that of a [Mount]: pods with different ranges of ids see the same owners.
	Inside bool `json:"inside,omitempty"`
	// Size limits a volume in memory, in bytes; 0 for half of the machine's memory.
	Size  int64  `json:"size,omitempty"`
	Files []File `json:"files,omitempty"`
	// Live says that the files may change while the pod runs, by [OpFiles].
	Live bool `json:"live,omitempty"`
	// Group owns the volume's files if not 0 (securityContext.fsGroup).
	Group int `json:"group,omitempty"`
}

// File is one file of a volume in memory.
type File struct {
	Path string `json:"path"`
	Data []byte `json:"data"`
	Mode uint32 `json:"mode"`
}

// Shim is who runs a pod, as [ShimFile] keeps it.
type Shim struct {
	PID int `json:"pid"`
	// Start is the process's start time in clock ticks since boot, so that a reused pid is recognised.
	Start uint64 `json:"start"`
	// Boot is the kernel's boot id.
	Boot string `json:"boot"`
	// Notices says that the shim sends a [Notice] of what happens, so that nobody need stay connected to hear of it.
	Notices bool `json:"notices,omitempty"`
	// Files says that the shim knows [OpFiles].
	Files bool `json:"files,omitempty"`
}

// Notice tells the server of one pod what it would tell a connection. One that the server does not hear is not repeated: the
// shim's files say as much.
type Notice struct {
	Name  string `json:"name"`
	Event Event  `json:"event"`
}

// Record says how a pod ended, as [RecordFile] keeps it.
type Record struct {
	// Code of the main container; nil if it never started.
	Code       *int              `json:"code,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Message    string            `json:"message,omitempty"`
	Containers []ContainerRecord `json:"containers"`
	Result     *string           `json:"result,omitempty"`
	// Files holds what was read, Missing the names of what was not there, TooLarge of what was over [ParametersLimit].
	Files      map[string]string `json:"files,omitempty"`
	Missing    []string          `json:"missing,omitempty"`
	TooLarge   []string          `json:"tooLarge,omitempty"`
	StartedAt  time.Time         `json:"startedAt"`
	FinishedAt time.Time         `json:"finishedAt"`
	// Reader is who the output artifacts are read as: the main container's user.
	Reader *Reader `json:"reader,omitempty"`
	// PID of the pod's first process, whose file system the shim holds for the output artifacts.
	PID int `json:"pid,omitempty"`
}

// Reader is a container's user, by ids within the pod's users.
type Reader struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	// KeepGroups says that the groups cannot be changed, and are those of whoever reads.
	KeepGroups bool `json:"keepGroups,omitempty"`
	// Capabilities are those of user 0, one bit each.
	Capabilities uint64 `json:"capabilities,omitempty"`
	// Users says that the pod has a user namespace of its own, which its network belongs to.
	Users bool `json:"users,omitempty"`
}

// ContainerRecord says how a container ended.
type ContainerRecord struct {
	Name       string    `json:"name"`
	Code       *int      `json:"code,omitempty"`
	Message    string    `json:"message,omitempty"`
	OOM        bool      `json:"oom,omitempty"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	// Dropped counts the bytes of log beyond the limit.
	Dropped int64 `json:"dropped,omitempty"`
}

// Operations of a [Request].
const (
	OpSpec    = "spec"    // the order; the first thing that a shim hears
	OpAttach  = "attach"  // tell me what happened and what happens
	OpStop    = "stop"    // SIGTERM, and SIGKILL after Grace
	OpExec    = "exec"    // run a command in a container
	OpFiles   = "files"   // have volumes show other files
	OpRelease = "release" // what was wanted has been collected: unmount and end
	OpSignal  = "signal"  // between shim and init only
	OpQuit    = "quit"    // between shim and init only
)

// Request goes to a shim, and from a shim to the pod's init.
type Request struct {
	Op        string        `json:"op"`
	Spec      *Spec         `json:"spec,omitempty"`
	Grace     time.Duration `json:"grace,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	Container string        `json:"container,omitempty"`
	Args      []string      `json:"args,omitempty"`
	Signal    int           `json:"signal,omitempty"`
	Number    int           `json:"number,omitempty"`
	// Volumes are those of an [OpFiles], by name: what each shows from now on.
	Volumes []Volume `json:"volumes,omitempty"`
}

// Names of an [Event].
const (
	EventPID     = "pid"     // the pod's first process exists, and has its network
	EventStarted = "started" // a container runs
	EventExited  = "exited"  // a container ended
	EventSkipped = "skipped" // a container is left out because one before it failed; between init and shim only
	EventRead    = "read"    // files were read; between init and shim only
	EventFailed  = "failed"  // the pod cannot run
	EventExec    = "exec"    // a command ended, or files were changed; a code below 0 is that nothing was done
	EventEnded   = "ended"   // the record is on disk
	EventAborted = "aborted" // nothing was run, and the shim gave the attempt back
	EventTold    = "told"    // that was all that has happened so far; the answer to [OpAttach] ends with it
)

// Event comes from a shim, or from the pod's init to its shim.
type Event struct {
	Event     string            `json:"event"`
	PID       int               `json:"pid,omitempty"`
	Container string            `json:"container,omitempty"`
	Code      int               `json:"code,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Message   string            `json:"message,omitempty"`
	Time      time.Time         `json:"time"`
	Number    int               `json:"number,omitempty"`
	Output    []byte            `json:"output,omitempty"`
	Files     map[string]string `json:"files,omitempty"`
	Missing   []string          `json:"missing,omitempty"`
	TooLarge  []string          `json:"tooLarge,omitempty"`
	Reader    *Reader           `json:"reader,omitempty"`
}
