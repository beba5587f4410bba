package main

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// keeperMain is the shim of all pods of one server, which end with it: one process instead of one for each pod.
// For each it is handed a connection, over which the order comes. It ends when the server has gone away and the
// last pod has ended. root is where the roots of pods are mounted.
func keeperMain(root string) int {
	outlive()
	ready := &spares{root: root}
	ready.fill()
	var pods sync.WaitGroup
	orders := pollable(0, "orders")
	for {
		fds, err := receive(orders)
		if err != nil || len(fds) != 1 {
			break
		}
		orderer := newPeer(pollable(fds[0], "orderer"))
		pods.Go(func() {
			runShim(orderer, ready)
			_ = orderer.file.Close()
		})
	}
	ready.close()
	pods.Wait()
	return 0
}

// handed is how many descriptors a message may hand over.
const handed = 2

// receive waits for a message without keeping a thread in it, and gives the descriptors that come with it.
func receive(socket *os.File) ([]int, error) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var b [1]byte
	var n, oobn int
	var failed error
	oob := make([]byte, syscall.CmsgSpace(4*handed))
	if err := conn.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, failed = syscall.Recvmsg(int(fd), b[:], oob, syscall.MSG_CMSG_CLOEXEC)
			if failed != syscall.EINTR {
				return failed != syscall.EAGAIN
			}
		}
	}); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	if n == 0 {
		return nil, errors.New("the server is gone")
	}
	if oobn == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("a message with something else than descriptors")
	}
	return syscall.ParseUnixRights(&messages[0])
}
