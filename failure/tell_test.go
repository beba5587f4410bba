package failure_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// TestForStrangers: what was written for whoever asked is told as it is; what broke in the server is not.
func TestForStrangers(t *testing.T) {
	broke := fmt.Errorf("open /srv/tiphys/ledger.db: %w", io.ErrUnexpectedEOF)
	for name, c := range map[string]struct {
		err   error
		want  string
		whole bool
	}{
		"broken":              {broke, "something went wrong in the server", false},
		"late":                {fmt.Errorf("read /srv/tiphys/ledger.db: %w", context.DeadlineExceeded), "it took longer than it may take", false},
		"full":                {failure.Mark(failure.NoSpace, broke), "the server has no room to store this", false},
		"not found":           {failure.NotFoundf("run a/b not found"), "run a/b not found", true},
		"conflict":            {fmt.Errorf("merge: %w", failure.Conflictf("it is closed")), "merge: it is closed", true},
		"waiting, in words":   {failure.Waitingf("the server is held"), "the server is held", true},
		"later, in words":     {failure.Later(time.Second, failure.Waitingf("the server is held")), "the server is held", true},
		"waiting, as a mark":  {failure.Mark(failure.Waiting, broke), "this cannot be answered now", false},
		"later, of a breach":  {failure.Later(time.Second, broke), "this cannot be answered now", false},
		"hint around a mark":  {failure.WithHint(failure.Mark(failure.Waiting, broke), "look"), "this cannot be answered now", false},
		"two that disagree":   {fmt.Errorf("%w, %w", failure.NotFoundf("x"), failure.Conflictf("/y")), "something went wrong in the server", false},
		"stalled, in words":   {failure.Stalledf("mend the declaration"), "mend the declaration", true},
		"stalled, as a mark":  {failure.Mark(failure.Stalled, broke), "this cannot be answered now", false},
		"invalid, by marking": {failure.Mark(failure.Invalid, fmt.Errorf("the body is no JSON")), "the body is no JSON", true},
	} {
		if text, whole := failure.ForStrangers(c.err); text != c.want || whole != c.whole {
			t.Errorf("%s: %q, %v; want %q, %v", name, text, whole, c.want, c.whole)
		}
	}
	if text := failure.Tell(httptest.NewRecorder(), broke); text != "something went wrong in the server" {
		t.Errorf("an answer to nobody known says %q", text)
	}
}

func TestTroubles(t *testing.T) {
	var all failure.Troubles
	if all.Text() != "" {
		t.Error("nothing is wrong yet")
	}
	if !all.Note("stop pod b", io.EOF) || !all.Note("stop pod a", io.EOF) || all.Note("stop pod a", io.ErrUnexpectedEOF) {
		t.Error("what is noted first is news, and the second time it is not")
	}
	if got, want := all.Text(), "stop pod a: unexpected EOF (and 1 more)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	all.Over("stop pod a")
	all.Over("stop pod a")
	all.Over("stop pod b")
	if all.Text() != "" {
		t.Errorf("all is over: %q", all.Text())
	}
}
