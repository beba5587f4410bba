package failure

import (
	"math"
	"net/http"
	"strconv"
)

// Exit codes of the commands.
const (
	ExitSucceeded = 0
	// ExitFailed: the run failed, or the command could not be carried out.
	ExitFailed = 1
	// ExitWrong: the command line or a manifest is wrong.
	ExitWrong = 2
)

// mapping is one line of the table that says how a kind is told to the outside.
type mapping struct {
	name   string
	status int
	// code and word are gRPC's, as google/rpc/code.proto has them.
	code int
	word string
	exit int
}

// mapping is the table: the one place that maps kinds to statuses and codes. Where HTTP and gRPC have a choice, status and
// code are a pair that google/rpc/code.proto maps to each other, but for Stalled: that a person must act is a conflict
// to HTTP, since 503 would invite programs to try again.
func (k Kind) mapping() mapping {
	switch k {
	case Invalid:
		return mapping{"invalid", http.StatusBadRequest, 3, "INVALID_ARGUMENT", ExitWrong}
	case TooLarge:
		return mapping{"too large", http.StatusRequestEntityTooLarge, 8, "RESOURCE_EXHAUSTED", ExitFailed}
	case Unauthenticated:
		return mapping{"unauthenticated", http.StatusUnauthorized, 16, "UNAUTHENTICATED", ExitFailed}
	case Refused:
		return mapping{"refused", http.StatusForbidden, 7, "PERMISSION_DENIED", ExitFailed}
	case NotFound:
		return mapping{"not found", http.StatusNotFound, 5, "NOT_FOUND", ExitFailed}
	case Conflict:
		return mapping{"conflict", http.StatusConflict, 10, "ABORTED", ExitFailed}
	case RetryAfter:
		return mapping{"retry after", http.StatusServiceUnavailable, 14, "UNAVAILABLE", ExitFailed}
	case Waiting:
		return mapping{"waiting", http.StatusServiceUnavailable, 14, "UNAVAILABLE", ExitFailed}
	case TimedOut:
		return mapping{"timed out", http.StatusGatewayTimeout, 4, "DEADLINE_EXCEEDED", ExitFailed}
	case NoSpace:
		return mapping{"no space", http.StatusInsufficientStorage, 8, "RESOURCE_EXHAUSTED", ExitFailed}
	case Stalled:
		return mapping{"stalled", http.StatusConflict, 9, "FAILED_PRECONDITION", ExitFailed}
	}
	return mapping{"unclassified", http.StatusInternalServerError, 2, "UNKNOWN", ExitFailed}
}

// Kinds are all kinds, Unclassified first.
func Kinds() []Kind {
	kinds := make([]Kind, 0, Stalled+1)
	for k := Unclassified; k <= Stalled; k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

// HTTPStatus is the status with which an error is answered.
func HTTPStatus(err error) int { return KindOf(err).mapping().status }

// SetRetryAfter writes the Retry-After header of an error that says when to try again, in whole seconds, at least 1.
func SetRetryAfter(h http.Header, err error) {
	if after, ok := After(err); ok && KindOf(err) == RetryAfter {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10))
	}
}

// GRPC is the code with which a gRPC service answers an error: its number and its name. nil is 0, "OK".
func GRPC(err error) (code int, name string) {
	if err == nil {
		return 0, "OK"
	}
	m := KindOf(err).mapping()
	return m.code, m.word
}

// ExitCode is the code with which a command ends: 0 for nil, 2 where the command line or a manifest is wrong, 1 for
// every other error.
func ExitCode(err error) int {
	if err == nil {
		return ExitSucceeded
	}
	return KindOf(err).mapping().exit
}

// FromHTTP is the kind that a server meant by a status: the inverse of [HTTPStatus], as far as there is one.
func FromHTTP(status int) Kind {
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		return RetryAfter
	}
	for _, k := range Kinds() {
		if k.mapping().status == status {
			return k
		}
	}
	return Unclassified
}
