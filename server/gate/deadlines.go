package gate

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/tiphys/tiphys/keeper/clients"
)

// grace is how much longer than its handler a request may be read and answered.
const grace = 5 * time.Second

// deadlines bounds how long a request's body is waited for and its answer is taken: a handler's context does not end a read. What has a timeout
// has it for both; what has none may take long as long as enough comes ([clients.Body]). A body that does not come is answered with 408, whatever the handler makes
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
		req.Body = clients.NewBody(req.Body, c)
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
