package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/tiphys/tiphys/artifact/blob"
)

// layerLock is held by who unpacks a layer.
type layerLock struct {
	free  chan struct{} // has one token when free
	users int
}

// layer returns the folder of a layer, and unpacks it if it is not there. The folder's name is the digest of the
// tar, so that the same layer under another compression is the same folder.
func (l *Library) layer(ctx context.Context, one layer) (string, error) {
	hex, err := blob.Hex(one.diffID)
	if err != nil {
		return "", err
	}
	if _, err := blob.Hex(one.digest); err != nil {
		return "", err
	}
	dir := filepath.Join(l.o.Layers, "sha256", hex)
	if err := l.use(dir); err != nil {
		return "", fmt.Errorf("layer %s: %w", one.digest, blob.Explain(err, l.o.Layers))
	}
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil
	}
	unlock, err := l.lock(ctx, hex, dir+".lock")
	if err != nil {
		return "", fmt.Errorf("wait for layer %s: %w", one.digest, err)
	}
	defer unlock()
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil // somebody else did it while we waited
	}
	if err := l.unpackLayer(ctx, one, dir); err != nil {
		return "", fmt.Errorf("layer %s: %w", one.digest, blob.Explain(err, l.o.Layers))
	}
	return dir, nil
}

func (l *Library) unpackLayer(ctx context.Context, one layer, dir string) error {
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil { // what a crash left; we hold the lock
		return fmt.Errorf("remove leftovers: %w", err)
	}
	if err := os.Mkdir(tmp, 0o755); err != nil { //nolint:gosec // it becomes the root of steps
		return fmt.Errorf("make folder: %w", err)
	}
	done := false
	defer func() {
		if !done {
			_ = os.RemoveAll(tmp)
		}
	}()
	if err := l.fillLayer(ctx, one, tmp); err != nil {
		return err
	}
	if !l.o.Unsynced {
		if err := syncFiles(tmp); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("name folder: %w", err)
	}
	done = true
	return nil
}

// fillLayer unpacks while it downloads, and compares both digests at the end.
func (l *Library) fillLayer(ctx context.Context, one layer, tmp string) error {
	rc, err := one.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	compressed := &summed{r: blob.Reader(ctx, rc), hash: sha256.New()}
	plain, closePlain, err := decompress(compressed)
	if err != nil {
		return err
	}
	defer closePlain()
	content := &summed{r: plain, hash: sha256.New()}
	if err := unpackLayer(ctx, content, tmp, l.o.Limits); err != nil {
		return err
	}
	// What follows the end of the tar counts for the digests too.
	for _, rest := range []io.Reader{content, compressed} {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return fmt.Errorf("read to the end: %w", err)
		}
	}
	if got := compressed.digest(); got != one.digest {
		return fmt.Errorf("%w: expected %s, got %s", blob.ErrMismatch, one.digest, got)
	}
	if got := content.digest(); got != one.diffID {
		return fmt.Errorf("%w: the content should be %s, and is %s", blob.ErrMismatch, one.diffID, got)
	}
	return nil
}

type summed struct {
	r    io.Reader
	hash hash.Hash
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.hash.Write(p[:n])
	return n, err
}

func (s *summed) digest() string { return "sha256:" + hex.EncodeToString(s.hash.Sum(nil)) }

// decompress recognises gzip and zstd by their first bytes; media types are not always true.
func decompress(r io.Reader) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, _ := br.Peek(4)
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, fmt.Errorf("read gzip: %w", err)
		}
		return z, func() { _ = z.Close() }, nil
	case len(magic) == 4 && string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxMemory(512<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, fmt.Errorf("read zstd: %w", err)
		}
		return z, z.Close, nil
	}
	return br, func() {}, nil
}

// lock waits until nobody else, of this process or another, unpacks the layer.
func (l *Library) lock(ctx context.Context, key, file string) (unlock func(), err error) {
	l.mu.Lock()
	one := l.locks[key]
	if one == nil {
		one = &layerLock{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		l.locks[key] = one
	}
	one.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.locks, key)
		}
	}
	select {
	case <-one.free:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	release, err := lockFile(ctx, file)
	if err != nil {
		one.free <- struct{}{}
		leave()
		return nil, err
	}
	return func() {
		release()
		one.free <- struct{}{}
		leave()
	}, nil
}

func lockFile(ctx context.Context, file string) (release func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the name is a digest
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := tryLock(f)
		if ok {
			// The file stays: to remove it would let a third process lock another one of the same name.
			return func() { _ = f.Close() }, nil
		}
		if err == nil {
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return nil, errors.Join(err, f.Close())
	}
}
