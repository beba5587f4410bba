package folder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/backup"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// RestoreOptions of [Restore].
type RestoreOptions struct {
	// File is the archive, Data the folder to make. It must not be there, or be empty.
	File, Data string
	// KeysFile has the keys; Identity is a file with identities of age that open the keys in the archive. With neither, WithoutKeys says
	// that this is meant.
	KeysFile, Identity string
	WithoutKeys        bool
	// Actor is who restores, for the record.
	Actor string
	Now   func() time.Time
	// Parts are what a data folder is made of.
	Parts Parts
	// Fault is called at named points in test builds.
	Fault func(point string)
}

// Restored is what came of a restore.
type Restored struct {
	backup.Summary
	State hold.State
	// WithoutKeys says that there are none.
	WithoutKeys bool
}

// restoreReserve is what a restore leaves free on the disk, in bytes.
const restoreReserve = 64 << 20

// Restore makes a data folder of a backup, whose server is then held (package hold). The folder comes to be at once at the end: until then
// everything is in another one beside it, DATA.restoring, which an error removes and the next restore of a killed one.
func Restore(ctx context.Context, o RestoreOptions) (_ Restored, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore %s: %w", o.File, err)
		}
	}()
	r := &restoring{o: o, fault: o.Fault}
	if r.fault == nil {
		r.fault = func(string) {}
	}
	if err := r.begin(ctx); err != nil {
		return Restored{}, err
	}
	defer func() { err = errors.Join(err, r.end()) }()
	if err := r.extract(ctx); err != nil {
		return Restored{}, err
	}
	r.fault("extracted")
	if err := r.finish(ctx); err != nil {
		return Restored{}, err
	}
	return Restored{Summary: r.sum, State: r.state, WithoutKeys: r.keys.Files == nil}, r.place()
}

// restoring is a restore on its way.
type restoring struct {
	o     RestoreOptions
	fault func(string)
	// stage is where everything is put together; root keeps what is written within it.
	stage string
	lock  *datafolder.Lock
	root  *os.Root
	// sealed are the keys in the archive.
	sealed []byte
	keys   backup.Keys
	sum    backup.Summary
	state  hold.State
}

func (r *restoring) begin(ctx context.Context) (err error) {
	if r.o.Data, err = filepath.Abs(r.o.Data); err != nil {
		return err
	}
	if _, err := os.Stat(r.o.File); err != nil {
		return failure.Mark(failure.NotFound, err)
	}
	if err := emptyOrAbsent(r.o.Data); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.o.Data), 0o700); err != nil {
		return err
	}
	r.stage = r.o.Data + ".restoring"
	if r.lock, err = takeStage(ctx, r.stage); err != nil {
		return err
	}
	if r.root, err = os.OpenRoot(r.stage); err != nil {
		return errors.Join(err, r.end())
	}
	return nil
}

// emptyOrAbsent refuses a folder that has something.
func emptyOrAbsent(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = failure.WithHint(failure.Errorf(failure.Conflict, "%s is not empty, and nothing is written over", dir),
			"name a new folder with --data; to have it in this place stop the server (tiphys down) and move the folder away")
	}
	return err
}

// end removes the stage, which is not there any more if it was put in place.
func (r *restoring) end() error {
	var err error
	if r.root != nil {
		err = r.root.Close()
	}
	return errors.Join(err, os.RemoveAll(r.stage), r.lock.Unlock())
}

// headsFolder is where the heads of merge requests wait for the ledger to be whole.
const headsFolder = "restoring-heads"

// extract reads the archive into the stage and checks it to its end.
func (r *restoring) extract(ctx context.Context) error {
	f, err := os.Open(r.o.File)
	if err != nil {
		return err
	}
	defer f.Close()
	// What is given now is checked before hours are spent on the archive; what it is checked against comes first in it.
	carrier := r.o.Parts.Repositories(filepath.Join(r.stage, "git"), nil)
	r.sum, err = backup.Read(ctx, f, r.stage, backup.Visitor{
		Manifest: r.manifest,
		Room:     r.room,
		Member:   func(m backup.Member, in io.Reader) error { return r.member(ctx, carrier, m, in) },
	})
	return err
}

// room is how much may still be written.
func (r *restoring) room() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(r.stage, &st); err != nil {
		return 0, fmt.Errorf("ask for the room on the disk: %w", err)
	}
	free := st.Bavail * uint64(max(st.Bsize, 0))
	return free - min(free, restoreReserve), nil
}

// manifest looks whether the keys that were given are those of the backup.
func (r *restoring) manifest(m backup.Manifest) error {
	switch {
	case r.o.KeysFile != "":
		raw, err := os.ReadFile(r.o.KeysFile)
		if err == nil {
			r.keys, err = backup.DecodeKeys(raw)
		}
		if err != nil {
			return fmt.Errorf("keys in %s: %w", r.o.KeysFile, err)
		}
		return r.sameKeys(m)
	case r.o.Identity != "":
		if m.Keys != backup.KeysEncrypted {
			return failure.Invalidf("the backup has no keys in it that an identity could open: name the file that they are in with --keys")
		}
		return nil
	case r.o.WithoutKeys:
		return nil
	case m.Keys == backup.KeysEncrypted:
		return failure.Invalidf("the keys are encrypted in the backup: open them with --identity FILE, or leave them out with --without-keys (then its Secrets cannot be read)")
	}
	return failure.Invalidf("the keys are not in the backup: name their file with --keys FILE, or do without with --without-keys (then its Secrets cannot be read)")
}

func (r *restoring) sameKeys(m backup.Manifest) error {
	if r.keys.Digest(m.ID) != m.KeysDigest {
		return failure.Invalidf("these keys are not those that the backup was made with")
	}
	return nil
}

// member writes one file of the archive. Its name has been checked to be of the format.
func (r *restoring) member(ctx context.Context, carrier Repositories, m backup.Member, in io.Reader) error {
	name := m.Name
	if rest, ok := strings.CutPrefix(name, backup.SectionGit); ok {
		return r.repository(ctx, carrier, rest, in)
	}
	if name == backup.FileKeys {
		var err error
		r.sealed, err = io.ReadAll(in)
		return err
	}
	return r.write(name, in)
}

// write makes a file within the stage, readable by its owner alone.
func (r *restoring) write(name string, in io.Reader) error {
	if err := r.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := r.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

func (r *restoring) repository(ctx context.Context, carrier Repositories, member string, in io.Reader) error {
	if name, ok := strings.CutSuffix(member, packSuffix); ok {
		return carrier.Unpack(ctx, name, in)
	}
	name, ok := strings.CutSuffix(member, refsSuffix)
	if !ok || r.o.Parts.CheckRepository(name) != nil {
		return fmt.Errorf("%w: it has a file git/%s, which no backup has", backup.ErrDamaged, member)
	}
	return r.write(path.Join(headsFolder, headsOf(name)), in)
}

// headsOf is a flat name for the heads of a repository; "+" is in no repository's name.
func headsOf(repository string) string { return strings.ReplaceAll(repository, "/", "+") }

// finish makes of what was extracted, and is whole, the folder of a held server.
func (r *restoring) finish(ctx context.Context) error {
	if err := r.writeKeys(); err != nil {
		return err
	}
	key, err := ledger.LoadKey(r.stage) // made anew without keys
	if err != nil {
		return err
	}
	if r.keys.Files == nil {
		key = nil
	}
	l, err := r.o.Parts.Ledger(ctx, filepath.Join(r.stage, "ledger.db"), key, r.o.Now)
	if err != nil {
		return err
	}
	return errors.Join(r.settle(ctx, l), l.Close())
}

// writeKeys puts the keys in their places.
func (r *restoring) writeKeys() error {
	if r.o.Identity != "" {
		text, err := os.ReadFile(r.o.Identity)
		if err != nil {
			return fmt.Errorf("read identity: %w", err)
		}
		if r.keys, err = backup.Decrypt(r.sealed, string(text)); err != nil {
			return err
		}
		if err := r.sameKeys(r.sum.Manifest); err != nil {
			return err
		}
	}
	for name, raw := range r.keys.Files {
		if err := r.write(name, bytes.NewReader(raw)); err != nil {
			return fmt.Errorf("write key %s: %w", name, err)
		}
	}
	return nil
}

// settle verifies the ledger, points the repositories' refs where it says, and raises the epoch.
func (r *restoring) settle(ctx context.Context, l ledger.Ledger) error {
	head, err := wholeHead(ctx, l)
	if err == nil {
		err = sameHead(r.sum.Manifest, head)
	}
	if err != nil {
		return err
	}
	r.fault("whole")
	if err := r.pointRefs(ctx, l); err != nil {
		return err
	}
	r.fault("refs")
	m := r.sum.Manifest
	r.state, err = hold.Raise(ctx, l, hold.Restored{Backup: m.ID, Made: m.Made, Head: m.Head, WithoutKeys: r.keys.Files == nil}, r.o.Actor, r.o.Now())
	if err != nil {
		return err
	}
	r.fault("recorded")
	return writeEpoch(r.stage, r.state.Epoch)
}

func (r *restoring) pointRefs(ctx context.Context, l ledger.Ledger) error {
	carrier := r.o.Parts.Repositories(filepath.Join(r.stage, "git"), l)
	names, err := carrier.Names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		heads, err := r.root.ReadFile(path.Join(headsFolder, headsOf(name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := carrier.Point(ctx, name, heads); err != nil {
			return err
		}
	}
	return r.root.RemoveAll(headsFolder)
}

// place has everything reach the disk and gives the folder its name.
func (r *restoring) place() error {
	d, err := os.Open(r.stage)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Close()); err != nil {
		return fmt.Errorf("flush to the disk: %w", err)
	}
	r.fault("place")
	// A folder that is there must be empty, or this fails.
	if err := os.Rename(r.stage, r.o.Data); err != nil {
		return err
	}
	r.fault("placed")
	if err := r.root.Remove(stageMark); err != nil { // or the server does it
		return err
	}
	return flush(filepath.Dir(r.o.Data))
}
