package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/manifest"
)

// inputs fetches the input artifacts. One whose path is within a volume's mount is put into the volume, as Argo
// does; others are mounted at their path.
func (b *builder) inputs(ctx context.Context, w *protocol.Container) error {
	if len(b.pod.Inputs) == 0 {
		return nil
	}
	if b.e.o.Mover == nil {
		return errors.New("input artifacts: there is no artifact store")
	}
	ctx = b.asCaller(ctx)
	staging := filepath.Join(b.a.workFolder(), "inputs")
	if err := os.Mkdir(staging, 0o711); err != nil {
		return err
	}
	volumeMounts := append([]protocol.Mount(nil), w.Mounts...)
	for i, in := range b.pod.Inputs {
		dest := filepath.Join(staging, strconv.Itoa(i))
		if err := b.e.o.Mover.Fetch(ctx, in, dest); err != nil {
			if in.Optional && errors.Is(err, artifact.ErrNotFound) {
				continue
			}
			return fmt.Errorf("input artifact %s: %w", in.Name, err)
		}
		if err := setMode(dest, in); err != nil {
			return fmt.Errorf("input artifact %s: %w", in.Name, err)
		}
		path := filepath.Clean("/" + in.Path)
		if dir, rest := b.volumeAt(volumeMounts, path); dir.Path != "" {
			if err := b.putInto(dir, rest, dest); err != nil {
				return fmt.Errorf("input artifact %s: put it into the volume: %w", in.Name, err)
			}
			continue
		}
		w.Mounts = append(w.Mounts, protocol.Mount{Source: dest, Path: path, Inside: true})
	}
	return nil
}

// setMode applies the artifact's mode, to what is in a folder too if it says so.
func setMode(path string, a manifest.Artifact) error {
	if a.Mode == nil {
		return nil
	}
	mode := fs.FileMode(*a.Mode) & 0o777
	if !a.RecurseMode {
		return os.Chmod(path, mode)
	}
	return filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chmod(p, mode)
	})
}

// volumeAt finds the folder of this machine that is mounted closest above path, if it is a volume's.
func (b *builder) volumeAt(mounts []protocol.Mount, path string) (volume protocol.Volume, rest string) {
	best := -1
	for _, m := range mounts {
		at := filepath.Clean(m.Path)
		if m.Volume == "" || len(at) <= best || !strings.HasPrefix(path, strings.TrimSuffix(at, "/")+"/") {
			continue
		}
		best = len(at)
		volume, rest = protocol.Volume{}, ""
		if v := b.volumes[m.Volume]; v.Path != "" {
			volume, rest = v, filepath.Join(m.SubPath, strings.TrimPrefix(path, at))
		}
	}
	return volume, rest
}

// putInto moves what was fetched to rel beneath a volume's folder, where the pod's root owns it and the folders on the way that are not there yet.
func (b *builder) putInto(v protocol.Volume, rel, src string) error {
	if v.Inside || b.root == 0 {
		return moveInto(v.Path, rel, src, 0)
	}
	err := filepath.WalkDir(src, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return b.give(p, 0)
	})
	if err != nil {
		return err
	}
	return moveInto(v.Path, rel, src, b.root)
}

// moveInto moves what was fetched to rel beneath a volume's folder. Links in the volume never lead out of it. owner owns what is made.
func moveInto(dir, rel, src string, owner int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	rel = strings.TrimPrefix(filepath.Clean("/"+rel), "/")
	if err := makeFolders(root, filepath.Dir(rel), owner); err != nil {
		return err
	}
	if err := root.RemoveAll(rel); err != nil {
		return err
	}
	parent, err := root.Open(filepath.Dir(rel))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	err = unix.Renameat(unix.AT_FDCWD, src, int(parent.Fd()), filepath.Base(rel))
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	return copyInto(root, rel, src, owner)
}

// makeFolders makes a folder and those above it, as far as they are not there.
func makeFolders(root *os.Root, rel string, owner int) error {
	at := ""
	for part := range strings.SplitSeq(filepath.ToSlash(rel), "/") {
		at = filepath.Join(at, part)
		err := root.Mkdir(at, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil && owner != 0 {
			err = root.Lchown(at, owner, owner)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyInto copies across file systems.
func copyInto(root *os.Root, rel, src string, owner int) error {
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inner, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		to := filepath.Join(rel, inner)
		if err = copyOne(root, to, p, d); err == nil && owner != 0 {
			err = root.Lchown(to, owner, owner)
		}
		return err
	})
}

// copyOne copies a folder without what is in it, a link, or a file.
func copyOne(root *os.Root, to, from string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.IsDir():
		return root.MkdirAll(to, info.Mode().Perm()|0o700)
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return root.Symlink(target, to)
	}
	return copyFile(root, to, from, info.Mode().Perm())
}

func copyFile(root *os.Root, to, from string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := root.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = root.Chmod(to, mode)
	}
	return err
}

// asCaller says in a context on whose behalf artifacts and images are fetched.
func (b *builder) asCaller(ctx context.Context) context.Context {
	return artifact.WithCaller(ctx, artifact.Caller{Namespace: b.pod.Pod.Namespace, Owner: b.pod.ID.Owner, Node: b.pod.ID.Node})
}
