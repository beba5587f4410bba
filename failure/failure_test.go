package failure_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/failure"
)

// placed is an error of a room that does not import this one.
type placed struct{}

func (placed) Error() string          { return "a.yaml:3:7: expected boolean" }
func (placed) At() (string, int, int) { return "a.yaml", 3, 7 }
func (placed) Says() (_, _, hint string) {
	return "spec.prune", "expected boolean", "write true or false"
}

// TestMapping: the table of kinds. Statuses and codes are those of google/rpc/code.proto; 1 and 2 are the program's exit codes.
func TestMapping(t *testing.T) {
	for kind, want := range map[failure.Kind]struct {
		name       string
		status     int
		code       int
		word       string
		exit       int
		fromStatus failure.Kind
	}{
		failure.Unclassified:    {"unclassified", 500, 2, "UNKNOWN", 1, failure.Unclassified},
		failure.Invalid:         {"invalid", 400, 3, "INVALID_ARGUMENT", 2, failure.Invalid},
		failure.TooLarge:        {"too large", 413, 8, "RESOURCE_EXHAUSTED", 1, failure.TooLarge},
		failure.Unauthenticated: {"unauthenticated", 401, 16, "UNAUTHENTICATED", 1, failure.Unauthenticated},
		failure.Refused:         {"refused", 403, 7, "PERMISSION_DENIED", 1, failure.Refused},
		failure.NotFound:        {"not found", 404, 5, "NOT_FOUND", 1, failure.NotFound},
		failure.Conflict:        {"conflict", 409, 10, "ABORTED", 1, failure.Conflict},
		failure.RetryAfter:      {"retry after", 503, 14, "UNAVAILABLE", 1, failure.RetryAfter},
		failure.Waiting:         {"waiting", 503, 14, "UNAVAILABLE", 1, failure.RetryAfter},
		failure.TimedOut:        {"timed out", 504, 4, "DEADLINE_EXCEEDED", 1, failure.TimedOut},
		failure.NoSpace:         {"no space", 507, 8, "RESOURCE_EXHAUSTED", 1, failure.NoSpace},
		failure.Stalled:         {"stalled", 409, 9, "FAILED_PRECONDITION", 1, failure.Conflict},
	} {
		err := fmt.Errorf("do this: %w", failure.New(kind, "x"))
		code, word := failure.GRPC(err)
		if kind.String() != want.name || failure.HTTPStatus(err) != want.status || code != want.code || word != want.word ||
			failure.ExitCode(err) != want.exit || failure.FromHTTP(want.status) != want.fromStatus {
			t.Errorf("%s: %d, %d %s, exit %d, back %s; want %+v", kind, failure.HTTPStatus(err), code, word, failure.ExitCode(err), failure.FromHTTP(want.status), want)
		}
	}
	if len(failure.Kinds()) != 12 {
		t.Errorf("%d kinds: the table above has 12", len(failure.Kinds()))
	}
	if code, word := failure.GRPC(nil); code != 0 || word != "OK" || failure.ExitCode(nil) != 0 || failure.FromHTTP(http.StatusTooManyRequests) != failure.RetryAfter {
		t.Error("no error is no failure, and 429 says to come again")
	}
}

func TestKindOf(t *testing.T) {
	gone := failure.New(failure.NotFound, "run not found")
	for name, c := range map[string]struct {
		err  error
		want failure.Kind
	}{
		"nil":                               {nil, failure.Unclassified},
		"nobody's":                          {io.EOF, failure.Unclassified},
		"wrapped":                           {fmt.Errorf("a: %w", fmt.Errorf("b: %w", gone)), failure.NotFound},
		"the outermost counts":              {failure.Invalidf("refers to what is not there: %w", gone), failure.Invalid},
		"placed":                            {fmt.Errorf("load: %w", placed{}), failure.Invalid},
		"two agree":                         {errors.Join(gone, fmt.Errorf("x: %w", gone)), failure.NotFound},
		"two disagree":                      {errors.Join(gone, placed{}), failure.Unclassified},
		"one says nothing":                  {fmt.Errorf("%w: %w", gone, io.EOF), failure.NotFound},
		"with a hint":                       {failure.WithHint(gone, "look at the list"), failure.NotFound},
		"later":                             {failure.Later(time.Second, gone), failure.RetryAfter},
		"deadline":                          {fmt.Errorf("read: %w", context.DeadlineExceeded), failure.TimedOut},
		"canceled":                          {context.Canceled, failure.Unclassified},
		"body":                              {fmt.Errorf("read: %w", &http.MaxBytesError{Limit: 1}), failure.TooLarge},
		"unclassified gives way":            {failure.Mark(failure.Unclassified, gone), failure.NotFound},
		"several, within one that is named": {failure.Errorf(failure.Stalled, "%w and %w", gone, io.EOF), failure.Stalled},
	} {
		if got := failure.KindOf(c.err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestErrorsStayErrors: what is wrapped is found again, and the text says everything once.
func TestErrorsStayErrors(t *testing.T) {
	base := failure.New(failure.NotFound, "no such run")
	err := failure.WithHint(failure.Mark(failure.Invalid, failure.Conflictf("start it: %w", fmt.Errorf("read: %w", base))), "submit it first")
	if err.Error() != "start it: read: no such run" || !errors.Is(err, base) || failure.HintOf(fmt.Errorf("x: %w", err)) != "submit it first" {
		t.Errorf("%q, hint %q", err, failure.HintOf(err))
	}
	two := failure.Invalidf("%w: %w", base, io.EOF)
	if !errors.Is(two, base) || !errors.Is(two, io.EOF) {
		t.Errorf("%q lost a cause", two)
	}
	if failure.Mark(failure.Invalid, nil) != nil || failure.Later(1, nil) != nil || failure.WithHint(nil, "x") != nil || failure.InvalidAt() != nil {
		t.Error("no error became one")
	}
}

func TestRetryAfter(t *testing.T) {
	for after, want := range map[time.Duration]string{0: "", -time.Second: "", time.Millisecond: "1", 2 * time.Second: "2", 2*time.Second + 1: "3"} {
		h := http.Header{}
		failure.SetRetryAfter(h, fmt.Errorf("x: %w", failure.Later(after, io.EOF)))
		if h.Get("Retry-After") != want {
			t.Errorf("%s: %q, want %q", after, h.Get("Retry-After"), want)
		}
	}
	h := http.Header{}
	failure.SetRetryAfter(h, failure.Mark(failure.Invalid, failure.Later(time.Second, io.EOF)))
	if len(h) != 0 {
		t.Error("a request that stays wrong must not be told to come again")
	}
}

func TestPlaces(t *testing.T) {
	own := failure.Place{File: "b.yaml", Line: 1, Column: 2, Problem: "unknown"}
	err := failure.InvalidAt(own, failure.Place{Problem: "nowhere", Hint: "say where"})
	if want := "b.yaml:1:2: unknown\nnowhere (say where)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	got := failure.PlacesOf(fmt.Errorf("x: %w", errors.Join(err, placed{})))
	want := []failure.Place{
		own, {Problem: "nowhere", Hint: "say where"},
		{File: "a.yaml", Line: 3, Column: 7, Path: "spec.prune", Problem: "expected boolean", Hint: "write true or false"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWrappingKeepsTheKind: however an error is wrapped on its way, its kind and cause arrive.
func TestWrappingKeepsTheKind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := failure.Kind(rapid.IntRange(0, len(failure.Kinds())-1).Draw(t, "kind"))
		base := failure.New(kind, "base")
		err := base
		for range rapid.IntRange(0, 5).Draw(t, "wraps") {
			switch rapid.IntRange(0, 3).Draw(t, "how") {
			case 0:
				err = fmt.Errorf("x: %w", err)
			case 1:
				err = failure.WithHint(err, "y")
			case 2:
				err = errors.Join(err, io.EOF)
			case 3:
				err = failure.Mark(failure.Unclassified, err)
			}
		}
		if failure.KindOf(err) != kind || !errors.Is(err, base) {
			t.Fatalf("%v is %s, want %s", err, failure.KindOf(err), kind)
		}
	})
}
