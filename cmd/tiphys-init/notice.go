package main

import (
	"encoding/json"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/protocol"
)

// notices tells the server what happens to a pod, at the one socket that it has for all pods, in the order in which it
// happened.
type notices struct {
	name  string
	queue chan protocol.Event
	sent  chan struct{}
}

// noticeWait bounds how long a notice waits for a server that is behind.
const noticeWait = 10 * time.Second

// newNotices is for a pod with that many containers, each of which starts once.
func newNotices(name string, containers int) *notices {
	n := &notices{name: name, queue: make(chan protocol.Event, containers+1), sent: make(chan struct{})}
	go n.run()
	return n
}

func (n *notices) run() {
	defer close(n.sent)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return // the server looks from time to time
	}
	defer func() { _ = syscall.Close(fd) }()
	// The working folder is the attempt's, so that the address is short whatever the path.
	to := &syscall.SockaddrUnix{Name: filepath.Join("..", "..", protocol.NoticeFile)}
	for e := range n.queue {
		data, err := json.Marshal(protocol.Notice{Name: n.name, Event: e})
		if err != nil {
			continue
		}
		// Where nobody listens there is no server, and the next one reads the files.
		for limit := time.Now().Add(noticeWait); time.Now().Before(limit); <-time.After(5 * time.Millisecond) {
			err := syscall.Sendto(fd, data, 0, to)
			if err != syscall.EAGAIN && err != syscall.ENOBUFS && err != syscall.EINTR {
				break
			}
		}
	}
}

// tell puts a notice in the queue, which has room for all.
func (n *notices) tell(e protocol.Event) {
	if n == nil {
		return
	}
	select {
	case n.queue <- e:
	default:
	}
}

// close waits until everything is told.
func (n *notices) close() {
	if n == nil {
		return
	}
	close(n.queue)
	<-n.sent
}
