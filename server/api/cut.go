package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Bounds of a log's text, in bytes. A caller who wants all of it says whole=1.
const (
	mostLine = 64 << 10 // of one line
	mostLog  = 16 << 20 // of one answer that does not follow the log; it ends with the line that goes beyond
)

// cutter writes a log's text and leaves out what goes beyond its bounds, saying so. It passes on what it has at once,
// half a line too.
type cutter struct {
	w io.Writer
	// from is the number of the first line.
	from uint64
	// most bounds the answer; 0 does not.
	most int

	wrote int
	line  int    // bytes of the present line so far
	left  int64  // of them left out
	lines uint64 // that have ended
	full  bool
}

// errFull says that an answer is as long as it may be.
var errFull = errors.New("the answer is long enough")

// Write implements io.Writer. The error is errFull when the answer may have no more.
func (c *cutter) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		if c.most > 0 && c.wrote >= c.most && c.line == 0 {
			c.full = true
			return at, errors.Join(errFull, c.sayEnd())
		}
		piece := p[at:]
		end := bytes.IndexByte(piece, '\n')
		if end >= 0 {
			piece = piece[:end]
		}
		if err := c.piece(piece); err != nil {
			return at, err
		}
		at += len(piece)
		if end >= 0 {
			if err := c.endLine(); err != nil {
				return at, err
			}
			at++
		}
	}
	return len(p), nil
}

func (c *cutter) piece(piece []byte) error {
	fits := min(len(piece), max(0, mostLine-c.line))
	c.line += len(piece)
	c.left += int64(len(piece) - fits)
	return c.put(piece[:fits])
}

func (c *cutter) put(b []byte) error {
	n, err := c.w.Write(b)
	c.wrote += n
	return err
}

func (c *cutter) endLine() error {
	text := "\n"
	if c.left > 0 {
		text = cutMark(c.left) + "\n"
	}
	c.line, c.left = 0, 0
	c.lines++
	return c.put([]byte(text))
}

// cutMark is what stands at the end of a line of which so many bytes are left out.
func cutMark(left int64) string {
	return fmt.Sprintf(" [cut: %d more bytes of this line; whole=1 gives them]", left)
}

// next is the number of the line that comes after what was written.
func (c *cutter) next() uint64 { return c.from + c.lines }

func (c *cutter) sayEnd() error {
	return c.put(fmt.Appendf(nil, "[cut: the log goes on; from=%d gives what comes next, whole=1 all]\n", c.next()))
}

// finish says what was left out of a last line that has not ended.
func (c *cutter) finish() error {
	if c.left == 0 {
		return nil
	}
	return c.put([]byte(cutMark(c.left)))
}

// copyLog copies a log as it comes, within the cutter's bounds.
func copyLog(w http.ResponseWriter, c *cutter, log io.Reader) error {
	flush := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := log.Read(buf)
		if n > 0 {
			if _, werr := c.Write(buf[:n]); werr != nil {
				return werr
			}
			_ = flush.Flush()
		}
		if errors.Is(err, io.EOF) {
			return c.finish()
		}
		if err != nil {
			return errors.Join(err, c.finish())
		}
	}
}

// readLine reads a line without its end, cut where it is too long; io.EOF after the last.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	text := string(bytes.TrimSuffix(line, []byte("\n")))
	left := int64(0)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		left += int64(len(bytes.TrimSuffix(line, []byte("\n"))))
	}
	if left > 0 {
		text += cutMark(left)
	}
	if errors.Is(err, io.EOF) && text != "" {
		return text, nil
	}
	return text, err
}
