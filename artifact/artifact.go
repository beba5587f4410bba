// Package artifact keeps what steps leave: files, folders, reports, images.
//
// [Store] is the interface of a store; artifact/local is the content-addressed one on this machine, and the
// default repository of every run. [Location] says where an artifact is, in Argo's terms; [Mover] brings
// artifacts to a step and takes them away again.
package artifact

import (
	"context"
	"io"
	"time"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// ErrNotFound says that a store has nothing under the key, or a location nothing at its place.
var ErrNotFound = failure.New(failure.NotFound, "artifact not found")

// Info describes a stored object.
type Info struct {
	Key string `json:"key"`
	// Digest is "sha256:" and 64 hex digits, over the stored bytes.
	Digest string    `json:"digest"`
	Size   int64     `json:"size"` // bytes
	Time   time.Time `json:"time"`
}

// Store keeps objects by key. Keys are slash-separated, without "." or ".." segments and without a leading
// slash; anything else is an error. All methods are safe for concurrent use. Every implementation runs the
// suite in artifact/artifacttest.
type Store interface {
	// Put stores what r yields under key, replacing what was there in one step: a reader sees the old or the
	// new object, never part of one.
	Put(ctx context.Context, key string, r io.Reader) (Info, error)
	// Get opens an object; ErrNotFound if there is none.
	Get(ctx context.Context, key string) (io.ReadCloser, Info, error)
	Stat(ctx context.Context, key string) (Info, error)
	// List returns objects whose key starts with prefix, in order of key.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Delete of a key that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// Mover brings artifacts in front of a step and takes its artifacts away. It knows every kind of location
// (default store, raw, git, http) and every encoding (tar+gzip, none, zip).
type Mover interface {
	// Fetch materialises the artifact at dest, an absolute path on this machine which does not exist yet: a file
	// or, if the artifact is an archive or a repository, a folder. Nothing is ever written outside dest.
	Fetch(ctx context.Context, a manifest.Artifact, dest string) error
	// Save stores the file or folder at src as the artifact says and returns where it now is (with key, digest, size).
	// src is read beneath root without following links out of it.
	Save(ctx context.Context, a manifest.Artifact, root, src string) (Saved, error)
}

// Saved tells where an output artifact went.
type Saved struct {
	Artifact manifest.Artifact `json:"artifact"`
	Digest   string            `json:"digest"`
	Size     int64             `json:"size"`
}

// Swept is what a sweep removed.
type Swept struct {
	Count int
	// Bytes are those of contents.
	Bytes int64
}
