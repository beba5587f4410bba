package archive

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tiphys/tiphys/artifact/blob"
)

// Epoch is the time that every packed entry gets, so that the same files give the same bytes whenever they
// were written. It is late enough for zip, whose years begin with 1980, in every time zone.
var Epoch = time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC)

// WriteTarGzip packs s as tar with gzip; level is that of gzip, -1 for the usual one. All entries lie beneath the
// name of s, belong to root and have the time [Epoch]; modes are kept, links are stored as links.
func WriteTarGzip(ctx context.Context, w io.Writer, s *Source, level int) error {
	z, err := gzip.NewWriterLevel(w, level)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	t := tar.NewWriter(z)
	if err := s.Walk(ctx, func(e Entry) error { return writeTarEntry(ctx, t, s.Name, e) }); err != nil {
		return err
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return fmt.Errorf("end archive: %w", err)
	}
	return nil
}

func writeTarEntry(ctx context.Context, t *tar.Writer, base string, e Entry) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     path.Join(base, e.Path),
		Mode:     int64(e.Info.Mode().Perm()),
		ModTime:  Epoch,
	}
	switch e.Info.Mode().Type() {
	case fs.ModeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
		return t.WriteHeader(h)
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		return t.WriteHeader(h)
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h.Size = f.Size()
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", e.Path, err)
	}
	n, err := io.Copy(t, blob.Reader(ctx, f))
	if err == nil && n < h.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", e.Path, err)
	}
	return nil
}

// WriteZip packs s as zip, in the manner of [WriteTarGzip].
func WriteZip(ctx context.Context, w io.Writer, s *Source) error {
	z := zip.NewWriter(w)
	if err := s.Walk(ctx, func(e Entry) error { return writeZipEntry(ctx, z, s.Name, e) }); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("end archive: %w", err)
	}
	return nil
}

func writeZipEntry(ctx context.Context, z *zip.Writer, base string, e Entry) error {
	h := &zip.FileHeader{Name: path.Join(base, e.Path), Method: zip.Deflate, Modified: Epoch}
	h.SetMode(e.Info.Mode())
	if e.Info.IsDir() {
		h.Name += "/"
		h.Method = zip.Store
	}
	w, err := z.CreateHeader(h)
	if err != nil {
		return fmt.Errorf("pack %s: %w", e.Path, err)
	}
	switch e.Info.Mode().Type() {
	case fs.ModeDir:
		return nil
	case fs.ModeSymlink:
		_, err := io.WriteString(w, e.Link)
		return err
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(w, blob.Reader(ctx, f)); err != nil {
		return fmt.Errorf("pack %s: %w", e.Path, err)
	}
	return nil
}
