package datafolder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// contentsName is the file that is locked while contents are copied or removed.
const contentsName = "contents.lock"

// ErrCopied says that somebody copies a folder's contents, so that nothing may be removed from them now.
var ErrCopied = failure.New(failure.Waiting, "the contents are being copied")

// Contents is the right to copy a data folder's artifacts and images without one of them being removed meanwhile, or to remove some. It
// ends with Unlock or with the process, in whatever way.
type Contents struct{ file *os.File }

// Keep waits until nobody removes contents of a folder, and then keeps others from it. Any number of processes may keep them.
func Keep(ctx context.Context, folder string) (*Contents, error) {
	f, err := openContents(folder)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if err == nil {
			return &Contents{f}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("keep contents of %s: %w", folder, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("keep contents of %s, which a sweep removes some of: %w", folder, context.Cause(ctx)), f.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Remove takes the right to remove contents of a folder; [ErrCopied] while somebody copies them.
func Remove(folder string) (*Contents, error) {
	f, err := openContents(folder)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &Contents{f}, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrCopied
	}
	return nil, errors.Join(fmt.Errorf("remove contents of %s: %w", folder, err), f.Close())
}

func openContents(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, contentsName), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock contents of %s: %w", folder, err)
	}
	return f, nil
}

// Unlock gives the right back.
func (c *Contents) Unlock() error {
	return errors.Join(syscall.Flock(int(c.file.Fd()), syscall.LOCK_UN), c.file.Close())
}
