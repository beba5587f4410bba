package pushed_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/pushed"
	"github.com/tiphys/tiphys/failure"
)

var attempt = executor.ID{Owner: "run", Node: "../../node", Attempt: 1}

func open(t testing.TB, dir string) *pushed.Store {
	t.Helper()
	s, err := pushed.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// However its pieces are cut, repeated and reordered, the log is what was written, once.
func TestLogs(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		id := executor.ID{Owner: "run", Node: "n", Attempt: n}
		text := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(r, "text")
		s := open(t, dir)
		var size int64
		for range 100 {
			from := rapid.IntRange(0, len(text)).Draw(r, "from")
			to := rapid.IntRange(from, len(text)).Draw(r, "to")
			got, err := s.AppendLog(t.Context(), id, "main", int64(from), text[from:to])
			switch {
			case int64(from) > size:
				if !failure.Is(err, failure.Conflict) || got != size {
					r.Fatalf("a piece from %d behind %d: %d, %v", from, size, got, err)
				}
				continue
			case err != nil:
				r.Fatal(err)
			}
			if size = max(size, int64(to)); got != size {
				r.Fatalf("after %d:%d the size is %d, want %d", from, to, got, size)
			}
		}
		if _, err := s.AppendLog(t.Context(), id, "main", size, text[size:]); err != nil {
			r.Fatal(err)
		}
		log, err := open(t, dir).Log(t.Context(), id, "main", 0)
		if err != nil {
			r.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		if got, err := io.ReadAll(log); err != nil || !bytes.Equal(got, text) {
			r.Fatalf("%q, %v, want %q", got, err, text)
		}
	})
}

func TestRefused(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.AppendLog(t.Context(), attempt, "main", 0, []byte("one\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AppendLog(t.Context(), attempt, "main", 0, []byte("two\n")); !failure.Is(err, failure.Conflict) {
		t.Errorf("another text at the same place: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", "-x", strings.Repeat("x", 254), "a\x00"} {
		if err := s.PutOutput(t.Context(), attempt, name, nil); !failure.Is(err, failure.Invalid) {
			t.Errorf("output %q: %v", name, err)
		}
		if _, err := s.AppendLog(t.Context(), attempt, name, 0, nil); !failure.Is(err, failure.Invalid) {
			t.Errorf("log %q: %v", name, err)
		}
	}
	if err := s.PutOutput(t.Context(), attempt, "big", make([]byte, pushed.OutputLimit+1)); !failure.Is(err, failure.TooLarge) {
		t.Errorf("too large an output: %v", err)
	}
	if _, err := s.AppendLog(t.Context(), attempt, "main", 4, make([]byte, pushed.ChunkLimit+1)); !failure.Is(err, failure.Invalid) {
		t.Errorf("too large a piece: %v", err)
	}
	if _, err := s.Output(t.Context(), attempt, "none"); !failure.Is(err, failure.NotFound) {
		t.Errorf("an output that is not there: %v", err)
	}
}

func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, value := range []string{"first", "second"} {
		if err := s.PutOutput(t.Context(), attempt, "tag", []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got, err := open(t, dir).Output(t.Context(), attempt, "tag"); err != nil || string(got) != value {
			t.Errorf("%q, %v", got, err)
		}
	}
	other := attempt
	other.Attempt++
	if _, err := s.Output(t.Context(), other, "tag"); err == nil {
		t.Error("another attempt has it, too")
	}
	if _, err := s.AppendLog(t.Context(), attempt, "main", 0, []byte("log")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Settle(t.Context(), attempt), s.Settle(t.Context(), attempt)); err != nil {
		t.Error(err)
	}
	if _, err := s.Output(t.Context(), attempt, "tag"); !failure.Is(err, failure.NotFound) {
		t.Errorf("after it was settled: %v", err)
	}
	if n, err := s.LogSize(t.Context(), attempt, "main"); n != 3 || err != nil {
		t.Errorf("of its log %d bytes are left, %v", n, err)
	}
	another := executor.ID{Owner: "another run", Node: attempt.Node, Attempt: attempt.Attempt}
	if err := s.PutOutput(t.Context(), another, "tag", []byte("v2")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Forget(t.Context(), attempt.Owner), s.Forget(t.Context(), attempt.Owner)); err != nil {
		t.Error(err)
	}
	if n, err := s.LogSize(t.Context(), attempt, "main"); n != 0 || err != nil {
		t.Errorf("after it was forgotten its log has %d bytes, %v", n, err)
	}
	if value, err := s.Output(t.Context(), another, "tag"); string(value) != "v2" || err != nil {
		t.Errorf("another owner has %q, %v", value, err)
	}
}
