package podlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"
)

// Writer writes one container's log. Its streams may be written concurrently.
type Writer struct {
	mu      sync.Mutex
	dir     string
	name    string
	limit   int64
	keep    int64  // where the first chunk ends
	spill   string // where later chunks go; dir if empty
	now     func() time.Time
	file    *os.File
	index   *os.File
	chunk   int
	base    time.Time
	offset  int64
	written int64
	dropped int64
	cut     bool
	looked  int64 // bytes written when the disk's room was last looked at
	room    func(*os.File) (free, size int64)
	broken  error
	line    uint64 // lines completed, over both streams
	next    uint64 // the line at which the next index entry is due
	open    [2]bool
	buf     []byte
	pending [2][]byte
}

// A log leaves some room on its disk: without it the server, whose ledger may be there too, could record nothing more,
// not even the end of the step that wrote the log. Short logs are not concerned.
const (
	lookEvery   = 1 << 20  // bytes of output between two looks
	reserve     = 64 << 20 // bytes
	reservePart = 16       // of a small disk
)

// Create begins the log of a container. At most limit bytes of output are kept; 0 for no limit.
func Create(dir, name string, limit int64, now func() time.Time) (*Writer, error) {
	w := &Writer{dir: dir, name: name, limit: limit, keep: ChunkSize, now: now, room: diskRoom}
	// The first line is where every log begins; only a long log needs an index.
	w.next = indexEvery
	if err := w.begin(now()); err != nil {
		return nil, err
	}
	return w, nil
}

// Spill ends the first chunk after about keep bytes and puts those that follow into another folder, which is made
// when it is needed: a log's folder may be in memory. Readers find the chunks by links.
func (w *Writer) Spill(dir string, keep int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spill, w.keep = dir, min(keep, ChunkSize)
}

func (w *Writer) begin(t time.Time) error {
	path := chunkPath(w.dir, w.name, w.chunk)
	if w.spill != "" && w.chunk > 0 {
		link := path
		path = chunkPath(w.spill, w.name, w.chunk)
		if err := os.MkdirAll(w.spill, 0o700); err != nil {
			return fmt.Errorf("create log chunk: %w", err)
		}
		if err := os.Symlink(path, link); err != nil {
			return fmt.Errorf("create log chunk: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create log chunk: %w", err)
	}
	var h [headerSize]byte
	copy(h[:], magic)
	binary.BigEndian.PutUint64(h[8:], uint64(t.UnixNano()))
	if _, err := f.Write(h[:]); err != nil {
		_ = f.Close()
		return fmt.Errorf("create log chunk: %w", err)
	}
	w.file, w.base, w.offset = f, t, headerSize
	return nil
}

// Stream is an io.Writer for standard output (0) or standard error (1).
func (w *Writer) Stream(n int) *Stream { return &Stream{w: w, n: n & 1} }

// Stream is one of the two streams of a log. A write never fails: a log that cannot be written (a full disk)
// must not stop the container, and what is lost is counted.
type Stream struct {
	w *Writer
	n int
}

// Write takes output as it comes; lines are recorded when they are complete.
func (s *Stream) Write(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.take(s.n, p)
	s.w.flush()
	return len(p), nil
}

func (w *Writer) take(n int, p []byte) {
	t := w.now()
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.pending[n] = append(w.pending[n], p...)
			for len(w.pending[n]) >= MaxLine {
				w.record(n, flagContinues, w.pending[n][:MaxLine], t)
				w.pending[n] = append(w.pending[n][:0], w.pending[n][MaxLine:]...)
			}
			return
		}
		line := p[:i]
		if len(w.pending[n]) > 0 {
			w.pending[n] = append(w.pending[n], line...)
			line = w.pending[n]
		}
		for len(line) > MaxLine {
			w.record(n, flagContinues, line[:MaxLine], t)
			line = line[MaxLine:]
		}
		w.record(n, 0, line, t)
		w.pending[n] = w.pending[n][:0]
		p = p[i+1:]
	}
}

func (w *Writer) record(n int, flags byte, line []byte, t time.Time) {
	size := int64(len(line)) + 1
	if w.cut || w.broken != nil {
		w.dropped += size
		return
	}
	if w.limit > 0 && w.written+size > w.limit {
		w.cut = true
		w.dropped += size
		w.put(flagNotice, fmt.Appendf(nil, "log cut here: the limit of %d bytes is reached, what follows is dropped", w.limit), t)
		return
	}
	if w.written+size-w.looked >= lookEvery {
		w.looked = w.written + size
		if free, disk := w.room(w.file); free < min(reserve, disk/reservePart) {
			w.cut = true
			w.dropped += size
			w.put(flagNotice, fmt.Appendf(nil, "log cut here: the disk is almost full (%d MiB are left for the server), what follows is dropped", free>>20), t)
			return
		}
	}
	w.written += size
	if n == 1 {
		flags |= flagStderr
	}
	w.put(flags, line, t)
}

func (w *Writer) put(flags byte, line []byte, t time.Time) {
	if size := w.offset + int64(len(w.buf)); size >= ChunkSize || w.chunk == 0 && size >= w.keep {
		w.flush()
		_ = w.file.Close()
		w.chunk++
		if err := w.begin(t); err != nil {
			w.broken = err
			return
		}
		w.next = w.line
	}
	if w.line >= w.next && !w.open[0] && !w.open[1] {
		w.mark()
	}
	w.buf = append(w.buf, flags)
	w.buf = binary.AppendUvarint(w.buf, uint64(max(t.Sub(w.base), 0)/time.Microsecond))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(line)))
	w.buf = append(w.buf, line...)
	stream := int(flags & flagStderr)
	w.open[stream] = flags&flagContinues != 0
	if !w.open[stream] {
		w.line++
	}
	if len(w.buf) >= 128<<10 {
		w.flush()
	}
}

// mark adds an index entry for the line that begins here.
func (w *Writer) mark() {
	var e [entrySize]byte
	binary.BigEndian.PutUint64(e[:], w.line)
	binary.BigEndian.PutUint32(e[8:], uint32(w.chunk))
	binary.BigEndian.PutUint32(e[12:], uint32(w.offset+int64(len(w.buf))))
	if w.index == nil {
		f, err := os.OpenFile(indexPath(w.dir, w.name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			w.broken = fmt.Errorf("create log index: %w", err)
			return
		}
		w.index = f
	}
	if _, err := w.index.Write(e[:]); err != nil {
		w.broken = err
	}
	w.next = w.line + indexEvery
}

func (w *Writer) flush() {
	if len(w.buf) == 0 {
		return
	}
	if w.broken == nil {
		n, err := w.file.Write(w.buf)
		w.offset += int64(n)
		if err != nil {
			// A half record would make the rest unreadable.
			w.broken = err
			_ = w.file.Truncate(w.offset - int64(n))
		}
	}
	w.buf = w.buf[:0]
}

// Notice adds a line of the shim's own.
func (w *Writer) Notice(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(flagNotice|flagStderr, []byte(text), w.now())
	w.flush()
}

// Close writes lines that have no newline yet and closes the files. It returns how many bytes were dropped.
func (w *Writer) Close() (dropped int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range w.pending {
		if len(w.pending[n]) > 0 {
			w.record(n, 0, w.pending[n], w.now())
			w.pending[n] = nil
		}
	}
	w.flush()
	err = w.broken
	for _, f := range []*os.File{w.file, w.index} {
		if f == nil {
			continue
		}
		if e := f.Close(); err == nil {
			err = e
		}
	}
	return w.dropped, err
}
