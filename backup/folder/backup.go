package folder

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/tiphys/tiphys/backup"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// BackupOptions of [Backup].
type BackupOptions struct {
	// Data is the data folder, whether or not a server has it. It is not changed, but for a lock file.
	Data string
	// File is the archive to write. It must not be there.
	File string
	// KeysFile is where the keys go. Recipients are public keys of age to which they are encrypted in the archive instead. With neither,
	// WithoutKeys says that this is meant.
	KeysFile    string
	Recipients  []age.Recipient
	WithoutKeys bool
	Version     string
	Now         func() time.Time
	// Parts are what a data folder is made of.
	Parts Parts
	// Fault is called at named points in test builds.
	Fault func(point string)
}

// Backup writes a data folder to a file, beside a running server. What it returns was read back from the file and is whole.
func Backup(ctx context.Context, o BackupOptions) (sum backup.Summary, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up %s: %w", o.Data, err)
		}
	}()
	b := &backingUp{o: o, fault: o.Fault}
	if b.fault == nil {
		b.fault = func(string) {}
	}
	if err := b.begin(ctx); err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, b.end()) }()
	kept, err := datafolder.Keep(ctx, o.Data)
	if err != nil {
		return sum, err
	}
	err = b.write(ctx)
	if err = errors.Join(err, kept.Unlock()); err != nil {
		return sum, err
	}
	b.fault("written")
	if sum, err = verifyFile(ctx, b.path("archive"), b.stage, nil); err != nil {
		return sum, fmt.Errorf("read what was written: %w", err)
	}
	b.fault("verified")
	return sum, b.publish()
}

// backingUp is a backup on its way.
type backingUp struct {
	o     BackupOptions
	fault func(string)
	// stage is a folder beside the archive; it is there as long as the lock is held, or until the next backup to the same file.
	stage string
	lock  *datafolder.Lock
	keys  backup.Keys
	// repositories are those of the ledger's copy.
	repositories []string
}

func (b *backingUp) path(name string) string { return filepath.Join(b.stage, name) }

// begin looks whether all is as it must be, and makes the stage. What a backup that was killed left there is removed.
func (b *backingUp) begin(ctx context.Context) (err error) {
	if b.o.Data, err = filepath.Abs(b.o.Data); err != nil {
		return err
	}
	if b.o.File, err = filepath.Abs(b.o.File); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(b.o.Data, "ledger.db")); err != nil {
		return failure.Mark(failure.NotFound, fmt.Errorf("this is not the data folder of a server: %w", err))
	}
	if _, err := os.Lstat(b.o.File); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(failure.Errorf(failure.Conflict, "%s is there already: choose another name", b.o.File), err)
	}
	if b.keys, err = readKeys(b.o.Data); err != nil {
		return err
	}
	if err := b.checkKeysFile(); err != nil {
		return err
	}
	b.stage = filepath.Join(filepath.Dir(b.o.File), "."+filepath.Base(b.o.File)+".part")
	if b.lock, err = takeStage(ctx, b.stage); err != nil {
		return err
	}
	return nil
}

// checkKeysFile refuses to write over a file, unless it has these very keys.
func (b *backingUp) checkKeysFile() error {
	if b.o.KeysFile == "" {
		return nil
	}
	raw, err := os.ReadFile(b.o.KeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", b.o.KeysFile, err)
	}
	there, err := backup.DecodeKeys(raw)
	if err != nil || there.Digest("") != b.keys.Digest("") {
		return failure.Errorf(failure.Conflict, "%s is there already and has not the keys of this server: choose another name", b.o.KeysFile)
	}
	return nil
}

// stageMark is in every stage, so that no other folder is taken for one.
const stageMark = "tiphys-stage"

// takeStage makes a folder for this process alone, and empties one that a killed process left.
func takeStage(ctx context.Context, dir string) (*datafolder.Lock, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := os.Lstat(filepath.Join(dir, stageMark)); err != nil && !onlyLock(entries) {
			return nil, failure.Errorf(failure.Conflict, "%s is in the way: move it", dir)
		}
	}
	lock, err := datafolder.Take(ctx, dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if name := e.Name(); name != "lock" && name != stageMark {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, stageMark), []byte("This folder is removed by the command that made it.\n"), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", dir, err), lock.Unlock())
	}
	return lock, nil
}

func onlyLock(entries []os.DirEntry) bool { return len(entries) == 1 && entries[0].Name() == "lock" }

// end removes the stage.
func (b *backingUp) end() error { return errors.Join(os.RemoveAll(b.stage), b.lock.Unlock()) }

// readKeys reads the key files of a data folder.
func readKeys(data string) (backup.Keys, error) {
	keys := backup.Keys{Files: map[string][]byte{}}
	found, err := fs.Glob(os.DirFS(data), "keys/*.key")
	if err != nil {
		return keys, err
	}
	for _, name := range append(found, "ledger.key") {
		raw, err := os.ReadFile(filepath.Join(data, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return keys, fmt.Errorf("read key: %w", err)
		}
		if !backup.KeyName(name) {
			return keys, fmt.Errorf("read key: %s is no name of a key", name)
		}
		keys.Files[name] = raw
	}
	return keys, nil
}

// write writes the archive into the stage. The contents of artifacts and images are kept meanwhile.
func (b *backingUp) write(ctx context.Context) (err error) {
	m := backup.Manifest{Made: b.o.Now().UTC(), Version: b.o.Version, Keys: backup.KeysNone}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	m.ID = hex.EncodeToString(id[:])
	m.KeysDigest = b.keys.Digest(m.ID)
	switch {
	case len(b.o.Recipients) > 0:
		m.Keys = backup.KeysEncrypted
	case b.o.KeysFile != "":
		m.Keys = backup.KeysApart
	}
	carrier, closeCopy, err := b.copyLedger(ctx, &m)
	if err != nil {
		return err
	}
	b.fault("ledger")
	if err := closeCopy(); err != nil {
		return err
	}
	f, err := os.OpenFile(b.path("archive"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := backup.NewWriter(f, m, b.stage)
	if err != nil {
		return err
	}
	if err := b.fill(ctx, w, carrier); err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Sync()
}

// copyLedger copies the ledger into the stage and verifies the copy: a backup of a broken record is none. It notes in the manifest where the
// copy ends, and which repositories it knows.
func (b *backingUp) copyLedger(ctx context.Context, m *backup.Manifest) (Repositories, func() error, error) {
	if err := b.o.Parts.CopyLedger(ctx, filepath.Join(b.o.Data, "ledger.db"), b.path("ledger.db")); err != nil {
		return nil, nil, err
	}
	l, err := b.o.Parts.Ledger(ctx, b.path("ledger.db"), nil, b.o.Now)
	if err != nil {
		return nil, nil, err
	}
	carrier := b.o.Parts.Repositories(filepath.Join(b.o.Data, "git"), l)
	m.Head, err = wholeHead(ctx, l)
	if err == nil {
		var s hold.State
		s, err = hold.Read(ctx, l)
		m.Epoch = s.Epoch
	}
	if err == nil {
		b.repositories, err = carrier.Names(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return carrier, l.Close, nil
}

// wholeHead verifies a ledger and gives its last entry.
func wholeHead(ctx context.Context, l ledger.Ledger) (ledger.Head, error) {
	rep, err := l.Verify(ctx, ledger.Check{})
	if err != nil {
		return ledger.Head{}, err
	}
	if !rep.Whole() {
		what := "its storage is damaged"
		if len(rep.Faults) > 0 {
			what = fmt.Sprintf("entry %d: %s", rep.Faults[0].Seq, rep.Faults[0].What)
		}
		return ledger.Head{}, failure.Errorf(failure.Stalled, "the ledger is not whole: %s (see tiphys ledger verify)", what)
	}
	head, err := l.Head(ctx)
	if err != nil || head.Seq == 0 {
		return ledger.Head{}, err
	}
	return ledger.HeadOf(head), nil
}

// fill adds everything in the order of the format.
func (b *backingUp) fill(ctx context.Context, w *backup.Writer, carrier Repositories) error {
	if err := addFile(w, backup.FileLedger, b.path("ledger.db")); err != nil {
		return err
	}
	if err := os.Remove(b.path("ledger.db")); err != nil { // its room is wanted
		return err
	}
	if err := b.addRepositories(ctx, w, carrier); err != nil {
		return err
	}
	b.fault("git")
	for _, section := range contentSections() {
		if err := addTree(ctx, w, b.o.Data, section); err != nil {
			return err
		}
	}
	b.fault("contents")
	if len(b.o.Recipients) == 0 {
		return nil
	}
	sealed, err := b.keys.Encrypt(b.o.Recipients)
	if err != nil {
		return err
	}
	return w.Add(backup.Member{Name: backup.FileKeys, Size: int64(len(sealed))}, bytes.NewReader(sealed))
}

// contentSections are folders that are copied as they are, names before what they name.
func contentSections() []string {
	return []string{
		backup.SectionArtifactKeys, backup.SectionArtifactBlobs, backup.SectionImageRepos, backup.SectionImagePulled, backup.SectionImageBlobs,
	}
}

// addRepositories adds a pack and the heads of merge requests of each repository.
func (b *backingUp) addRepositories(ctx context.Context, w *backup.Writer, carrier Repositories) error {
	type part struct{ member, repository string }
	var parts []part
	for _, name := range b.repositories {
		parts = append(parts, part{backup.SectionGit + name + packSuffix, name}, part{backup.SectionGit + name + refsSuffix, name})
	}
	slices.SortFunc(parts, func(x, y part) int { return backup.Compare(x.member, y.member) })
	for _, p := range parts {
		if strings.HasSuffix(p.member, refsSuffix) {
			heads, err := carrier.Heads(ctx, p.repository)
			if err == nil {
				err = w.Add(backup.Member{Name: p.member, Size: int64(len(heads))}, bytes.NewReader(heads))
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := b.addPack(ctx, w, carrier, p.member, p.repository); err != nil {
			return err
		}
	}
	return nil
}

// The suffixes of a repository's members.
const (
	packSuffix = ".pack"
	refsSuffix = ".refs"
)

// addPack adds the objects of a repository, by way of the stage: a member's size comes before it.
func (b *backingUp) addPack(ctx context.Context, w *backup.Writer, carrier Repositories, member, repository string) error {
	path := b.path("pack")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = carrier.Pack(ctx, repository, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return errors.Join(addFile(w, member, path), os.Remove(path))
}

// addFile adds one file.
func addFile(w *backup.Writer, member, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("back up %s: it is not a file", path)
	}
	if err != nil {
		return err
	}
	return w.Add(backup.Member{Name: member, Size: st.Size()}, f)
}

// addTree adds the files below a folder of the data folder. One that goes meanwhile was taken away by somebody, and is not of the backup.
func addTree(ctx context.Context, w *backup.Writer, data, section string) error {
	root := os.DirFS(data)
	err := fs.WalkDir(root, strings.TrimSuffix(section, "/"), func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			if d != nil && d.IsDir() && name == strings.TrimSuffix(section, "/")+"/tmp" {
				return fs.SkipDir // what is being written
			}
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("back up %s: it is not a file", name)
		}
		err = addFile(w, name, filepath.Join(data, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("back up %s: %w", section, err)
	}
	return nil
}

// publish gives the archive its name, after the keys: an archive whose keys are nowhere must not look finished.
func (b *backingUp) publish() error {
	if b.o.KeysFile != "" {
		if err := b.writeKeys(); err != nil {
			return fmt.Errorf("write keys: %w", err)
		}
	}
	b.fault("keys")
	// Link, not rename: what came to be under that name meanwhile is not overwritten.
	if err := os.Link(b.path("archive"), b.o.File); err != nil {
		return err
	}
	return flush(filepath.Dir(b.o.File))
}

// writeKeys writes the file of keys whole or not at all.
func (b *backingUp) writeKeys() error {
	raw, err := b.keys.Encode()
	if err != nil {
		return err
	}
	dir := filepath.Dir(b.o.KeysFile)
	f, err := os.CreateTemp(dir, ".keys-") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), b.o.KeysFile)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return flush(dir)
}

// flush has a folder's names reach the disk.
func flush(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Verify reads an archive from beginning to end, checks every digest, and verifies the chain of the ledger in it. Nothing is left
// behind.
func Verify(ctx context.Context, parts Parts, file string) (sum backup.Summary, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".tiphys-verify-")
	if err != nil {
		return sum, fmt.Errorf("verify backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "ledger.db")
	sum, err = verifyFile(ctx, file, dir, func(m backup.Member, r io.Reader) error {
		if m.Name != backup.FileLedger {
			return nil
		}
		return writeNew(path, r)
	})
	if err != nil {
		return sum, err
	}
	l, err := parts.Ledger(ctx, path, nil, nil)
	if err != nil {
		return sum, fmt.Errorf("verify backup: %w", err)
	}
	head, err := wholeHead(ctx, l)
	if err = errors.Join(err, l.Close()); err != nil {
		return sum, fmt.Errorf("verify backup: %w", err)
	}
	return sum, sameHead(sum.Manifest, head)
}

// sameHead compares the end of the ledger in a backup with what the backup says of it.
func sameHead(m backup.Manifest, head ledger.Head) error {
	if head.Seq != m.Head.Seq || head.Hash != m.Head.Hash {
		return fmt.Errorf("%w: its ledger ends with entry %d %.16s and not with %d %.16s", backup.ErrDamaged, head.Seq, head.Hash, m.Head.Seq, m.Head.Hash)
	}
	return nil
}

func verifyFile(ctx context.Context, file, temp string, member func(backup.Member, io.Reader) error) (backup.Summary, error) {
	f, err := os.Open(file)
	if err != nil {
		return backup.Summary{}, fmt.Errorf("read backup: %w", err)
	}
	defer f.Close()
	return backup.Read(ctx, f, temp, backup.Visitor{Member: member})
}

// writeNew writes a file that must not be there.
func writeNew(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
