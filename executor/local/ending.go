package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/manifest"
)

const (
	reconnectPause  = 20 * time.Millisecond
	acknowledgeWait = 10 * time.Second
)

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// settle turns the record of a pod that has ended into its final report. Several may see the end; one of them does it.
func (a *attempt) settle() {
	if !a.settling.TryLock() {
		return
	}
	defer a.settling.Unlock()
	a.mu.Lock()
	done := a.final != nil
	a.mu.Unlock()
	if done {
		return
	}
	a.e.o.Fault("exit-record")
	record, err := a.record()
	for err != nil && executor.Scarce(err) {
		// That it cannot be read now says nothing about whether it is there.
		pause(a.e.ctx, scarceWait)
		if a.e.ctx.Err() != nil {
			return // the next executor on this folder reads it
		}
		record, err = a.record()
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && a.givenBack() {
			a.awaitsOrder()
			return
		}
		a.unrecorded()
		return
	}
	r := a.fromRecord(record)
	if len(a.pod.Outputs.Artifacts) == 0 {
		a.conclude(r)
		return
	}
	ctx, cancel := a.saving(record.Reason == executor.ReasonStopped)
	err = a.saveArtifacts(ctx, record, &r)
	stopped := ctx.Err() != nil
	cancel()
	if err != nil {
		if a.e.ctx.Err() != nil {
			return // the next executor on this folder saves them
		}
		if r.Phase == executor.Succeeded && stopped {
			r.Phase, r.Reason, r.Message = executor.Failed, executor.ReasonStopped, stoppedSaving
		} else if r.Phase == executor.Succeeded {
			r.Phase, r.Reason, r.Message = executor.Error, executor.ReasonOutput, err.Error()
		}
	}
	a.e.o.Fault("artifacts-saved")
	// Only who finds the attempt among the live lets go of its pod, so that comes before anybody can acknowledge it.
	if !a.keepForSure(r) {
		return
	}
	_ = a.send(protocol.Request{Op: protocol.OpRelease})
	a.conclude(r)
}

// stoppedSaving is the message of a pod that was stopped when it had ended, and its artifacts were not saved yet.
const stoppedSaving = "stopped while its output artifacts were saved"

// saving is the context in which artifacts are saved. Of a pod that was stopped that may take as long as its end; Stop ends it as well.
func (a *attempt) saving(stopped bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a.e.ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopSaving = func(grace time.Duration) { time.AfterFunc(grace, cancel) }
	if stopped || a.stopped {
		a.stopSaving(a.grace())
	}
	return ctx, cancel
}

// grace is how long the pod's end may take.
func (a *attempt) grace() time.Duration {
	if g := a.pod.Pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return a.e.o.Grace
}

// unrecorded concludes an attempt whose end is not on record.
func (a *attempt) unrecorded() {
	_ = a.send(protocol.Request{Op: protocol.OpRelease}) // to a shim that could not write and holds the pod
	a.e.removeGroups(a.name)
	a.mu.Lock()
	refused := a.refused
	a.mu.Unlock()
	if refused != "" {
		a.finish(a.report(executor.Error, executor.ReasonStart, "start pod: "+refused))
		return
	}
	a.finish(a.report(executor.Error, executor.ReasonLost, "the pod was lost: its shim or the machine went away without leaving a record"))
}

func (a *attempt) record() (protocol.Record, error) {
	var record protocol.Record
	data, err := os.ReadFile(filepath.Join(a.dir, protocol.RecordFile))
	if err != nil {
		return record, err
	}
	return record, json.Unmarshal(data, &record)
}

// keptReport reads a final report that was kept as such.
func (a *attempt) keptReport() (executor.Report, error) {
	var r executor.Report
	data, err := os.ReadFile(filepath.Join(a.dir, protocol.ReportFile))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

// storedReport reads the final report, or makes it from the record.
func (a *attempt) storedReport() (executor.Report, error) {
	r, err := a.keptReport()
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if a.pod, _, err = readPod(a.dir); err != nil {
		return r, err
	}
	record, err := a.record()
	if err != nil {
		return r, err
	}
	return a.fromRecord(record), nil
}

// fromRecord puts a record into the executor's words.
func (a *attempt) fromRecord(record protocol.Record) executor.Report {
	r := executor.Report{
		ID: a.id, Phase: executor.Succeeded, Reason: record.Reason, ExitCode: record.Code, Result: record.Result, IP: a.ip, Host: a.e.host,
		StartedAt: record.StartedAt, FinishedAt: record.FinishedAt,
	}
	for _, c := range record.Containers {
		r.Containers = append(r.Containers, a.status(c))
		if c.Name == a.pod.Main && c.Code != nil {
			r.StartedAt = c.StartedAt
		}
	}
	switch {
	case record.Code == nil && record.Reason == "", record.Code == nil && record.Reason == executor.ReasonStart && len(record.Containers) == 0:
		r.Phase, r.Message = executor.Error, record.Message
		switch {
		case r.Reason == "" && strings.HasPrefix(record.Message, "init container "):
			r.Phase = executor.Failed // it is the user's, so what failed is the step (inferFailedReason of Argo)
		case r.Reason == "":
			r.Reason = executor.ReasonLost
		}
	case record.Reason != "" || *record.Code != 0:
		r.Phase, r.Message = executor.Failed, a.failedMessage(record)
	}
	for _, p := range a.pod.Outputs.Parameters {
		if text, ok := record.Files[p.Name]; ok {
			if r.Parameters == nil {
				r.Parameters = map[string]string{}
			}
			r.Parameters[p.Name] = strings.TrimSuffix(text, "\n")
		}
		if slices.Contains(record.TooLarge, p.Name) && r.Phase == executor.Succeeded {
			r.Phase, r.Reason = executor.Error, executor.ReasonOutput
			r.Message = fmt.Sprintf("output parameter %s: the files of the step's output parameters have together more than %d MiB: make it an artifact", p.Name, protocol.ParametersLimit>>20)
		}
	}
	r.Missing = append(r.Missing, record.Missing...)
	slices.Sort(r.Missing)
	return r
}

// failedMessage is Argo's: "main: Error (exit code 1)", with what is known appended.
func (a *attempt) failedMessage(record protocol.Record) string {
	switch record.Reason {
	case executor.ReasonDeadline:
		return deadlineMessage
	case executor.ReasonEvicted:
		return evictedMessage(podLimits(&a.pod.Pod.Spec).storage)
	case executor.ReasonStopped:
		if record.Code == nil {
			return stoppedEarly
		}
	}
	name := a.pod.Main
	if len(a.pod.Set) > 0 {
		name = ""
	}
	for _, c := range record.Containers {
		if name == "" && c.Code != nil && *c.Code != 0 {
			name = c.Name
		}
	}
	if record.Code == nil {
		return record.Message
	}
	switch record.Message {
	case "":
		return fmt.Sprintf("%s: Error (exit code %d)", name, *record.Code)
	case "OOMKilled":
		return fmt.Sprintf("%s: OOMKilled (exit code %d)", name, *record.Code)
	}
	return fmt.Sprintf("%s: Error (exit code %d): %s", name, *record.Code, record.Message)
}

func (a *attempt) status(c protocol.ContainerRecord) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: a.image(c.Name)}
	if c.Code == nil {
		return s
	}
	reason := "Completed"
	switch {
	case c.OOM:
		reason = "OOMKilled"
	case *c.Code != 0:
		reason = "Error"
	}
	s.State.Terminated = &corev1.ContainerStateTerminated{
		ExitCode: int32(*c.Code), Reason: reason, Message: c.Message,
		StartedAt: metav1.NewTime(c.StartedAt), FinishedAt: metav1.NewTime(c.FinishedAt),
	}
	if c.Dropped > 0 {
		s.State.Terminated.Message = strings.TrimSpace(fmt.Sprintf("%s %d bytes of log were dropped", c.Message, c.Dropped))
	}
	return s
}

func (a *attempt) image(name string) string {
	for _, c := range containers(&a.pod.Pod.Spec) {
		if c.Name == name {
			return c.Image
		}
	}
	return ""
}

// saveArtifacts saves the output artifacts from the pod's own view, which the shim holds until told otherwise. The pod's first
// process is known from the record: after a restart the end may be seen before the shim has been spoken to.
func (a *attempt) saveArtifacts(ctx context.Context, record protocol.Record, r *executor.Report) error {
	pid := record.PID
	if shim, err := a.shim(); err != nil || !shim.Alive() {
		pid = 0 // it may be another process's by now
	} else if pid == 0 { // a shim of version 0.1.0 left the record
		a.mu.Lock()
		pid = a.initPID
		a.mu.Unlock()
	}
	root, err := a.mainRoot(pid)
	if err != nil {
		return fmt.Errorf("save output artifacts: %w", err)
	}
	if a.e.o.Mover == nil {
		return errors.New("save output artifacts: there is no artifact store")
	}
	as, err := openReader(pid, record.Reader)
	if err != nil {
		return fmt.Errorf("save output artifacts: %w", err)
	}
	defer as.close()
	ctx = artifact.WithOpener(ctx, as)
	ctx = artifact.WithCaller(ctx, artifact.Caller{Namespace: a.pod.Pod.Namespace, Owner: a.id.Owner, Node: a.id.Node})
	var failed error
	for _, out := range a.pod.Outputs.Artifacts {
		saved, err := a.e.o.Mover.Save(ctx, out, root, filepath.Join(root, filepath.Clean("/"+out.Path)))
		switch {
		case err == nil:
			r.Saved = append(r.Saved, saved.Artifact)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, artifact.ErrNotFound):
			r.Missing = append(r.Missing, out.Name)
			if !out.Optional {
				failed = errors.Join(failed, missingArtifact(out))
			}
		default:
			failed = errors.Join(failed, fmt.Errorf("save output artifact %s: %w", out.Name, err))
		}
	}
	slices.Sort(r.Missing)
	return failed
}

func missingArtifact(a manifest.Artifact) error {
	return fmt.Errorf("artifact %s: open %s: no such file or directory", a.Name, a.Path)
}

// mainRoot is the main container's root file system as this process sees it.
func (a *attempt) mainRoot(pid int) (string, error) {
	if pid == 0 {
		return "", errors.New("the pod's file system is gone")
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	spec := a.pod.Pod.Spec
	if len(spec.Containers)+len(spec.InitContainers) > 1 {
		for i, c := range spec.Containers {
			if c.Name == a.pod.Main {
				root += fmt.Sprintf("/c%d", len(spec.InitContainers)+i)
			}
		}
	}
	if _, err := os.Stat(root); err != nil {
		return "", errors.New("the pod's file system is gone")
	}
	return root, nil
}

// Stop implements executor.Executor.
func (e *Executor) Stop(ctx context.Context, id executor.ID, grace time.Duration) error {
	e.mu.Lock()
	a := e.attempts[id]
	if a == nil {
		defer e.mu.Unlock()
		return e.rememberStop(folderName(id))
	}
	e.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.final != nil {
		return nil
	}
	a.stopped = true
	if a.stopSaving != nil {
		a.stopSaving(grace)
		return nil
	}
	order := protocol.Request{Op: protocol.OpStop, Grace: grace}
	switch {
	case a.idle:
		a.idle = false
		r := a.report(executor.Failed, executor.ReasonStopped, stoppedEarly)
		go e.spawn(func() { a.finish(r) }) // apart: it takes the lock that is held here
	case a.conn != nil:
		// A shim that is gone concludes the attempt by itself.
		_ = a.sendLocked(order)
	case a.taken:
		a.mu.Unlock()
		err := a.sendAlive(ctx, order)
		a.mu.Lock()
		if err != nil {
			return fmt.Errorf("stop pod %s: %w", id.Node, err)
		}
	case a.cancel != nil:
		a.cancel()
	}
	return nil
}

// sendAlive tells a shim something as long as it lives; one that is gone concludes the attempt.
func (a *attempt) sendAlive(ctx context.Context, r protocol.Request) error {
	ctx, cancel := context.WithTimeout(ctx, acknowledgeWait)
	defer cancel()
	for {
		err := a.send(r)
		if err == nil {
			return nil
		}
		if a.shimGone() {
			return nil // there is nobody to tell
		}
		if ctx.Err() != nil {
			return err
		}
		pause(ctx, reconnectPause)
	}
}

// Acknowledge implements executor.Executor.
func (e *Executor) Acknowledge(ctx context.Context, id executor.ID) error {
	e.mu.Lock()
	a := e.attempts[id]
	e.mu.Unlock()
	if a == nil {
		return nil
	}
	// After a restart the caller may be faster than the shim that this executor attaches to.
	ctx, cancel := context.WithTimeout(ctx, acknowledgeWait)
	defer cancel()
	select {
	case <-a.concluded:
	case <-ctx.Done():
		return fmt.Errorf("acknowledge pod %s: it has not ended", id.Node)
	}
	e.o.Fault("acknowledge")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.attempts[id] != a {
		return nil
	}
	if e.o.Scratch != "" {
		e.trash.add(a.gone, a.workFolder())
	} else if err := a.moveWork(); err != nil {
		return fmt.Errorf("acknowledge pod %s: %w", id.Node, err)
	}
	e.o.Fault("acknowledge-half")
	if err := os.Rename(a.dir, filepath.Join(e.o.Dir, "done", a.name)); err != nil {
		return fmt.Errorf("acknowledge pod %s: %w", id.Node, err)
	}
	e.o.Fault("acknowledged")
	delete(e.attempts, id)
	delete(e.names, a.name)
	return nil
}
