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
		fd, err := receive(orders)
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

// receive waits for a message without keeping a thread in it, and gives the descriptor that comes with it; -1 if there is none.
func receive(socket *os.File) (int, error) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	var b [1]byte
	var n, oobn int
	var failed error
	oob := make([]byte, syscall.CmsgSpace(4))
	if err := conn.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, failed = syscall.Recvmsg(int(fd), b[:], oob, syscall.MSG_CMSG_CLOEXEC)
			if failed != syscall.EINTR {
				return failed != syscall.EAGAIN
			}
		}
	}); err != nil {
		return -1, err
	}
	if failed != nil {
		return -1, failed
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
