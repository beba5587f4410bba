// Package pushed keeps what pods push to the server where executor and server share no disk: output parameters and logs,
// by attempt. What a method has answered for is durable, and whatever is pushed again changes nothing.
package pushed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/failure"
)

// Limits of what one attempt pushes, in bytes.
const (
	OutputLimit = protocol.PushedOutputLimit
	ChunkLimit  = protocol.PushedPieceLimit
	LogLimit    = 1 << 30 // the log of one container
)

// outputCount is how many output parameters one attempt may push.
const outputCount = 1000

// Store is a folder with what was pushed. Its methods are safe for concurrent use.
type Store struct {
	dir string

	mu    sync.Mutex
	locks map[string]*lock // of logs that are being written
}

// lock is held while one log is written; it is forgotten with its last user.
type lock struct {
	sync.Mutex
	users int
}

// Open opens the folder, and makes it if it is not there.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open what pods push: %w", err)
	}
	return &Store{dir: dir, locks: map[string]*lock{}}, nil
}

// folder is an attempt's, below its owner's; their names hold nothing of what others chose.
func (s *Store) folder(id executor.ID, kind string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%d", len(id.Node), id.Node, id.Attempt))
	return filepath.Join(s.ownerFolder(id.Owner), hex.EncodeToString(sum[:16]), kind)
}

func (s *Store) ownerFolder(owner string) string {
	sum := sha256.Sum256([]byte(owner))
	return filepath.Join(s.dir, "owner-"+hex.EncodeToString(sum[:16]))
}

// checkName refuses what Kubernetes would not take for the name of a container and Argo not for a parameter's.
func checkName(name string) error {
	if name == "" || len(name) > 253 {
		return failure.Invalidf("a name has 1 to 253 characters, %.20q has %d", name, len(name))
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !letter && (i == 0 || c != '-' && c != '.') {
			return failure.Invalidf("the name %.60q: it may have letters, digits, -, _ and ., and begins with a letter, a digit or _", name)
		}
	}
	return nil
}

// PutOutput keeps an output parameter; one of that name that was pushed before is replaced.
func (s *Store) PutOutput(ctx context.Context, id executor.ID, name string, value []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	if len(value) > OutputLimit {
		return failure.Errorf(failure.TooLarge, "output parameter %s has more than %d KiB: make it an artifact", name, OutputLimit>>10)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := s.folder(id, "outputs")
	err := s.makeFolder(dir)
	if err == nil {
		err = s.roomFor(dir, name)
	}
	if err == nil {
		err = protocol.WriteFile(filepath.Join(dir, name), value, true)
	}
	if err != nil {
		return fmt.Errorf("keep output parameter %s: %w", name, err)
	}
	return nil
}

// roomFor refuses one parameter too many.
func (s *Store) roomFor(dir, name string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < outputCount {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
		return nil
	}
	return failure.Errorf(failure.TooLarge, "the attempt has %d output parameters, and may not have more", outputCount)
}

// makeFolder makes a folder of an attempt durably.
func (s *Store) makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	attempt := filepath.Dir(dir)
	return errors.Join(protocol.SyncFolder(attempt), protocol.SyncFolder(filepath.Dir(attempt)), protocol.SyncFolder(s.dir))
}

// Output gives an output parameter.
func (s *Store) Output(ctx context.Context, id executor.ID, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), checkName(name)); err != nil {
		return nil, err
	}
	value, err := os.ReadFile(filepath.Join(s.folder(id, "outputs"), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure.NotFoundf("there is no output parameter %s", name)
	}
	return value, err
}

// LogSize is how much of a container's log is here, in bytes: where its pusher goes on.
func (s *Store) LogSize(ctx context.Context, id executor.ID, container string) (int64, error) {
	if err := errors.Join(ctx.Err(), checkName(container)); err != nil {
		return 0, err
	}
	info, err := os.Stat(filepath.Join(s.folder(id, "logs"), container))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read log of %s: %w", container, err)
	}
	return info.Size(), nil
}

// AppendLog adds a piece of a container's log that begins at offset, and gives the log's size with it. What of the piece is
// here already is not added again; if it differs from what is here, or begins behind its end, it is a failure.Conflict.
func (s *Store) AppendLog(ctx context.Context, id executor.ID, container string, offset int64, piece []byte) (int64, error) {
	if err := errors.Join(ctx.Err(), checkName(container)); err != nil {
		return 0, err
	}
	if offset < 0 || len(piece) > ChunkLimit {
		return 0, failure.Invalidf("a piece of a log has at most %d KiB and an offset from 0", ChunkLimit>>10)
	}
	dir := s.folder(id, "logs")
	defer s.hold(filepath.Join(dir, container))()
	if err := s.makeFolder(dir); err != nil {
		return 0, fmt.Errorf("keep log of %s: %w", container, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, container), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("keep log of %s: %w", container, err)
	}
	size, err := add(f, dir, offset, piece)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return size, fmt.Errorf("keep log of %s: %w", container, err)
	}
	return size, nil
}

// add writes what of a piece is behind the end of a log.
func add(f *os.File, dir string, offset int64, piece []byte) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	if offset > size {
		return size, failure.Conflictf("the log ends at %d, and the piece begins at %d: push what is between", size, offset)
	}
	known := piece[:min(int64(len(piece)), size-offset)]
	was := make([]byte, len(known))
	if _, err := f.ReadAt(was, offset); err != nil && !errors.Is(err, io.EOF) {
		return size, err
	}
	if !bytes.Equal(was, known) {
		return size, failure.Conflictf("the log has something else at %d", offset)
	}
	rest := piece[len(known):]
	if size+int64(len(rest)) > LogLimit {
		return size, failure.Errorf(failure.TooLarge, "the log has more than %d MiB", LogLimit>>20)
	}
	if _, err := f.WriteAt(rest, size); err != nil {
		// Half a piece would not be acknowledged, and is not kept.
		return size, errors.Join(err, f.Truncate(size))
	}
	// Also of what was there: whoever wrote it may have died before it was durable.
	if err := f.Sync(); err != nil {
		return size, err
	}
	if size == 0 {
		err = protocol.SyncFolder(dir)
	}
	return size + int64(len(rest)), err
}

// hold waits for its turn to write a log; what it returns ends the turn.
func (s *Store) hold(path string) (release func()) {
	s.mu.Lock()
	l := s.locks[path]
	if l == nil {
		l = &lock{}
		s.locks[path] = l
	}
	l.users++
	s.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.locks, path)
		}
	}
}

// Log reads a container's log from an offset.
func (s *Store) Log(ctx context.Context, id executor.ID, container string, offset int64) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), checkName(container)); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, failure.Invalidf("the offset %s is below 0", strconv.FormatInt(offset, 10))
	}
	f, err := os.Open(filepath.Join(s.folder(id, "logs"), container))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure.NotFoundf("there is no log of %s", container)
	}
	if err != nil {
		return nil, fmt.Errorf("read log of %s: %w", container, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read log of %s: %w", container, err)
	}
	return f, nil
}

// Settle removes the outputs that an attempt pushed; its logs stay. One that pushed nothing is no error.
func (s *Store) Settle(ctx context.Context, id executor.ID) error {
	return s.remove(ctx, s.folder(id, "outputs"))
}

// Forget removes all that the attempts of an owner pushed; nothing is no error.
func (s *Store) Forget(ctx context.Context, owner string) error {
	return s.remove(ctx, s.ownerFolder(owner))
}

func (s *Store) remove(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("forget what was pushed: %w", err)
	}
	return nil
}
