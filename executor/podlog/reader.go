package podlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"
)

// pollInterval is how long a reader that follows waits for more.
const pollInterval = 25 * time.Millisecond

// Options select from a log.
type Options struct {
	// FromLine is the first line wanted, from 0; negative counts from the end.
	FromLine int
	// Follow waits for more until Ended.
	Follow bool
	// Timestamps puts RFC 3339 time and a space before each line.
	Timestamps bool
	// Ended says that nothing more will be written; nil for always.
	Ended func() bool
	// Stopped ends following with [ErrStopped], although more may be written; nil for never.
	Stopped func() bool
	// Moved is where the log's folder may be moved while it is read; may be empty.
	Moved string
}

// ErrStopped says that a log was not read to its end.
var ErrStopped = errors.New("reading the log was stopped")

// Reader reads a log as text.
type Reader struct {
	ctx      context.Context
	o        Options
	dir      string
	name     string
	file     *os.File
	in       *bufio.Reader
	chunk    int
	offset   int64 // of the next record
	base     time.Time
	skip     uint64 // lines to pass over
	first    uint64 // the line that the text begins with
	midLine  bool
	opened   bool
	closed   atomic.Bool
	buffered bytes.Buffer
}

// Open reads the log of a container. The error is fs.ErrNotExist if there is none; if Follow is set, the reader
// is usable all the same and waits for the log to begin.
func Open(ctx context.Context, dir, name string, o Options) (*Reader, error) {
	if o.Ended == nil {
		o.Ended = func() bool { return true }
	}
	r := &Reader{ctx: ctx, o: o, dir: dir, name: name}
	err := r.begin()
	if errors.Is(err, fs.ErrNotExist) && o.Follow {
		r.o.FromLine = max(o.FromLine, 0) // counted back from the end of nothing
		r.first = uint64(r.o.FromLine)
		return r, err
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// First is the number of the line that the text begins with, from 0. Who counts lines from there can go on reading
// behind any of them later.
func (r *Reader) First() uint64 { return r.first }

// begin finds the place to start at.
func (r *Reader) begin() error {
	line, err := r.firstLine()
	if err != nil {
		return err
	}
	r.first = line
	entries, err := r.index()
	if err != nil {
		return err
	}
	at := entry{offset: headerSize}
	for _, e := range entries {
		if e.line > line {
			break
		}
		at = e
	}
	if err := r.openChunk(at.chunk); err != nil {
		return err
	}
	if err := r.seek(at.offset); err != nil {
		return err
	}
	r.skip = line - at.line
	r.opened = true
	return nil
}

type entry struct {
	line   uint64
	chunk  int
	offset int64
}

func (r *Reader) index() ([]entry, error) {
	data, err := os.ReadFile(indexPath(r.dir, r.name))
	if errors.Is(err, fs.ErrNotExist) && r.o.Moved != "" {
		data, err = os.ReadFile(indexPath(r.o.Moved, r.name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []entry
	for ; len(data) >= entrySize; data = data[entrySize:] {
		entries = append(entries, entry{
			line: binary.BigEndian.Uint64(data), chunk: int(binary.BigEndian.Uint32(data[8:])), offset: int64(binary.BigEndian.Uint32(data[12:])),
		})
	}
	return entries, nil
}

// firstLine turns a negative line into one from the start: it counts from the last index entry.
func (r *Reader) firstLine() (uint64, error) {
	if r.o.FromLine >= 0 {
		return uint64(r.o.FromLine), nil
	}
	entries, err := r.index()
	if err != nil {
		return 0, err
	}
	at := entry{offset: headerSize}
	if len(entries) > 0 {
		at = entries[len(entries)-1]
	}
	c := &Reader{ctx: r.ctx, o: Options{Moved: r.o.Moved}, dir: r.dir, name: r.name}
	defer func() { _ = c.Close() }()
	if err := c.openChunk(at.chunk); err != nil {
		return 0, err
	}
	if err := c.seek(at.offset); err != nil {
		return 0, err
	}
	total := at.line
	for {
		rec, err := c.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if rec.flags&flagContinues == 0 {
			total++
		}
	}
	back := uint64(-int64(r.o.FromLine))
	return total - min(back, total), nil
}

func (r *Reader) openChunk(n int) error {
	f, err := os.Open(chunkPath(r.dir, r.name, n))
	if errors.Is(err, fs.ErrNotExist) && r.o.Moved != "" {
		f, err = os.Open(chunkPath(r.o.Moved, r.name, n))
	}
	if err != nil {
		return err
	}
	var h [headerSize]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		_ = f.Close()
		return fs.ErrNotExist // just created
	}
	if string(h[:8]) != magic {
		_ = f.Close()
		return fmt.Errorf("%w: chunk %d", errCorrupt, n)
	}
	if r.file != nil {
		_ = r.file.Close()
	}
	r.file, r.chunk, r.base = f, n, time.Unix(0, int64(binary.BigEndian.Uint64(h[8:])))
	return r.seek(headerSize)
}

func (r *Reader) hasChunk(n int) bool {
	for _, dir := range []string{r.dir, r.o.Moved} {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(chunkPath(dir, r.name, n)); err == nil {
			return true
		}
	}
	return false
}

func (r *Reader) seek(offset int64) error {
	if _, err := r.file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	r.offset = offset
	if r.in == nil {
		r.in = bufio.NewReaderSize(r.file, 64<<10)
	} else {
		r.in.Reset(r.file)
	}
	return nil
}

type record struct {
	flags byte
	time  time.Time
	line  []byte
}

// next reads a record; io.EOF if there is no whole one yet.
func (r *Reader) next() (record, error) {
	for {
		rec, n, err := r.decode()
		if err == nil {
			r.offset += n
			return rec, nil
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return rec, err
		}
		// Part of a record may have been there: read it again when there is more. A chunk is complete once the
		// next one exists, so that is asked first.
		if err := r.seek(r.offset); err != nil {
			return rec, err
		}
		if !r.hasChunk(r.chunk + 1) {
			return rec, io.EOF
		}
		if st, err := r.file.Stat(); err != nil || st.Size() > r.offset {
			return rec, io.EOF
		}
		if err := r.openChunk(r.chunk + 1); err != nil {
			return rec, io.EOF
		}
	}
}

func (r *Reader) decode() (record, int64, error) {
	var rec record
	flags, err := r.in.ReadByte()
	if err != nil {
		return rec, 0, err
	}
	counting := &countingReader{r: r.in}
	micros, err := binary.ReadUvarint(counting)
	if err != nil {
		return rec, 0, err
	}
	size, err := binary.ReadUvarint(counting)
	if err != nil {
		return rec, 0, err
	}
	if size > MaxLine+1024 {
		return rec, 0, fmt.Errorf("%w: record of %d bytes", errCorrupt, size)
	}
	rec.flags = flags
	rec.time = r.base.Add(time.Duration(micros) * time.Microsecond)
	rec.line = make([]byte, size)
	if _, err := io.ReadFull(r.in, rec.line); err != nil {
		return rec, 0, err
	}
	return rec, 1 + counting.n + int64(size), nil
}

type countingReader struct {
	r *bufio.Reader
	n int64
}

func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for r.buffered.Len() == 0 {
		if r.closed.Load() {
			return 0, fs.ErrClosed
		}
		// What was written before the end is there when the end is known.
		ended := r.o.Ended()
		err := r.fill()
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
		if !r.o.Follow || ended {
			return 0, io.EOF
		}
		if r.o.Stopped != nil && r.o.Stopped() {
			return 0, ErrStopped
		}
		t := time.NewTimer(pollInterval)
		select {
		case <-r.ctx.Done():
			t.Stop()
			return 0, r.ctx.Err()
		case <-t.C:
		}
	}
	return r.buffered.Read(p)
}

func (r *Reader) fill() error {
	if !r.opened {
		if err := r.begin(); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return io.EOF
			}
			return err
		}
	}
	for r.buffered.Len() < 32<<10 {
		rec, err := r.next()
		if errors.Is(err, io.EOF) && r.buffered.Len() > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		ends := rec.flags&flagContinues == 0
		if r.skip > 0 {
			if ends {
				r.skip--
			}
			continue
		}
		if r.o.Timestamps && !r.midLine {
			r.buffered.WriteString(rec.time.UTC().Format(time.RFC3339Nano) + " ")
		}
		r.buffered.Write(rec.line)
		if r.midLine = !ends; ends {
			r.buffered.WriteByte('\n')
		}
	}
	return nil
}

// Close implements io.Closer.
func (r *Reader) Close() error {
	r.closed.Store(true)
	if r.file != nil {
		return r.file.Close()
	}
	return nil
}
