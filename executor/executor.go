// Package executor says what it is to execute a pod, and is implemented by executor/local (Linux namespaces
// on this machine) and executor/scripted (tests). The engine's steps and the local target's applications both
// run through it.
//
// A pod is Kubernetes' own Pod type used as data. A start is keyed by [ID]: starting what was started before
// attaches to it. An executor reports what happened; it never decides what it means for a run.
//
// A server has executors by name, in a [Registry]. Who consumes them holds an interface and a name: [Executor] to
// have pods run, [Claims] for durable volumes, [Logs] and [Commands] to look into a pod, [Volumes] to change what it sees.
package executor

import (
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// ErrNotFound says that the executor has no such pod.
var ErrNotFound = failure.New(failure.NotFound, "pod not found")

// ID names one attempt at one node. It is the idempotency key of everything an executor does.
type ID struct {
	// Owner is what the pod belongs to: a run's uid, or an application's.
	Owner string `json:"owner"`
	// Node is the node's id within the owner; a pod's name for applications.
	Node string `json:"node"`
	// Attempt counts from 0. An attempt is never reused: its evidence is kept.
	Attempt int `json:"attempt"`
	// Epoch is the server's epoch, which each restore of a backup raises; 0 before the first. A restored server may come to the same attempt
	// of the same node again, and that is another pod. [InEpoch] sets it on the way to an executor and takes it off on the way back, so that
	// nobody above an executor sees it.
	Epoch int64 `json:"epoch,omitempty"`
}

// Pod is what to execute.
type Pod struct {
	ID ID `json:"id"`
	// Executor names the executor of a [Registry]; empty for its default. An executor itself does not look at it.
	Executor string `json:"executor,omitempty"`
	// For is for whom the pod is: a [Registry] judges it by that, and by nothing that the pod says of itself. The zero value has the
	// least rights.
	For podpolicy.Subject `json:"-"`
	// Pod has name, namespace, labels, annotations and spec. Values from ConfigMaps and Secrets are still
	// references; Files and Env carry what they resolve to.
	Pod corev1.Pod `json:"pod"`
	// Main is the container whose end is the pod's end ("main" for steps). Empty for applications: the pod
	// ends when every container has.
	Main string `json:"main,omitempty"`
	// Script is staged as a file, and its path is appended to the main container's command.
	Script *Script `json:"script,omitempty"`
	// Inputs are brought to their Path in the main container before anything starts.
	Inputs []manifest.Artifact `json:"inputs,omitempty"`
	// Outputs say what to collect after the main container ended.
	Outputs Outputs `json:"outputs"`
	// Resolve gives the data of the objects that the spec refers to, by "ConfigMap/ns/name" or "Secret/ns/name".
	Resolve map[string]map[string]secret.Value `json:"-"`
	// Claims are those that the pod mounts and that belong to its owner. Whoever starts the pod has them made
	// before, by [Claims].
	Claims []Claim `json:"claims,omitempty"`
	// Set names the containers that together are the main one: the pod ends when all of them have, and fails if one
	// does. Main then only says whose output is wanted.
	Set []string `json:"set,omitempty"`
	// After orders the containers of a set: a container starts once those named have ended with code 0, and is not
	// started if one of them ended otherwise.
	After map[string][]string `json:"after,omitempty"`
	// Again is how often a container of a set that ended with a code other than 0 is run again in the same pod,
	// and AgainWait how long to wait before that.
	Again     int           `json:"again,omitempty"`
	AgainWait time.Duration `json:"againWait,omitempty"`
	// Token is the step's own token, worth only this attempt.
	Token secret.Value `json:"-"`
	// Env is added to every container: TIPHYS_* variables.
	Env map[string]string `json:"env,omitempty"`
	// Deadline is when the pod is stopped and reported as DeadlineExceeded; zero for never.
	Deadline time.Time `json:"deadline"`
	// Mask lists values that are taken out of logs and results.
	Mask []secret.Value `json:"-"`
}

// Script is the source of a script template.
type Script struct {
	Source string `json:"source"`
}

// Outputs is what to collect when the main container has ended.
type Outputs struct {
	// Result asks for the main container's standard output: its last 256 KiB, one trailing newline trimmed.
	Result bool `json:"result,omitempty"`
	// Parameters name files whose content is wanted (ValueFrom.Path).
	Parameters []manifest.Parameter `json:"parameters,omitempty"`
	// Artifacts are saved from their Path.
	Artifacts []manifest.Artifact `json:"artifacts,omitempty"`
}

// Phase is where a pod stands.
type Phase string

// The phases, in order. Failed means that the main container ended with a code other than 0 or ran out of time;
// Error means that the infrastructure failed: no image, an input that cannot be fetched, an output that cannot
// be saved, a pod that was lost.
const (
	Pending   Phase = "Pending"
	Running   Phase = "Running"
	Succeeded Phase = "Succeeded"
	Failed    Phase = "Failed"
	Error     Phase = "Error"
)

// Done reports whether the phase is final.
func (p Phase) Done() bool { return p == Succeeded || p == Failed || p == Error }

// Reasons of a report other than an exit code; all but the last two are final.
const (
	ReasonDeadline = "DeadlineExceeded" // stopped at its Deadline
	ReasonStopped  = "Stopped"          // stopped by Stop
	ReasonEvicted  = "Evicted"          // it used more ephemeral storage than its limit
	ReasonLost     = "Lost"             // shim or machine went away without a record
	ReasonImage    = "ImagePullFailed"
	ReasonInput    = "InputFailed"
	ReasonOutput   = "OutputFailed"
	ReasonStart    = "StartFailed" // e.g. the command does not exist
	// ReasonNotLaunched comes with phase Pending after a restart: the attempt is on record, but the server died
	// before anything of it was executed. Start it again, with its secrets, and it goes on; it is not final.
	ReasonNotLaunched = "NotLaunched"
	// ReasonScarce comes with phase Pending: nothing of the attempt runs yet, for want of something that comes back, such
	// as memory or descriptors; Message says what. The executor tries again by itself. It is not final.
	ReasonScarce = "Scarce"
)

// Report is one thing that happened to a pod.
type Report struct {
	ID ID `json:"id"`
	// Executor is the name in the [Registry] that the report came through; empty from an executor itself.
	Executor string `json:"executor,omitempty"`
	Phase    Phase  `json:"phase"`
	// Reason is one of the Reason constants; empty for a plain exit.
	Reason string `json:"reason,omitempty"`
	// Message is for people; for a failed main container "main: Error (exit code 1)" as Argo words it.
	Message string `json:"message,omitempty"`
	// ExitCode of the main container; nil while it runs or if it never started.
	ExitCode *int `json:"exitCode,omitempty"`
	// Result, Parameters and Saved are what Outputs asked for.
	Result     *string           `json:"result,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	// Missing names output parameters and artifacts whose file was not there; the engine applies defaults.
	Missing []string            `json:"missing,omitempty"`
	Saved   []manifest.Artifact `json:"saved,omitempty"`
	// IP is the pod's address, once it has one.
	IP string `json:"ip,omitempty"`
	// Containers tells of each container in Kubernetes' shape.
	Containers []corev1.ContainerStatus `json:"containers,omitempty"`
	// Host is the name of the machine.
	Host       string    `json:"host,omitempty"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
}

// Problem is something in a pod that an executor cannot do, said before anything starts.
type Problem struct {
	// Path is the field: "spec.containers[0].securityContext.seccompProfile".
	Path string `json:"path"`
	// Message says what happens instead.
	Message string `json:"message"`
	// Hint says what would help; empty if nobody knows.
	Hint string `json:"hint,omitempty"`
	// Fatal problems keep the pod from starting; others are said and the field has no effect.
	Fatal bool `json:"fatal"`
}

// Executor executes pods. Methods are safe for concurrent use. Every implementation runs the suite in
// executor/executortest.
type Executor interface {
	// Capabilities says what can be had here, for whoever plans before there is a pod. It may ask another machine; an
	// error means that nobody knows at the moment.
	Capabilities(ctx context.Context) (Capabilities, error)
	// Check says what of the pod cannot be had here. It changes nothing. An error means that nobody knows at the moment, and
	// says nothing about the pod.
	Check(ctx context.Context, p Pod) ([]Problem, error)
	// Start begins the pod, or attaches to it if its ID was started before, by this process or an earlier one.
	// It returns when the attempt is on record (so that no later Start repeats it), not when the pod runs.
	// What goes wrong afterwards is a Report. A [TransientError] means that nothing is on record: start it again later, as
	// the same attempt. A [RefusedError] means that the pod will never be started here as it is. Any other error ends the
	// attempt as well.
	Start(ctx context.Context, p Pod) error
	// Stop asks a pod to end: SIGTERM to every container's first process, SIGKILL after grace. A pod that has ended is no
	// error. One that is not known is remembered until it is started, or for [StopMemory], beyond the life of this process:
	// such a start ends at once with [ReasonStopped]. A Report follows.
	Stop(ctx context.Context, id ID, grace time.Duration) error
	// List gives the latest report of each attempt that was started and is not acknowledged. What is not in it does not run.
	List(ctx context.Context) ([]Report, error)
	// Reports is where the executor says what happened; the same channel at each call. Final reports are
	// repeated after a restart of the server until they are acknowledged.
	Reports() <-chan Report
	// Acknowledge says that the final report of this attempt is on record; its working files may go, its logs stay.
	Acknowledge(ctx context.Context, id ID) error
	// Close stops reporting. Pods go on: another Executor on the same state attaches to them.
	Close() error
}

// StopMemory is how long the stop of an attempt that is not known is remembered.
const StopMemory = 24 * time.Hour

// Logs gives what containers wrote.
type Logs interface {
	// Logs reads a container's output; ErrNotFound if there is none. See [LogOptions].
	Logs(ctx context.Context, id ID, container string, o LogOptions) (io.ReadCloser, error)
}

// Commands runs commands in pods.
type Commands interface {
	// Exec runs a command in a running container and returns its exit code and combined output (at most 64 KiB).
	Exec(ctx context.Context, id ID, container string, command []string) (code int, output []byte, err error)
}

// Volumes changes what pods that run see of the objects that they mount.
type Volumes interface {
	// Refresh has the volumes of a pod that are made of ConfigMaps, Secrets and the pod's own fields show what p.Resolve and p.Pod say now, as the
	// kubelet does: all files of a volume change at once, a container that mounts a subPath keeps what it had, and variables stay. A
	// volume that needs an object or a key that is not there keeps what it had; one for which it is optional is without it. Nothing else of p is looked at. A pod that is
	// not known is ErrNotFound, and any other error means that some volume may show what it showed before; repeat it. An error that is errors.ErrUnsupported
	// will not go away as long as this attempt lives.
	Refresh(ctx context.Context, p Pod) error
}

// LogOptions select from a log.
type LogOptions struct {
	// FromLine skips lines; 0 is the first. Negative counts from the end: -100 is the last hundred.
	FromLine int
	// Follow goes on until the container has ended.
	Follow bool
	// Timestamps puts RFC 3339 time and a space before each line.
	Timestamps bool
}
