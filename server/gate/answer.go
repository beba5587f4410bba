package gate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/failure"
)

// answer is the response to one request, of which the gate knows whose it is. It implements [failure.Teller].
type answer struct {
	http.ResponseWriter
	g   *Gate
	req *http.Request
	id  Identity
	// late says that the request's body did not come in time.
	late bool
}

// WriteHeader implements http.ResponseWriter. A handler that failed because a body did not come does not know what that means.
func (a *answer) WriteHeader(code int) {
	if a.late && code >= http.StatusBadRequest {
		a.Header().Set("Connection", "close")
		code = http.StatusRequestTimeout
	}
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Tell writes an error of the server's own into the log, and gives the text that the caller may read. Administrators of this server read all of
// it; everybody else gets what it means, and the number under which the log has it.
func (a *answer) Tell(err error) string {
	text, whole := failure.ForStrangers(err)
	if whole {
		return text
	}
	if errors.Is(a.req.Context().Err(), context.Canceled) && errors.Is(err, context.Canceled) {
		return text // nobody reads the answer: the client has gone
	}
	number := logNumber()
	a.g.log.Error("a request failed", "number", number, "method", a.req.Method, "path", a.req.URL.Path, "by", a.id.String(), "error", err)
	if a.id.Role == access.Admin {
		return err.Error() + " (number " + number + " in the server's log)"
	}
	return text + "; its log has the reason under number " + number
}

// logNumber is what an answer and its line in the log have in common.
func logNumber() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it does not fail: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}
