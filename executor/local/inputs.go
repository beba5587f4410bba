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
		if dir, rest := b.volumeAt(volumeMounts, path); dir != "" {
			if err := moveInto(dir, rest, dest); err != nil {
				return fmt.Errorf("input artifact %s: put it into the volume: %w", in.Name, err)
			}
			continue
		}
		w.Mounts = append(w.Mounts, protocol.Mount{Source: dest, Path: path})
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
func (b *builder) volumeAt(mounts []protocol.Mount, path string) (dir, rest string) {
	best := -1
	for _, m := range mounts {
		at := filepath.Clean(m.Path)
		if m.Volume == "" || len(at) <= best || !strings.HasPrefix(path, strings.TrimSuffix(at, "/")+"/") {
			continue
		}
		best = len(at)
		dir, rest = "", ""
		if v := b.volumes[m.Volume]; v.Path != "" {
			dir, rest = v.Path, filepath.Join(m.SubPath, strings.TrimPrefix(path, at))
		}
	}
	return dir, rest
}

// moveInto moves what was fetched to rel beneath a volume's folder. Links in the volume never lead out of it.
func moveInto(dir, rel, src string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	rel = strings.TrimPrefix(filepath.Clean("/"+rel), "/")
	if err := root.MkdirAll(filepath.Dir(rel), 0o755); err != nil {
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
	return copyInto(root, rel, src)
}

// copyInto copies across file systems.
func copyInto(root *os.Root, rel, src string) error {
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inner, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		to := filepath.Join(rel, inner)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return root.MkdirAll(to, info.Mode().Perm()|0o700)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return root.Symlink(target, to)
		}
		return copyFile(root, to, p, info.Mode().Perm())
	})
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
