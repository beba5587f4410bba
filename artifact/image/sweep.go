package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/blob"
)

// lockSuffix names the file beside a layer's folder that who unpacks it locks. Its time is when the layer was last used.
const lockSuffix = ".lock"

// use notes that a layer is being used, before anybody looks whether it is there: a sweep that comes later leaves it, and
// one that came before has taken it away already.
func (l *Library) use(dir string) error {
	l.sweeping.Lock()
	defer l.sweeping.Unlock()
	now := l.o.Now()
	err := os.Chtimes(dir+lockSuffix, now, now)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(dir+lockSuffix, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the name is a digest
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Chtimes(dir+lockSuffix, now, now))
}

// SweepLayers removes the folders of layers that were last used before t and for which keep is false; they are named by
// the digest of their tar, as the last element of [Rootfs.Layers]. keep must be true of the layers of pods that run. Images may be
// started meanwhile: what they use is noted as used, and left.
func (l *Library) SweepLayers(ctx context.Context, t time.Time, keep func(dir string) bool) (artifact.Swept, error) {
	var swept artifact.Swept
	base := filepath.Join(l.o.Layers, "sha256")
	entries, err := os.ReadDir(base)
	if err != nil {
		return swept, fmt.Errorf("sweep layers: %w", err)
	}
	for _, e := range entries {
		digest, leftover := strings.CutSuffix(e.Name(), ".tmp")
		dir := filepath.Join(base, digest)
		if _, err := blob.Hex("sha256:" + digest); err != nil || !l.unusedSince(dir, t) || (!leftover && keep(dir)) {
			continue
		}
		size := folderSize(filepath.Join(base, e.Name()))
		gone, err := l.sweepLayer(ctx, dir, t)
		if err != nil {
			return swept, fmt.Errorf("sweep layers: %w", err)
		}
		if gone {
			swept.Count++
			swept.Bytes += size
		}
	}
	return swept, nil
}

// unusedSince reports whether a layer was last used before t.
func (l *Library) unusedSince(dir string, t time.Time) bool {
	info, err := os.Stat(dir + lockSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(dir)
	}
	return err == nil && info.ModTime().Before(t)
}

// sweepLayer removes a layer, or what a crash left of one. It is renamed first, so that no crash leaves a layer with parts
// missing under its name.
func (l *Library) sweepLayer(ctx context.Context, dir string, t time.Time) (bool, error) {
	unlock, err := l.lock(ctx, filepath.Base(dir), dir+lockSuffix)
	if err != nil {
		return false, err
	}
	defer unlock()
	l.sweeping.Lock()
	if !l.unusedSince(dir, t) {
		l.sweeping.Unlock()
		return false, nil
	}
	tmp := dir + ".tmp"
	err = os.RemoveAll(tmp)
	if err == nil {
		err = os.Rename(dir, tmp)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // only the leftovers were there
	}
	// Another process may have begun to use it in this moment.
	if err == nil && !l.unusedSince(dir, t) {
		err = os.Rename(tmp, dir)
		l.sweeping.Unlock()
		return false, err
	}
	l.sweeping.Unlock()
	if err != nil {
		return false, err
	}
	return true, os.RemoveAll(tmp)
}

// folderSize is the size of a folder's files, in bytes; what cannot be read counts nothing.
func folderSize(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}

// LayersOf gives the folders of the layers of images of other registries, as they were last pulled, without asking anybody. The
// built-in registry's are left out: they can be unpacked again from what it keeps. An image that was never pulled has none.
func (l *Library) LayersOf(refs []string) (map[string]bool, error) {
	dirs := map[string]bool{}
	for _, ref := range refs {
		if _, _, must := l.localName(ref); must {
			continue
		}
		parsed, err := name.ParseReference(ref)
		if err != nil {
			continue // no image could be pulled by it
		}
		img, err := l.remembered(parsed, keychain{})
		if errors.Is(err, artifact.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the layers of %s: %w", ref, err)
		}
		for _, one := range img.layers {
			if hex, err := blob.Hex(one.diffID); err == nil {
				dirs[filepath.Join(l.o.Layers, "sha256", hex)] = true
			}
		}
	}
	return dirs, nil
}
