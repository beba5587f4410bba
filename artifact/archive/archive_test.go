package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
)

// entry is one line of a test archive.
type entry struct {
	name string
	kind byte
	body string // content, or target of a link
	mode int64
}

func file(name, body string) entry      { return entry{name, tar.TypeReg, body, 0o644} }
func folder(name string) entry          { return entry{name, tar.TypeDir, "", 0o755} }
func link(name, target string) entry    { return entry{name, tar.TypeSymlink, target, 0o777} }
func hard(name, target string) entry    { return entry{name, tar.TypeLink, target, 0o644} }
func special(name string, k byte) entry { return entry{name, k, "", 0o644} }

func tarOf(t interface{ Fatal(...any) }, entries ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Format: tar.FormatPAX}
		switch e.kind {
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.body
		case tar.TypeReg:
			h.Size = int64(len(e.body))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := w.Write([]byte(e.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t *testing.T, entries ...entry) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name}
		mode := fs.FileMode(e.mode)
		switch e.kind {
		case tar.TypeSymlink:
			mode |= fs.ModeSymlink
		case tar.TypeDir:
			mode |= fs.ModeDir
		case tar.TypeChar:
			mode |= fs.ModeDevice | fs.ModeCharDevice
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tree lists what is at dir: "path" → "content", "/", or "-> target".
func tree(t interface{ Fatal(...any) }, dir string) map[string]string {
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch d.Type() {
		case fs.ModeDir:
			found[rel] = "/"
		case fs.ModeSymlink:
			to, err := os.Readlink(p)
			found[rel] = "-> " + to
			return err
		case 0:
			b, err := os.ReadFile(p)
			found[rel] = string(b)
			return err
		default:
			found[rel] = d.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The two shapes are those of Argo's executor: "if the tar is comprised of single directory or file, rename that
// file to the desired location" (workflow/executor/executor.go, unpack).
func TestUnpackShapes(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []entry
		want    map[string]string
	}{
		{"one file", []entry{file("hello.txt", "hi")}, map[string]string{".": "hi"}},
		{"one folder", []entry{folder("out/"), file("out/a", "1"), file("out/b/c", "2")},
			map[string]string{".": "/", "a": "1", "b": "/", "b/c": "2"}},
		{"folder in folder keeps the inner one", []entry{folder("out/"), file("out/in/a", "1")},
			map[string]string{".": "/", "in": "/", "in/a": "1"}},
		{"several", []entry{file("./a", "1"), file("b", "2")}, map[string]string{".": "/", "a": "1", "b": "2"}},
		{"nothing", nil, map[string]string{".": "/"}},
		{"empty folder", []entry{folder("out/")}, map[string]string{".": "/"}},
		{"links inside", []entry{file("o/a", "1"), link("o/l", "a"), link("o/d/up", "../a"), hard("o/h", "o/a")},
			map[string]string{".": "/", "a": "1", "l": "-> a", "d": "/", "d/up": "-> ../a", "h": "1"}},
		{"case differs", []entry{file("A", "1"), file("a", "2")}, map[string]string{".": "/", "A": "1", "a": "2"}},
		{"the last of two wins", []entry{file("o/a", "1"), file("o/a", "2")}, map[string]string{".": "/", "a": "2"}},
		{"a link is replaced, not written through", []entry{file("o/a", "1"), link("o/l", "a"), file("o/l", "2")},
			map[string]string{".": "/", "a": "1", "l": "2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dest := filepath.Join(t.TempDir(), "dest")
			if err := archive.Tar(context.Background(), bytes.NewReader(tarOf(t, c.entries...)), dest, archive.Limits{}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, tree(t, dest)); d != "" {
				t.Error(d)
			}
		})
	}
}

func hostile() map[string][]entry {
	return map[string][]entry{
		"upwards":                     {file("../evil", "x")},
		"upwards in the middle":       {file("a/../../evil", "x")},
		"absolute":                    {file("/tmp/evil", "x")},
		"link upwards":                {file("a", "1"), link("l", "../evil")},
		"absolute link":               {file("a", "1"), link("l", "/etc/passwd")},
		"write through a link":        {link("d", "."), file("d/evil", "x")},
		"write through a link out":    {link("d", ".."), file("d/evil", "x")},
		"link chain":                  {folder("a"), link("a/s", ".."), link("a/l", "s/../.."), file("b", "")},
		"climb after a link to top":   {folder("a/b"), link("a/b/s", "../.."), link("a/b/l", "s/../.."), file("c", "")},
		"climb after descending":      {folder("x/y"), link("l", "x/y/../../.."), file("b", "")},
		"link in a linked folder":     {folder("a/b"), link("s", "a/b"), link("s/l", "../../x"), file("c", "")},
		"leaves only once stripped":   {folder("o"), link("o/l", "../beside")},
		"nothing but a link":          {link("l", "x")},
		"hard link out":               {file("a", "1"), hard("h", "../../etc/passwd")},
		"absolute hard link":          {file("a", "1"), hard("h", "/etc/passwd")},
		"hard link through a link":    {folder("d"), link("s", "d"), hard("h", "s/x")},
		"hard link to a link":         {folder("a"), link("a/l", "../x"), hard("h", "a/l")},
		"hard link to nothing":        {file("a", "1"), hard("h", "b")},
		"device":                      {special("null", tar.TypeChar), file("a", "")},
		"block device":                {special("sda", tar.TypeBlock), file("a", "")},
		"pipe":                        {special("pipe", tar.TypeFifo), file("a", "")},
		"folder becomes file":         {folder("a"), file("a/b", ""), file("a", "x")},
		"folder becomes link":         {folder("a"), link("a", "b"), file("c", "")},
		"file becomes folder":         {file("a", "x"), file("a/b", "y")},
		"file with the name of all":   {file(".", "x"), file("b", "")},
		"dots":                        {file("a/..", "x"), file("b", "")},
		"hard link with dots":         {file("a", "1"), hard("h", "a/..")},
		"empty target":                {file("a", ""), link("l", "")},
		"link to the folder above it": {folder("a"), link("a/b", "../.."), file("c", "")},
	}
}

func TestHostileTar(t *testing.T) {
	for name, entries := range hostile() {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			err := archive.Tar(context.Background(), bytes.NewReader(tarOf(t, entries...)), filepath.Join(outer, "in", "dest"), archive.Limits{})
			if err == nil {
				t.Error("no folder to write into was no error")
			}
			if err := os.Mkdir(filepath.Join(outer, "in"), 0o755); err != nil {
				t.Fatal(err)
			}
			err = archive.Tar(context.Background(), bytes.NewReader(tarOf(t, entries...)), filepath.Join(outer, "in", "dest"), archive.Limits{})
			if !errors.Is(err, archive.ErrUnsafe) {
				t.Errorf("not refused: %v", err)
			}
			if got := tree(t, outer); len(got) != 2 {
				t.Errorf("left over: %v", got)
			}
		})
	}
}

func TestHostileZip(t *testing.T) {
	for name, entries := range hostile() {
		kinds := 0
		for _, e := range entries {
			if e.kind == tar.TypeLink || e.kind == tar.TypeBlock || e.kind == tar.TypeFifo || e.name == "." {
				kinds++
			}
		}
		if kinds > 0 {
			continue // zip has no such entries
		}
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			b := zipOf(t, entries...)
			err := archive.Zip(context.Background(), bytes.NewReader(b), int64(len(b)), filepath.Join(outer, "dest"), archive.Limits{})
			if !errors.Is(err, archive.ErrUnsafe) {
				t.Errorf("not refused: %v", err)
			}
			if got := tree(t, outer); len(got) != 1 {
				t.Errorf("left over: %v", got)
			}
		})
	}
}

func TestSetuidIsDropped(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "dest")
	b := tarOf(t, entry{"x", tar.TypeReg, "", 0o6755})
	if err := archive.Tar(context.Background(), bytes.NewReader(b), dest, archive.Limits{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dest)
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestLimits(t *testing.T) {
	many := make([]entry, 101)
	for i := range many {
		many[i] = folder(strings.Repeat("d", i+1))
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(tarOf(t, file("zeros", strings.Repeat("\x00", 1<<20))))
	_ = z.Close()
	for name, b := range map[string][]byte{"entries": tarOf(t, many...), "bytes": tarOf(t, file("f", strings.Repeat("x", 1001)))} {
		dest := filepath.Join(t.TempDir(), "dest")
		err := archive.Tar(context.Background(), bytes.NewReader(b), dest, archive.Limits{Bytes: 1000, Entries: 100})
		if !errors.Is(err, artifact.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := archive.Gunzip(bytes.NewReader(bomb.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "dest")
	if err := archive.Tar(context.Background(), r, dest, archive.Limits{Bytes: 1000}); !errors.Is(err, artifact.ErrTooLarge) {
		t.Errorf("bomb: %v", err)
	}
}

// Whatever an archive says, what is outside of dest stays as it was, and following any link that was made stays inside.
func TestNothingOutside(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "a/b", "a/b/c", "../x", "b/a", "./a", "a/../b", "b/c", "/a"})
	targets := rapid.SampledFrom([]string{"a", "b", ".", "..", "../a", "a/b", "../..", "a/..", "b/../..", "c/../../..", "/", "../b/c", "secret"})
	rapid.Check(t, func(rt *rapid.T) {
		outer, err := os.MkdirTemp("", "outer")
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(outer) }()
		if err := os.WriteFile(filepath.Join(outer, "secret"), []byte("outside"), 0o600); err != nil {
			rt.Fatal(err)
		}
		var entries []entry
		for range rapid.IntRange(1, 6).Draw(rt, "entries") {
			n := names.Draw(rt, "name")
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				entries = append(entries, file(n, "inside"))
			case 1:
				entries = append(entries, folder(n))
			case 2:
				entries = append(entries, link(n, targets.Draw(rt, "target")))
			case 3:
				entries = append(entries, hard(n, names.Draw(rt, "hard")))
			}
		}
		dest := filepath.Join(outer, "dest")
		err = archive.Tar(context.Background(), bytes.NewReader(tarOf(rt, entries...)), dest, archive.Limits{})
		left, _ := os.ReadDir(outer)
		if want := 1; err != nil && len(left) != want {
			rt.Fatalf("refused, but left %v", left)
		}
		if b, err := os.ReadFile(filepath.Join(outer, "secret")); err != nil || string(b) != "outside" {
			rt.Fatalf("the secret is now %q, %v", b, err)
		}
		if err != nil {
			return
		}
		for name, what := range tree(rt, dest) {
			if !strings.HasPrefix(what, "-> ") {
				continue
			}
			if to, err := filepath.EvalSymlinks(filepath.Join(dest, name)); err == nil && to != dest && !strings.HasPrefix(to, dest+"/") {
				rt.Fatalf("%s leads to %s", name, to)
			}
		}
	})
}

func source(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, body := range map[string]string{"out/b.txt": "b", "out/a/x": "x", "out/a-b": "-", "elsewhere/f": "f"} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(body), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"out/l": "a/x", "abs": "/elsewhere/f", "up": "../../../../../etc/hostname", "dir": "out"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func pack(t *testing.T, root, src string) []byte {
	t.Helper()
	s, err := archive.Open(root, src)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var b bytes.Buffer
	if err := archive.WriteTarGzip(context.Background(), &b, s, -1); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPackIsDeterministicAndComesBack(t *testing.T) {
	one, two := source(t), source(t)
	a, b := pack(t, one, "/out"), pack(t, two, filepath.Join(two, "out"))
	if !bytes.Equal(a, b) {
		t.Error("the same files gave different bytes")
	}
	dest := filepath.Join(t.TempDir(), "dest")
	r := archive.NewReader(bytes.NewReader(a))
	if k := archive.Detect(r); k != archive.TarGzip {
		t.Fatalf("detected %v", k)
	}
	z, err := archive.Gunzip(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.Tar(context.Background(), z, dest, archive.Limits{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(tree(t, filepath.Join(one, "out")), tree(t, dest)); d != "" {
		t.Error(d)
	}
	info, err := os.Stat(filepath.Join(dest, "b.txt"))
	if err != nil || info.Mode() != 0o640 || !info.ModTime().Equal(archive.Epoch) {
		t.Errorf("%v %v, %v", info.Mode(), info.ModTime(), err)
	}
}

// A step's links mean what they mean in its own root, and never what they mean on this machine.
func TestOpenStaysBeneathRoot(t *testing.T) {
	root := source(t)
	for src, want := range map[string]string{"/abs": "f", "abs": "f", "/dir/b.txt": "b", "/../../out/b.txt": "b"} {
		s, err := archive.Open(root, src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		var b bytes.Buffer
		_, _ = b.ReadFrom(s.Reader())
		_ = s.Close()
		if b.String() != want {
			t.Errorf("%s: %q", src, b.String())
		}
	}
	for _, src := range []string{"/up", "/nothing", "/out/b.txt/c", "/../../../etc/hostname"} {
		if _, err := archive.Open(root, src); !errors.Is(err, artifact.ErrNotFound) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestWalkOrder(t *testing.T) {
	s, err := archive.Open(source(t), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var names []string
	if err := s.Walk(context.Background(), func(e archive.Entry) error { names = append(names, e.Path); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{".", "a", "a/x", "a-b", "b.txt", "l"}, names); d != "" {
		t.Error(d)
	}
}

func TestDetect(t *testing.T) {
	gz := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(b)
		_ = w.Close()
		return out.Bytes()
	}
	for name, c := range map[string]struct {
		b    []byte
		want archive.Kind
	}{
		"nothing":   {nil, archive.Plain},
		"text":      {[]byte("hello"), archive.Plain},
		"zeros":     {make([]byte, 4096), archive.Plain},
		"tar":       {tarOf(t, file("a", "b")), archive.TarKind},
		"tgz":       {gz(tarOf(t, file("a", "b"))), archive.TarGzip},
		"gz":        {gz([]byte("hello")), archive.Plain},
		"cut gz":    {[]byte{0x1f, 0x8b, 8}, archive.Plain},
		"zip":       {zipOf(t, file("a", "b")), archive.ZipKind},
		"empty zip": {zipOf(t), archive.ZipKind},
	} {
		if got := archive.Detect(archive.NewReader(bytes.NewReader(c.b))); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	for _, entries := range hostile() {
		f.Add(tarOf(f, entries...))
	}
	f.Add(tarOf(f, folder("o"), file("o/a", "1"), link("o/l", "a")))
	f.Fuzz(func(t *testing.T, b []byte) {
		around := t.TempDir()
		outer := filepath.Join(around, "outer")
		if err := os.Mkdir(outer, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = archive.Tar(context.Background(), bytes.NewReader(b), filepath.Join(outer, "dest"), archive.Limits{Bytes: 1 << 20, Entries: 100})
		_ = archive.Zip(context.Background(), bytes.NewReader(b), int64(len(b)), filepath.Join(outer, "dest2"), archive.Limits{Bytes: 1 << 20, Entries: 100})
		if left, _ := os.ReadDir(around); len(left) != 1 {
			t.Errorf("outside: %v", left)
		}
		names := []string{}
		entries, _ := os.ReadDir(outer)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		sort.Strings(names)
		if s := strings.Join(names, " "); s != "" && s != "dest" && s != "dest dest2" && s != "dest2" {
			t.Errorf("beside dest: %s", s)
		}
	})
}
