package gate

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// idle is how long a body may bring nothing, and grace how much longer than its handler a request may be read and answered. A body that comes
// bit by bit must bring slowest bytes in each second, on the whole: it has idle and a second for each slowest bytes that came.
const (
	idle    = 2 * time.Minute
	grace   = 5 * time.Second
	slowest = 1 << 10
)

// deadlines bounds how long a request's body is waited for and its answer is taken: a handler's context does not end a read. What has a timeout
// has it for both; what has none may take long as long as enough comes. A body that does not come is answered with 408, whatever the handler makes
// of it. The function that it gives ends what is meant for this request alone.
func deadlines(w *answer, req *http.Request, r Route) (end func()) {
	c := http.NewResponseController(w)
	if req.ContentLength != 0 {
		defer func() { req.Body = &awaited{req.Body, w} }()
	}
	if r.Timeout > 0 {
		until := time.Now().Add(r.Timeout + grace)
		_, _ = c.SetReadDeadline(until), c.SetWriteDeadline(until.Add(grace)) // where there is no connection there is none to wait for
		return func() { _ = c.SetWriteDeadline(time.Time{}) }
	}
	if req.ContentLength != 0 {
		req.Body = &moving{ReadCloser: req.Body, c: c, last: time.Now().Add(idle)}
	}
	return func() {}
}

// awaited is a body; it notes that it did not come in time.
type awaited struct {
	io.ReadCloser
	w *answer
}

// Read implements io.Reader.
func (a *awaited) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		a.w.late = true
		err = fmt.Errorf("the body did not come in time: %w", err)
	}
	return n, err
}

// moving is a body of which something comes now and then.
type moving struct {
	io.ReadCloser
	c *http.ResponseController
	// last is until when there is time for what has come.
	last time.Time
}

// Read implements io.Reader.
func (m *moving) Read(p []byte) (int, error) {
	_ = m.c.SetReadDeadline(m.until(time.Now()))
	n, err := m.ReadCloser.Read(p)
	m.came(n)
	if errors.Is(err, io.EOF) {
		_ = m.c.SetReadDeadline(time.Time{}) // from now on the server only looks whether the client is there
	}
	return n, err
}

// until is how long more is waited for.
func (m *moving) until(now time.Time) time.Time {
	if quiet := now.Add(idle); quiet.Before(m.last) {
		return quiet
	}
	return m.last
}

// came takes note of bytes.
func (m *moving) came(n int) { m.last = m.last.Add(time.Duration(n) * time.Second / slowest) }
