package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/protocol"
)

// Pods that run cost this process neither a connection nor a thread. Their shims tell what happens by datagrams to one
// socket; a shim that goes away without a word is seen by the reaper if it is a child of this process, and else by looking
// at a few attempts each second. What is said to a shim goes over a connection that is made for it.

const (
	// noticeSize bounds a notice, in bytes.
	noticeSize = 64 << 10
	// lookEvery is how often some attempts are looked at, and lookRound how many times it takes to come round to each.
	lookEvery = time.Second
	lookRound = 5
	// hearing is the name of the trouble with notices. No attempt is called so.
	hearing = "notices"
	// talkWait bounds how long a shim may take to accept a connection and to read.
	talkWait = 5 * time.Second
)

// hear opens the socket for notices. Its address goes through a descriptor: socket paths are limited to 108 bytes.
func (e *Executor) hear() error {
	path := filepath.Join(e.o.Dir, protocol.NoticeFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open socket for notices: %w", err)
	}
	dir, err := unix.Open(e.o.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket for notices: %w", err)
	}
	defer func() { _ = unix.Close(dir) }()
	e.notices, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, protocol.NoticeFile)})
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return fmt.Errorf("open socket for notices: %w", err)
	}
	return nil
}

// listenForNotices takes in notices until the socket is closed. One that cannot be heard or read is not lost: whose it was is looked at within
// some seconds (see look), and until the next one is heard that is shown as trouble.
func (e *Executor) listenForNotices() {
	buf := make([]byte, noticeSize)
	for {
		n, _, err := e.notices.ReadFromUnix(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.trouble(hearing, "what pods tell cannot be heard, so each is looked at by turns: "+err.Error())
			pause(e.ctx, reconnectPause)
			continue
		}
		var notice protocol.Notice
		if err := json.Unmarshal(buf[:n], &notice); err != nil {
			e.trouble(hearing, "a pod told something that cannot be read, so each is looked at by turns: "+err.Error())
			continue
		}
		e.trouble(hearing, "")
		e.take(notice)
	}
}

func (e *Executor) take(n protocol.Notice) {
	e.mu.Lock()
	a := e.names[n.Name]
	e.mu.Unlock()
	if a == nil {
		return // it is long acknowledged
	}
	switch n.Event.Event {
	case protocol.EventStarted:
		a.noteStarted(n.Event)
	case protocol.EventEnded:
		e.spawn(a.settle) // artifacts may have to be saved
	}
}

// watch has an attempt looked at until its shim is gone.
func (e *Executor) watch(a *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looked[a] = true
}

// look looks at some of the attempts each second.
func (e *Executor) look() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var round []*attempt
	share := 0
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		if len(round) == 0 {
			e.mu.Lock()
			for a := range e.looked {
				round = append(round, a)
			}
			e.mu.Unlock()
			share = len(round)/lookRound + 1
		}
		some := min(len(round), share)
		for _, a := range round[:some] {
			a.look()
		}
		round = round[some:]
	}
}

// look finds out what an attempt's shim did not tell.
func (a *attempt) look() {
	a.mu.Lock()
	taken, ended := a.taken && a.conn == nil, a.final != nil
	a.mu.Unlock()
	if !taken {
		return
	}
	var gone bool
	select {
	case <-a.gone:
		gone = true
	default:
		gone = a.shimGone()
	}
	if gone {
		a.setGone()
	}
	if !ended {
		if _, err := a.record(); err == nil || gone {
			a.e.spawn(a.settle)
		}
	}
	if gone && ended {
		a.e.mu.Lock()
		delete(a.e.looked, a)
		a.e.mu.Unlock()
	}
}

// awaitShims waits for the shims of pods that have ended: what they leave goes with them.
func (e *Executor) awaitShims() {
	e.mu.Lock()
	var ending []*attempt
	for a := range e.looked {
		ending = append(ending, a)
	}
	e.mu.Unlock()
	for limit := time.Now().Add(acknowledgeWait); len(ending) > 0 && time.Now().Before(limit); {
		var left []*attempt
		for _, a := range ending {
			a.mu.Lock()
			ended := a.final != nil
			a.mu.Unlock()
			select {
			case <-a.gone:
				continue
			default:
			}
			if ended && !a.shimGone() {
				left = append(left, a)
			} else if ended {
				a.setGone()
			}
		}
		if ending = left; len(ending) > 0 {
			<-time.After(reconnectPause)
		}
	}
}
