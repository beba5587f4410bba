package main

import (
	"errors"
	"sync"
	"syscall"
)

// keeperMain is the shim of all pods of one server, which end with it: one process instead of one for each pod.
// For each it is handed a connection, over which the order comes. It ends when the server has gone away and the
// last pod has ended.
func keeperMain() int {
	outlive()
	ready := &spares{}
	ready.fill()
	var pods sync.WaitGroup
	for {
		fd, err := receive(0)
		if err != nil || fd < 0 {
			break
		}
		orderer := newPeer(pollable(fd, "orderer"))
		pods.Go(func() {
			runShim(orderer, ready)
			_ = orderer.file.Close()
		})
	}
	ready.close()
	pods.Wait()
	return 0
}

// receive waits for a message, and gives the descriptor that comes with it; -1 if there is none.
func receive(socket int) (int, error) {
	var b [1]byte
	oob := make([]byte, syscall.CmsgSpace(4))
	for {
		n, oobn, _, _, err := syscall.Recvmsg(socket, b[:], oob, syscall.MSG_CMSG_CLOEXEC)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return -1, err
		}
		if n == 0 {
			return -1, errors.New("the server is gone")
		}
		if oobn == 0 {
			return -1, nil
		}
		messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			return -1, errors.New("a message without a connection")
		}
		fds, err := syscall.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return -1, errors.New("a message without a connection")
		}
		return fds[0], nil
	}
}
