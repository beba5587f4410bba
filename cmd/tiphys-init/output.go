package main

import (
	"io"
	"os"
	"time"

	"github.com/tiphys/tiphys/executor/podlog"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/secret/mask"
)

// containerLog takes a container's output in: through the masker, into the log, and into the result's tail.
type containerLog struct {
	writer *podlog.Writer
	read   [2]*os.File
	sinks  [2]io.WriteCloser
	tail   *tail
	ended  chan struct{}
}

func newContainerLog(dir string, spec protocol.Spec, c protocol.Container, hidden *mask.Set, read [2]*os.File) (*containerLog, error) {
	w, err := podlog.Create(dir, c.Name, spec.LogLimit, time.Now)
	if err != nil {
		return nil, err
	}
	if spec.LogSpill != "" {
		w.Spill(spec.LogSpill, spec.LogKeep)
	}
	l := &containerLog{writer: w, read: read, ended: make(chan struct{})}
	for n := range l.read {
		var out io.Writer = w.Stream(n)
		if n == 0 && spec.Result && c.Kind == protocol.KindMain {
			l.tail = &tail{limit: protocol.ResultLimit}
			out = io.MultiWriter(out, l.tail)
		}
		l.sinks[n] = hidden.Writer(out)
	}
	return l, nil
}

// begin starts reading both streams.
func (l *containerLog) begin() {
	done := make(chan struct{}, len(l.read))
	for n := range l.read {
		go func() {
			defer func() { done <- struct{}{} }()
			buf := make([]byte, 64<<10)
			for {
				k, err := l.read[n].Read(buf)
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
		for range l.read {
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
