package podlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func clock() func() time.Time {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return func() time.Time {
		t = t.Add(time.Millisecond)
		return t
	}
}

func readAll(t interface{ Fatal(...any) }, dir string, o Options) string {
	r, err := Open(context.Background(), dir, "main", o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// However the output comes in pieces, every line comes back, from every starting point.
func TestLinesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "podlog")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		lines := rapid.SliceOfN(rapid.StringMatching(`[a-z ]{0,40}`), 0, 3*indexEvery).Draw(t, "lines")
		if len(lines) > 0 && rapid.Bool().Draw(t, "long") {
			lines[len(lines)/2] = strings.Repeat("long", MaxLine/2)
		}
		text := strings.Join(lines, "\n")
		if len(lines) > 0 {
			text += "\n"
		}
		w, err := Create(dir, "main", 0, clock())
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; rest != ""; {
			n := min(rapid.IntRange(1, 4000).Draw(t, "piece"), len(rest))
			_, _ = w.Stream(0).Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, dir, Options{}); got != text {
			t.Fatalf("whole log: %d bytes, want %d", len(got), len(text))
		}
		from := rapid.IntRange(-len(lines)-2, len(lines)+2).Draw(t, "from")
		start := from
		if from < 0 {
			start = max(0, len(lines)+from)
		}
		want := ""
		if start < len(lines) {
			want = strings.Join(lines[start:], "\n") + "\n"
		}
		if diff := cmp.Diff(want, readAll(t, dir, Options{FromLine: from})); diff != "" {
			t.Fatalf("from %d: %s", from, diff)
		}
	})
}

func TestChunksAndLimit(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, "main", 40<<20, clock())
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 50 << 10 {
		_, _ = w.Stream(1).Write(line)
	}
	dropped, err := w.Close()
	if err != nil || dropped != 10<<20 {
		t.Errorf("dropped %d, %v", dropped, err)
	}
	chunks, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	if len(chunks) != 3 {
		t.Errorf("chunks: %v", chunks)
	}
	if got := readAll(t, dir, Options{FromLine: -2}); !strings.HasPrefix(got, strings.Repeat("x", 1023)+"\nlog cut here") {
		t.Errorf("end: %.1200q", got)
	}
	if got := readAll(t, dir, Options{FromLine: 35000}); len(got) < 5<<20 {
		t.Errorf("from within the third chunk: %d bytes", len(got))
	}
}

func TestFollowTheWriter(t *testing.T) {
	dir := t.TempDir()
	ended := make(chan struct{})
	o := Options{Follow: true, Ended: func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}}
	r, err := Open(context.Background(), dir, "main", o)
	if !errors.Is(err, fs.ErrNotExist) || r == nil {
		t.Fatalf("before it begins: %v", err)
	}
	got := make(chan string, 1)
	go func() {
		data, err := io.ReadAll(r)
		got <- fmt.Sprint(string(data), err)
	}()
	w, err := Create(dir, "main", 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for i := range 2000 {
		line := fmt.Sprintf("line %d\n", i)
		want += line
		_, _ = w.Stream(0).Write([]byte(line))
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	close(ended)
	select {
	case text := <-got:
		if text != want+"<nil>" {
			t.Errorf("%d bytes, want %d", len(text), len(want)+5)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the reader does not end")
	}
}

func TestNameStaysInFolder(t *testing.T) {
	for _, name := range []string{"../x", "a/b", "..", "a.b", "", strings.Repeat("y", 5000)} {
		if n := Name(name); strings.ContainsAny(n, "/.") || len(n) > 128 {
			t.Errorf("%.20q: %.60q", name, n)
		}
	}
}

// A damaged log is an error or less text, never a crash or an endless read.
func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x01\x02hi\x00\x00\x03foo"), []byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, records, index []byte) {
		dir := t.TempDir()
		header := append([]byte(magic), 0, 0, 0, 0, 0, 0, 0, 1)
		if os.WriteFile(chunkPath(dir, "main", 0), append(header, records...), 0o600) != nil ||
			os.WriteFile(indexPath(dir, "main"), index, 0o600) != nil {
			t.Skip()
		}
		for _, from := range []int{0, -3} {
			r, err := Open(context.Background(), dir, "main", Options{FromLine: from})
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			_ = r.Close()
		}
	})
}

// A log whose later chunks are elsewhere reads like any other.
func TestSpill(t *testing.T) {
	dir, far := t.TempDir(), filepath.Join(t.TempDir(), "made", "when", "needed")
	w, err := Create(dir, "main", 0, clock())
	if err != nil {
		t.Fatal(err)
	}
	w.Spill(far, 100)
	var want strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&want, "line %d\n", i)
		if i == 3 {
			if _, err := os.Stat(far); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder is there before it is needed: %v", err)
			}
		}
		if _, err := fmt.Fprintf(w.Stream(0), "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), readAll(t, dir, Options{})); diff != "" {
		t.Error(diff)
	}
	if got := readAll(t, dir, Options{FromLine: 1998}); got != "line 1998\nline 1999\n" {
		t.Errorf("from line 1998: %q", got)
	}
	st, err := os.Stat(filepath.Join(dir, "main.0000.log"))
	if err != nil || st.Size() > 200 {
		t.Errorf("first chunk: %v %v", st, err)
	}
}

// Who stops reading a log that goes on is not told that it ended.
func TestStopped(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, "main", 0, clock())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = w.Close() }()
	if _, err := io.WriteString(w.Stream(0), "one\n"); err != nil {
		t.Fatal(err)
	}
	going := func() bool { return false }
	r, err := Open(context.Background(), dir, "main", Options{Follow: true, Ended: going, Stopped: func() bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if data, err := io.ReadAll(r); string(data) != "one\n" || !errors.Is(err, ErrStopped) {
		t.Errorf("%q %v", data, err)
	}
	if r, err = Open(context.Background(), dir, "main", Options{FromLine: -1}); err != nil || r.First() != 0 {
		t.Errorf("first line %d, %v", r.First(), err)
	}
	_ = r.Close()
}
