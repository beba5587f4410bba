package clients

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// A body may bring nothing for quiet. One that comes bit by bit must bring slowest bytes in each second, on the whole: it has quiet and a
// second for each slowest bytes that came.
const (
	quiet   = 2 * time.Minute
	slowest = 1 << 10
)

// Body is the body of a request that may take long as long as enough of it comes. Read gives [os.ErrDeadlineExceeded] when it does not.
type Body struct {
	io.ReadCloser
	c *http.ResponseController

	mu   sync.Mutex
	free bool
	late bool
	// paid is until when there is time for what has come.
	paid time.Time
}

// NewBody watches over a request's body by the controller of its answer.
func NewBody(body io.ReadCloser, c *http.ResponseController) *Body {
	return &Body{ReadCloser: body, c: c, paid: time.Now().Add(quiet)}
}

// Read implements io.Reader. It is for one reader at a time.
func (b *Body) Read(p []byte) (int, error) {
	b.wait(time.Now())
	n, err := b.ReadCloser.Read(p)
	b.came(n)
	switch {
	case errors.Is(err, io.EOF):
		b.Free() // from now on the server only looks whether the client is there
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.mu.Lock()
		b.late = true
		b.mu.Unlock()
	}
	return n, err
}

// Late says that the body did not come in time.
func (b *Body) Late() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.late
}

// Free ends the watch: the body may take as long as it likes, and so may a read that waits now.
func (b *Body) Free() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.free {
		b.free = true
		_ = b.c.SetReadDeadline(time.Time{}) // where there is no connection there is none to wait for
	}
}

func (b *Body) wait(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.free {
		_ = b.c.SetReadDeadline(b.until(now))
	}
}

// until is how long more is waited for.
func (b *Body) until(now time.Time) time.Time {
	if rest := now.Add(quiet); rest.Before(b.paid) {
		return rest
	}
	return b.paid
}

// came takes note of bytes.
func (b *Body) came(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paid = b.paid.Add(time.Duration(n) * time.Second / slowest)
}
