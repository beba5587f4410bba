package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/executor/protocol"
)

// fill brings the files of a volume in memory into its folder.
func (p *pod) fill(dir string, v protocol.Volume) error {
	if !v.Live && len(v.Files) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	own := owners{p.root(), p.root() + v.Group, v.Group != 0}
	if !v.Live {
		defer func() { _ = root.Close() }()
		return own.write(root, ".", v.Files)
	}
	files := &liveFiles{root: root, own: own, names: map[string]bool{}}
	if p.live == nil {
		p.live = map[string]*liveFiles{}
	}
	p.live[v.Name] = files
	return files.show(v.Files)
}

// refresh has volumes show other files.
func (p *pod) refresh(r protocol.Request) {
	defer p.execs.Done()
	answer := protocol.Event{Event: protocol.EventExec, Number: r.Number}
	p.liveMu.Lock()
	defer p.liveMu.Unlock()
	for _, v := range r.Volumes {
		files := p.live[v.Name]
		if files == nil {
			answer.Code, answer.Message = -1, fmt.Sprintf("there is no volume %q whose files change", v.Name)
			break
		}
		if err := files.show(v.Files); err != nil {
			answer.Code, answer.Message = -1, fmt.Sprintf("volume %s: %v", v.Name, err)
			break
		}
	}
	p.send(answer)
}

// owners are a volume's.
type owners struct {
	user, group int
	shared      bool // the group may read what its owner may
}

// write makes files, and the folders above them, under a folder of root.
func (o owners) write(root *os.Root, under string, files []protocol.File) error {
	for _, f := range files {
		if !filepath.IsLocal(f.Path) {
			return fmt.Errorf("file %q leads out of the volume", f.Path)
		}
		name := path.Join(under, f.Path)
		if err := o.folders(root, path.Dir(name)); err != nil {
			return err
		}
		if err := root.WriteFile(name, f.Data, 0o600); err != nil {
			return err
		}
		mode := os.FileMode(f.Mode & 0o777)
		if o.shared {
			mode |= 0o040
		}
		if err := errors.Join(o.give(root, name), root.Chmod(name, mode)); err != nil {
			return err
		}
	}
	return nil
}

// folders makes a folder and those above it.
func (o owners) folders(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if err := o.folders(root, path.Dir(name)); err != nil {
		return err
	}
	err := root.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = o.give(root, name)
	}
	return err
}

func (o owners) give(root *os.Root, name string) error {
	if o.user == 0 && o.group == 0 {
		return nil
	}
	return root.Lchown(name, o.user, o.group)
}

// liveFiles are the files of a volume that may change while the pod runs. They are laid out as the kubelet does it (kubernetes
// pkg/volume/util/atomic_writer.go), which programs that wait for a change rely on: the files are in a folder of their own, the link ..data is to that
// folder, and each name of the volume is a link through ..data. So all of them change at once.
type liveFiles struct {
	root  *os.Root
	own   owners
	turn  int
	at    string          // the folder that ..data is a link to
	names map[string]bool // those of the volume
	files []protocol.File
}

const (
	dataLink = "..data"
	nextLink = "..data_tmp"
)

// show has the volume show other files. After an error it shows those of before, or not yet all names of the new ones; show again goes on.
func (l *liveFiles) show(files []protocol.File) error {
	if l.at != "" && reflect.DeepEqual(files, l.files) {
		return nil
	}
	l.turn++
	next, before := "..files"+strconv.Itoa(l.turn), l.at
	err := l.own.folders(l.root, next)
	if err == nil {
		err = l.own.write(l.root, next, files)
	}
	if err == nil {
		err = l.link(next, nextLink)
	}
	if err == nil {
		err = l.root.Rename(nextLink, dataLink)
	}
	if err != nil {
		return errors.Join(err, l.root.RemoveAll(nextLink), l.root.RemoveAll(next))
	}
	l.at = next
	err = l.rename(files)
	if before != "" {
		err = errors.Join(err, l.root.RemoveAll(before))
	}
	if l.files = files; err != nil {
		l.files = nil
	}
	return err
}

// rename makes the links of names that are new, and removes those of names that are gone.
func (l *liveFiles) rename(files []protocol.File) (err error) {
	wanted := map[string]bool{}
	for _, f := range files {
		name, _, _ := strings.Cut(path.Clean(f.Path), "/")
		wanted[name] = true
	}
	for name := range wanted {
		if l.names[name] {
			continue
		}
		if failed := l.link(path.Join(dataLink, name), name); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		l.names[name] = true
	}
	for name := range l.names {
		if wanted[name] {
			continue
		}
		if failed := l.root.Remove(name); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		delete(l.names, name)
	}
	return err
}

func (l *liveFiles) link(to, name string) error {
	if err := l.root.Symlink(to, name); err != nil {
		return err
	}
	return l.own.give(l.root, name)
}
