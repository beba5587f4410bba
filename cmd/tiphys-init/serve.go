package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/protocol"
)

// peer is a connection to a server.
type peer struct {
	file *os.File
	in   *json.Decoder
	mu   sync.Mutex
	out  *json.Encoder
}

func newPeer(f *os.File) *peer {
	return &peer{file: f, in: json.NewDecoder(f), out: json.NewEncoder(f)}
}

// sendWait bounds how long a send waits for a server that has stopped reading.
const sendWait = 5 * time.Second

// send tells the peer, if it is still there. A server that does not read must not hold up the pod.
func (p *peer) send(e protocol.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.file.SetWriteDeadline(time.Now().Add(sendWait))
	_ = p.out.Encode(e)
}

// listen opens the attempt's socket. The shim's working folder is the attempt's, so that the address is short
// whatever the path.
func (s *shim) listen() error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	_ = os.Remove(s.path(protocol.SocketFile))
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: protocol.SocketFile}); err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	if err := os.Chmod(protocol.SocketFile, 0o600); err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	if err := syscall.Listen(fd, 16); err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	go func() {
		for {
			conn, _, err := syscall.Accept4(fd, syscall.SOCK_CLOEXEC)
			if err == syscall.EINTR || err == syscall.ECONNABORTED {
				continue
			}
			if err != nil {
				return
			}
			go s.serve(newPeer(pollable(conn, "server")), false)
		}
	}()
	return nil
}

// serve carries out what a server asks for until it hangs up. If the pod is bound to this connection, hanging
// up ends it.
func (s *shim) serve(p *peer, bound bool) {
	defer func() {
		s.mu.Lock()
		delete(s.subscribers, p)
		s.mu.Unlock()
		_ = p.file.Close()
		if bound {
			s.stop(protocol.ReasonStopped, 0)
			s.freeOnce.Do(func() { close(s.released) })
		}
	}()
	for {
		var r protocol.Request
		if err := p.in.Decode(&r); err != nil {
			return
		}
		switch r.Op {
		case protocol.OpAttach:
			s.attach(p)
		case protocol.OpStop:
			reason := r.Reason
			if reason == "" {
				reason = protocol.ReasonStopped
			}
			s.stop(reason, r.Grace)
		case protocol.OpExec, protocol.OpFiles:
			s.forInit(p, r)
		case protocol.OpRelease:
			s.freeOnce.Do(func() { close(s.released) })
		}
	}
}

// attach tells a server what has happened, and from now on what happens.
func (s *shim) attach(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.send(protocol.Event{Event: protocol.EventPID, PID: s.pid, Time: s.record.StartedAt})
	for _, c := range s.state {
		if c.started {
			p.send(protocol.Event{Event: protocol.EventStarted, Container: c.Name, Time: c.StartedAt})
		}
	}
	if s.ended {
		p.send(protocol.Event{Event: protocol.EventEnded, Time: s.record.FinishedAt})
	}
	p.send(protocol.Event{Event: protocol.EventTold})
	s.subscribers[p] = true
}

func (s *shim) broadcast(e protocol.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.subscribers {
		p.send(e)
	}
}

// forInit passes on what the pod's init does, and its answer.
func (s *shim) forInit(p *peer, r protocol.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending || s.toInit == nil {
		go p.send(protocol.Event{Event: protocol.EventExec, Number: r.Number, Code: -1, Message: "the pod has ended"})
		return
	}
	s.nextExec++
	number := r.Number
	s.execs[s.nextExec] = func(e protocol.Event) {
		e.Number = number
		e.Output = []byte(s.hidden.String(string(e.Output)))
		p.send(e)
	}
	r.Number = s.nextExec
	_ = s.order(r)
}
