package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

const (
	asideFolder = "set-aside"
	// asideFile is why a folder was set aside.
	asideFile = "why.txt"
	// asideKept is how many folders that were set aside are kept, the newest.
	asideKept = 100
)

// errMisplaced says that a folder has another attempt than its name says.
var errMisplaced = errors.New("the folder has the record of another attempt")

// SetAside is an attempt that an earlier executor left and that could not be read. What ran of it was ended, and its folder was moved
// away, for somebody to look at and to remove.
type SetAside struct {
	// Folder is where it is now, Why says what is wrong with it.
	Folder, Why string
}

// SetAside lists what was set aside, now or by earlier executors, in order of name.
func (e *Executor) SetAside() []SetAside {
	dir := filepath.Join(e.o.Dir, asideFolder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // there is no such folder until it is needed
	}
	list := make([]SetAside, 0, len(entries))
	for _, entry := range entries {
		folder := filepath.Join(dir, entry.Name())
		why, _ := os.ReadFile(filepath.Join(folder, asideFile)) // without it the folder itself tells
		list = append(list, SetAside{Folder: folder, Why: string(why)})
	}
	return list
}

// trouble notes what keeps an attempt from its end; empty that nothing does any more.
func (e *Executor) trouble(name, what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if what == "" {
		delete(e.troubles, name)
	} else {
		e.troubles[name] = what
	}
}

// Trouble says for people what keeps pods from their ends; empty for nothing.
func (e *Executor) Trouble() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.troubles) == 0 {
		return ""
	}
	text := e.troubles[sortedKeys(e.troubles)[0]]
	if more := len(e.troubles) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// unreadable says what is wrong with an attempt's folder; nil if it can be taken over.
func unreadable(name, dir string, id executor.ID, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, gone := os.Lstat(filepath.Join(dir, protocol.ShimFile)); gone == nil {
			return errors.New("the record of its pod is gone")
		}
		return nil
	case err == nil && folderName(id) != name:
		return fmt.Errorf("%w (node %s, attempt %d)", errMisplaced, id.Node, id.Attempt)
	}
	return err
}

// setAside ends what runs of an attempt that cannot be read, moves its folder away, and tells its end if it can be known whose it is.
// Else whoever believes it to be running does not find it among those that this executor knows.
func (e *Executor) setAside(name string, pod executor.Pod, host bool, why error) {
	dir := filepath.Join(e.o.Dir, "live", name)
	e.endShim(dir)
	e.removeGroups(name)
	if e.network.recall(name, &pod, dir) != "" {
		e.network.release(name)
	}
	final := e.finalOfUnreadable(name, dir, pod.ID, why)
	a := &attempt{e: e, name: name, dir: dir, gone: make(chan struct{})}
	close(a.gone)
	if e.o.Scratch != "" {
		e.trash.add(a.gone, a.workFolder())
	} else if err := a.moveWork(); err != nil {
		e.o.Log.Warn("discard working files", "attempt", name, "error", err) // they stay with the folder
	}
	if err := e.moveAside(dir, name, why); err != nil {
		e.o.Log.Error("an attempt that cannot be read stays where it is", "folder", dir, "problem", why, "error", err)
	}
	if final.ID != (executor.ID{}) {
		e.view(host).reports.put(final)
	}
}

// finalOfUnreadable is the final report of an attempt whose folder is damaged: the one that was kept, or that it was lost. Its ID is
// empty if nobody can tell whose it is.
func (e *Executor) finalOfUnreadable(name, dir string, id executor.ID, why error) executor.Report {
	a := &attempt{e: e, id: id, name: name, dir: dir}
	if r, err := a.keptReport(); err == nil && folderName(r.ID) == name {
		return r
	}
	if errors.Is(why, errMisplaced) {
		for _, state := range []string{"live", "done"} {
			if _, err := os.Lstat(filepath.Join(e.o.Dir, state, folderName(id))); err == nil {
				return executor.Report{} // it is in its own folder, too
			}
		}
		return a.report(executor.Error, executor.ReasonLost, "the pod was lost: "+why.Error())
	}
	return executor.Report{}
}

// endShim kills the shim of an attempt, and with it its pod. The process is held by a descriptor, so that it is no other one.
func (e *Executor) endShim(dir string) {
	var shim protocol.Shim
	data, err := os.ReadFile(filepath.Join(dir, protocol.ShimFile))
	if err != nil || json.Unmarshal(data, &shim) != nil || !shim.Alive() {
		return
	}
	fd, err := unix.PidfdOpen(shim.PID, 0)
	if err != nil {
		return // it is gone
	}
	defer func() { _ = unix.Close(fd) }()
	if shim.Alive() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// moveAside moves a folder to those that were set aside, and the oldest of them out of the way.
func (e *Executor) moveAside(dir, name string, why error) error {
	aside := filepath.Join(e.o.Dir, asideFolder)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, asideFile), []byte(why.Error()), 0o600); err != nil {
		return err
	}
	to := filepath.Join(aside, name)
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = filepath.Join(aside, fmt.Sprintf("%s.%d", name, n))
	}
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	return e.boundAside(aside)
}

// boundAside keeps the newest of what was set aside.
func (e *Executor) boundAside(aside string) error {
	entries, err := os.ReadDir(aside)
	if err != nil || len(entries) <= asideKept {
		return err
	}
	age := func(entry os.DirEntry) int64 {
		info, err := entry.Info()
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortStableFunc(entries, func(a, b os.DirEntry) int {
		return int(min(max(age(a)-age(b), -1), 1))
	})
	for _, entry := range entries[:len(entries)-asideKept] {
		err = errors.Join(err, os.RemoveAll(filepath.Join(aside, entry.Name())))
	}
	return err
}
