package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/local/podlog"
	"github.com/tiphys/tiphys/executor/local/wire"
	"github.com/tiphys/tiphys/secret/mask"
)

// containerLog takes a container's output in: through the masker, into the log, and into the result's tail.
type containerLog struct {
	writer    *podlog.Writer
	writeEnds [2]int
	readEnds  [2]*os.File
	sinks     [2]io.WriteCloser
	tail      *tail
	ended     chan struct{}
}

func newContainerLog(spec wire.Spec, c wire.Container, hidden *mask.Set) (*containerLog, error) {
	w, err := podlog.Create(wire.LogFolder, c.Name, spec.LogLimit, time.Now)
	if err != nil {
		return nil, err
	}
	l := &containerLog{writer: w, ended: make(chan struct{})}
	for n := range l.writeEnds {
		var fds [2]int
		if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
			return nil, fmt.Errorf("make log pipe: %w", err)
		}
		l.readEnds[n], l.writeEnds[n] = os.NewFile(uintptr(fds[0]), "log"), fds[1]
		var out io.Writer = w.Stream(n)
		if n == 0 && spec.Result && c.Kind == wire.KindMain {
			l.tail = &tail{limit: wire.ResultLimit}
			out = io.MultiWriter(out, l.tail)
		}
		l.sinks[n] = hidden.Writer(out)
	}
	return l, nil
}

// begin starts reading both streams.
func (l *containerLog) begin() {
	done := make(chan struct{}, len(l.readEnds))
	for n := range l.readEnds {
		go func() {
			defer func() { done <- struct{}{} }()
			buf := make([]byte, 64<<10)
			for {
				k, err := l.readEnds[n].Read(buf)
				if k > 0 {
					_, _ = l.sinks[n].Write(buf[:k])
				}
				if err != nil || k == 0 {
					break
				}
			}
			_ = l.sinks[n].Close()
		}()
	}
	go func() {
		for range l.readEnds {
			<-done
		}
		close(l.ended)
	}()
}

// end waits for the streams to end, closes the log, and gives what the limit dropped and the result's tail.
func (l *containerLog) end(limit <-chan time.Time) (dropped int64, result []byte) {
	select {
	case <-l.ended:
	case <-limit:
		l.writer.Notice("log closed: something outside of the pod holds it open")
	}
	dropped, err := l.writer.Close()
	if err != nil {
		_, _ = os.Stderr.WriteString("write log: " + err.Error() + "\n")
	}
	if l.tail == nil {
		return dropped, nil
	}
	return dropped, l.tail.bytes()
}

// tail keeps the last bytes of what is written.
type tail struct {
	limit int
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	// Shifting at twice the limit keeps the cost per byte constant.
	if len(t.buf) > 2*t.limit {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.limit:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte { return t.buf[max(0, len(t.buf)-t.limit):] }
