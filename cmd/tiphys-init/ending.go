package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/fork"
	"github.com/tiphys/tiphys/executor/protocol"
)

// await waits for the pod's end and leaves the record.
func (s *shim) await() {
	<-s.mainsDone
	s.endSidecars()
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.closeLogs()
	if !s.gaveBack {
		s.writeRecord()
		if s.spec.Hold && s.pid != 0 {
			<-s.released
		}
	}
	if s.first != nil {
		_ = s.order(protocol.Request{Op: protocol.OpQuit})
	}
	s.reapInit()
	if s.idLock != nil {
		_ = s.idLock.Close()
	}
	s.removeCgroups()
	_ = os.Remove(s.path(protocol.SocketFile))
	if s.gaveBack {
		_ = os.Remove(s.path(protocol.ShimFile))
	}
	if s.first != nil {
		s.first.close()
	}
}

// endSidecars stops what still runs once the main containers have ended.
func (s *shim) endSidecars() {
	select {
	case <-s.allDone:
		return
	default:
	}
	s.signal(syscall.SIGTERM)
	select {
	case <-s.allDone:
		return
	case <-time.After(s.spec.Grace):
	}
	s.signal(syscall.SIGKILL)
	select {
	case <-s.allDone:
	case <-time.After(5 * time.Second):
	}
}

// closeLogs waits for the ends of the logs. Nothing of the pod runs any more, so they come at once; a
// descriptor that was passed out of the pod must not hold up its end, though.
func (s *shim) closeLogs() {
	limit := time.After(5 * time.Second)
	for i, l := range s.logs {
		dropped, tail := l.end(limit)
		s.mu.Lock()
		s.state[i].Dropped = dropped
		if s.spec.Result && s.spec.Containers[i].Kind == protocol.KindMain && !s.spec.Containers[i].Aside && s.state[i].exited {
			text := string(bytes.TrimSuffix(tail, []byte("\n")))
			s.record.Result = &text
		}
		s.mu.Unlock()
	}
}

func (s *shim) writeRecord() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.FinishedAt, s.record.PID = time.Now(), s.pid
	oom := s.oomKilled()
	for i, c := range s.spec.Containers {
		st := &s.state[i]
		if st.Code != nil && *st.Code == 128+int(syscall.SIGKILL) && oom && !s.stopping {
			st.OOM = true
		}
		if st.started || st.exited {
			s.record.Containers = append(s.record.Containers, st.ContainerRecord)
		}
		if c.Kind == protocol.KindMain && st.Code != nil && (s.record.Code == nil || *s.record.Code == 0) {
			s.record.Code = st.Code
			s.record.Message = mainMessage(s.record.Message, st)
		}
	}
	s.record.Message = s.hidden.String(s.record.Message)
	data, err := json.Marshal(s.record)
	if err == nil {
		err = s.store(data)
	}
	if err != nil {
		// The log says why there is no record; the server reports the attempt as lost.
		_, _ = os.Stderr.WriteString("write exit record: " + err.Error() + "\n")
	}
	s.ended = true
	s.notices.tell(protocol.Event{Event: protocol.EventEnded, Time: s.record.FinishedAt})
	for p := range s.subscribers {
		p.send(protocol.Event{Event: protocol.EventEnded, Time: s.record.FinishedAt})
	}
}

// store writes the record. On a full disk it takes what was set aside for it; should that not do, there may be room
// again soon, so it is tried for a while.
func (s *shim) store(data []byte) error {
	var err error
	for wait := 10 * time.Millisecond; wait < time.Minute; wait *= 2 {
		if err = protocol.WriteFile(s.path(protocol.RecordFile), data, !s.spec.NoSync); err == nil {
			return nil
		}
		if errors.Is(err, syscall.ENOSPC) && s.claimed > 0 {
			err = os.Truncate(s.path(protocol.ShimFile), s.claimed)
			s.claimed = 0
			if err == nil {
				continue
			}
		}
		<-time.After(wait)
	}
	return err
}

func mainMessage(message string, c *containerState) string {
	if message != "" || !c.OOM {
		return message
	}
	return "OOMKilled"
}

func (s *shim) reapInit() {
	if s.pid == 0 {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fork.Reap(s.pid)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(s.pid, syscall.SIGKILL)
		<-done
	}
}

// oomKilled asks the pod's cgroups whether the kernel ended something for want of memory.
func (s *shim) oomKilled() bool {
	for _, dir := range s.spec.Cgroups {
		for _, name := range []string{"memory.events", "memory.oom_control"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			for _, line := range bytes.Split(b, []byte("\n")) {
				if n, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok && string(n) != "0" {
					return true
				}
			}
		}
	}
	return false
}

// removeCgroups removes the pod's cgroups; the kernel may need a moment to let go of the last process.
func (s *shim) removeCgroups() {
	for _, dir := range s.spec.Cgroups {
		for range 200 {
			if err := syscall.Rmdir(dir); err == nil || err == syscall.ENOENT {
				break
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}
