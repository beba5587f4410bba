package gate

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// idle is how long a body may bring nothing, and grace how much longer than its handler a request may be read and answered.
const (
	idle  = 2 * time.Minute
	grace = 5 * time.Second
)

// deadlines bounds how long a request's body is waited for and its answer is taken: a handler's context does not end a read. What has a timeout
// has it for both; what has none may take long as long as something comes. The function that it gives ends what is meant for this request
// alone.
func deadlines(w http.ResponseWriter, req *http.Request, r Route) (end func()) {
	c := http.NewResponseController(w)
	if r.Timeout > 0 {
		until := time.Now().Add(r.Timeout + grace)
		_, _ = c.SetReadDeadline(until), c.SetWriteDeadline(until) // where there is no connection there is none to wait for
		return func() { _ = c.SetWriteDeadline(time.Time{}) }
	}
	if req.ContentLength != 0 {
		req.Body = &moving{ReadCloser: req.Body, c: c}
	}
	return func() {}
}

// moving is a body of which something comes now and then.
type moving struct {
	io.ReadCloser
	c *http.ResponseController
}

// Read implements io.Reader.
func (m *moving) Read(p []byte) (int, error) {
	_ = m.c.SetReadDeadline(time.Now().Add(idle))
	n, err := m.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = m.c.SetReadDeadline(time.Time{}) // from now on the server only looks whether the client is there
	}
	return n, err
}
