// Package backup is the format in which a data folder is kept elsewhere: one file, written and read as a stream, with what it holds
// and the digest of each part at its end.
//
// A backup is a tar archive (PAX, regular files only) compressed as one zstd frame:
//
//	backup.json            the [Manifest]: format, id, time, epoch, the ledger's head
//	ledger.db              the ledger, as SQLite's own copy of a running database
//	git/NAME.pack          every object of a repository of the built-in remote, as git pack-objects writes them
//	git/NAME.refs          the heads of its merge requests: one "SHA REF" a line; branches and tags are in the ledger
//	artifacts/keys/…       what names artifacts, then artifacts/blobs/… their contents
//	images/repos/…         what names images, then images/pulled/… and images/blobs/…
//	keys.age               the key files, encrypted to the recipients of age that were named; absent where they are kept apart
//	contents               one line for each of the files above, in their order: SHA-256, size, name; then "end" and their number
//
// The order is part of the format: sections as above, names within a section by their segments. So a name cannot come twice, and a
// reader needs no memory for what it has read. A file that was cut, changed or written by somebody else does not match its contents and is
// refused as a whole.
//
// The ledger comes first because it is the truth of the moment: what it names was there before its entry, so whatever is copied afterwards
// has it, as long as nothing is removed meanwhile. Git objects are never removed, and the sweeps of artifacts and images wait for a backup.
// What was added after the ledger's copy is carried along and named by nothing.
//
// The room knows nothing of what is in the parts. wire saves and loads them.
package backup

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Format is the version of the format that this program writes, and the only one that it reads.
const Format = "tiphys-backup/1"

// Names of members that there is one of.
const (
	FileManifest = "backup.json"
	FileLedger   = "ledger.db"
	FileKeys     = "keys.age"
	FileContents = "contents"
)

// Sections of many members; a name below one begins with it.
const (
	SectionGit           = "git/"
	SectionArtifactKeys  = "artifacts/keys/"
	SectionArtifactBlobs = "artifacts/blobs/"
	SectionImageRepos    = "images/repos/"
	SectionImagePulled   = "images/pulled/"
	SectionImageBlobs    = "images/blobs/"
)

// order is that of the sections in an archive.
func order() []string {
	return []string{
		FileManifest, FileLedger, SectionGit, SectionArtifactKeys, SectionArtifactBlobs, SectionImageRepos, SectionImagePulled, SectionImageBlobs,
		FileKeys, FileContents,
	}
}

// Limits of what is read into memory or has a bound by its nature, in bytes.
const (
	maxManifest = 1 << 20
	maxKeys     = 1 << 20
	maxName     = 4096
)

// How the keys of a data folder go with its backup.
const (
	KeysApart     = "apart"     // in a file of their own
	KeysEncrypted = "encrypted" // in the archive, for recipients of age
	KeysNone      = "none"      // nowhere: what they seal is lost with the folder
)

// Manifest says what a backup is of.
type Manifest struct {
	// Format is [Format].
	Format string `json:"format"`
	// ID tells backups apart: 128 random bits.
	ID string `json:"id"`
	// Made is when the backup was begun.
	Made time.Time `json:"made"`
	// Version is that of the program that wrote it.
	Version string `json:"version"`
	// Epoch is the server's at that time; see executor.ID.
	Epoch int64 `json:"epoch"`
	// Head is the last entry of the ledger in it; Seq 0 is an empty ledger. It is not signed: tiphys ledger head gives signed ones.
	Head ledger.Head `json:"head"`
	// Keys is one of the Keys constants.
	Keys string `json:"keys"`
	// KeysDigest tells the keys that belong to this backup from others; see [Keys.Digest].
	KeysDigest string `json:"keysDigest"`
}

// Member is one file of an archive.
type Member struct {
	// Name is a slash-separated path in one of the sections.
	Name string
	// Size in bytes.
	Size int64
}

// ErrDamaged says that a file is not a backup, or not a whole one.
var ErrDamaged = failure.New(failure.Invalid, "the backup is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// section is the place of a name's section in the archive; -1 for a name that no archive has.
func section(name string) int {
	if !fs.ValidPath(name) || len(name) > maxName || strings.ContainsAny(name, "\x00\n\\") {
		return -1
	}
	return slices.IndexFunc(order(), func(s string) bool {
		return name == s || strings.HasSuffix(s, "/") && strings.HasPrefix(name, s)
	})
}

// Compare orders names as an archive has them: by section, then segment by segment, as a walk through folders comes to them.
func Compare(a, b string) int {
	if x, y := section(a), section(b); x != y {
		return x - y
	}
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// limit is the most bytes that a member may have; 0 where only the disk limits it.
func limit(name string) int64 {
	switch name {
	case FileManifest:
		return maxManifest
	case FileKeys:
		return maxKeys
	}
	return 0
}
