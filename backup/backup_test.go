package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/backup"
	"github.com/tiphys/tiphys/ledger"
)

// file is a member with its content.
type file struct{ name, text string }

func manifest() backup.Manifest {
	return backup.Manifest{ID: "b1", Made: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Version: "test", Epoch: 7, Head: ledger.Head{Seq: 3, Hash: "abc"}, Keys: backup.KeysApart}
}

func archive(t testing.TB, temp string, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, manifest(), temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := w.Add(backup.Member{Name: f.name, Size: int64(len(f.text))}, strings.NewReader(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// contents reads an archive.
func contents(temp string, raw []byte) (sum backup.Summary, files []file, err error) {
	sum, err = backup.Read(context.Background(), bytes.NewReader(raw), temp, backup.Visitor{Member: func(m backup.Member, r io.Reader) error {
		text, err := io.ReadAll(r)
		files = append(files, file{m.Name, string(text)})
		return err
	}})
	return sum, files, err
}

var some = []file{
	{"ledger.db", "the record"},
	{"git/harbour.pack", "PACK"}, {"git/harbour.refs", ""}, {"git/harbour/quay.pack", "PACK"}, {"git/harbour/quay.refs", "x"},
	{"artifacts/keys/+a/=b", "{}"}, {"artifacts/blobs/sha256/ab/abcd", strings.Repeat("blob", 100_000)},
	{"images/repos/harbour/tags/v1", "sha256:1"}, {"images/blobs/sha256/00/00ff", ""}, {"keys.age", "sealed"},
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	sorted := slices.Clone(some)
	slices.SortFunc(sorted, func(a, b file) int { return backup.Compare(a.name, b.name) })
	raw := archive(t, t.TempDir(), sorted...)
	sum, files, err := contents(t.TempDir(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sorted, files, cmp.AllowUnexported(file{})); diff != "" {
		t.Errorf("other files (-written +read):\n%s", diff)
	}
	want := manifest()
	want.Format = backup.Format
	if diff := cmp.Diff(want, sum.Manifest); diff != "" {
		t.Errorf("another manifest:\n%s", diff)
	}
	if sum.Members != int64(len(some))+1 {
		t.Errorf("%d members", sum.Members)
	}
	if again := archive(t, t.TempDir(), sorted...); !bytes.Equal(raw, again) {
		t.Error("the same contents give another archive")
	}
}

// The order of names is that in which a walk through folders comes to them, within the order of the sections.
func TestOrder(t *testing.T) {
	list := []string{
		"backup.json", "ledger.db", "git/a/b.pack", "git/a.pack", "git/a.refs", "artifacts/keys/+x/=y", "artifacts/keys/=x", "artifacts/blobs/a",
		"images/repos/a", "images/pulled/a", "images/blobs/a", "keys.age", "contents",
	}
	rapid.Check(t, func(t *rapid.T) {
		mixed := rapid.Permutation(list).Draw(t, "mixed")
		slices.SortFunc(mixed, backup.Compare)
		if diff := cmp.Diff(list, mixed); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWriterRefuses(t *testing.T) {
	for name, add := range map[string][]backup.Member{
		"no such section": {{Name: "elsewhere/x"}},
		"upwards":         {{Name: "git/../x"}},
		"absolute":        {{Name: "/ledger.db"}},
		"twice":           {{Name: "ledger.db"}, {Name: "ledger.db"}},
		"order":           {{Name: "git/a.pack"}, {Name: "ledger.db"}},
		"contents":        {{Name: "contents"}},
		"short":           {{Name: "ledger.db", Size: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := backup.NewWriter(io.Discard, manifest(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range add {
				err = w.Add(m, strings.NewReader(""))
			}
			if err == nil {
				t.Error("it was taken")
			}
			if err := w.Close(); err == nil {
				t.Error("and the archive was ended")
			}
		})
	}
}

// Of an archive that was cut anywhere, or in which any byte is another, nothing passes.
func TestDamageIsFound(t *testing.T) {
	temp := t.TempDir()
	raw := archive(t, temp, some[0], some[1], some[2])
	for n := range raw {
		if _, _, err := contents(temp, raw[:n]); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("cut at %d of %d bytes: %v", n, len(raw), err)
		}
		bad := bytes.Clone(raw)
		bad[n] ^= 0x20
		if _, files, err := contents(temp, bad); err == nil && !cmp.Equal(files, []file{some[0], some[1], some[2]}, cmp.AllowUnexported(file{})) {
			t.Fatalf("byte %d changed, and it is read as %v", n, files)
		}
	}
	if _, _, err := contents(temp, append(bytes.Clone(raw), "more"...)); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("something follows: %v", err)
	}
	if _, _, err := contents(temp, append(bytes.Clone(raw), raw...)); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("another archive follows: %v", err)
	}
}

// member is a tar header that somebody hostile writes.
func hostile(t *testing.T, members ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	zip, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(zip)
	first := fmt.Sprintf(`{"format":%q}`, backup.Format)
	for i, h := range append([]tar.Header{{Name: "backup.json", Typeflag: tar.TypeReg, Size: int64(len(first))}}, members...) {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			_, err = io.WriteString(w, first)
		} else if h.Size < 1<<20 {
			_, err = w.Write(make([]byte, h.Size))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Flush(), zip.Close()); err != nil && !strings.Contains(err.Error(), "missed writing") {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReaderRefuses(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"upwards":    {Name: "git/../../etc/passwd", Typeflag: tar.TypeReg},
		"absolute":   {Name: "/etc/passwd", Typeflag: tar.TypeReg},
		"link":       {Name: "artifacts/keys/=a", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		"hard link":  {Name: "artifacts/keys/=a", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
		"device":     {Name: "artifacts/keys/=a", Typeflag: tar.TypeBlock},
		"folder":     {Name: "artifacts/keys/", Typeflag: tar.TypeDir},
		"elsewhere":  {Name: "keys/secrets.key", Typeflag: tar.TypeReg},
		"dot":        {Name: "artifacts/keys/./a", Typeflag: tar.TypeReg},
		"line break": {Name: "artifacts/keys/a\nb", Typeflag: tar.TypeReg},
		"backslash":  {Name: `artifacts/keys/a\b`, Typeflag: tar.TypeReg},
		"long name":  {Name: "artifacts/keys/" + strings.Repeat("a/", 3000) + "b", Typeflag: tar.TypeReg},
		"second":     {Name: "backup.json", Typeflag: tar.TypeReg},
		"keys":       {Name: "keys.age", Typeflag: tar.TypeReg, Size: 2 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			_, files, err := contents(t.TempDir(), hostile(t, h))
			if !errors.Is(err, backup.ErrDamaged) || len(files) > 0 {
				t.Errorf("%v, %v", files, err)
			}
		})
	}
}

// A member that says that it has more than there is room for is refused before anything of it is read.
func TestHugeMember(t *testing.T) {
	raw := hostile(t, tar.Header{Name: "artifacts/blobs/a", Typeflag: tar.TypeReg, Size: 1 << 50, Format: tar.FormatPAX})
	asked := false
	_, err := backup.Read(t.Context(), bytes.NewReader(raw), t.TempDir(), backup.Visitor{
		Room:   func() (uint64, error) { return 1 << 30, nil },
		Member: func(backup.Member, io.Reader) error { asked = true; return nil },
	})
	if err == nil || !strings.Contains(err.Error(), "there is room for 1073741824") || asked {
		t.Errorf("%v, %v", err, asked)
	}
}

func TestOtherFormat(t *testing.T) {
	for text, want := range map[string]string{"": "cut", "no archive at all": "damaged"} {
		if _, _, err := contents(t.TempDir(), []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	var out bytes.Buffer
	zip, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(zip)
	text := `{"format":"tiphys-backup/9","version":"9.1"}`
	err = errors.Join(w.WriteHeader(&tar.Header{Name: "backup.json", Typeflag: tar.TypeReg, Size: int64(len(text))}))
	_, err2 := io.WriteString(w, text)
	if err := errors.Join(err, err2, w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := contents(t.TempDir(), out.Bytes()); err == nil || !strings.Contains(err.Error(), "9.1") {
		t.Errorf("%v", err)
	}
}

func TestKeys(t *testing.T) {
	keys := backup.Keys{Files: map[string][]byte{"ledger.key": []byte("one"), "keys/secrets.key": {0, 1, 2}}}
	raw, err := keys.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := backup.DecodeKeys(raw)
	if err != nil || !cmp.Equal(got.Files, keys.Files) {
		t.Errorf("%v, %v", got, err)
	}
	if keys.Digest("a") == keys.Digest("b") || keys.Digest("a") != got.Digest("a") {
		t.Error("a digest is of the keys and the backup")
	}
	for name, text := range map[string]string{
		"path":    `{"format":"tiphys-keys/1","files":{"keys/../../x.key":"YQ=="}}`,
		"other":   `{"format":"tiphys-keys/1","files":{"lock":"YQ=="}}`,
		"empty":   `{"format":"tiphys-keys/1","files":{"ledger.key":""}}`,
		"format":  `{"format":"tiphys-keys/2","files":{}}`,
		"unknown": `{"format":"tiphys-keys/1","files":{},"more":1}`,
		"text":    "-----BEGIN",
	} {
		if _, err := backup.DecodeKeys([]byte(text)); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

func TestKeysForARecipient(t *testing.T) {
	ada, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	bea, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := backup.Recipients([]string{ada.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	keys := backup.Keys{Files: map[string][]byte{"ledger.key": []byte("one")}}
	sealed, err := keys.Encrypt(to)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("b25l")) { // "one" in base64
		t.Error("the keys can be read")
	}
	if got, err := backup.Decrypt(sealed, "# a comment\n"+ada.String()); err != nil || !cmp.Equal(got.Files, keys.Files) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := backup.Decrypt(sealed, bea.String()); !errors.Is(err, backup.ErrIdentity) {
		t.Errorf("another identity: %v", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := backup.Decrypt(sealed, ada.String()); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("changed: %v", err)
	}
	if _, err := backup.Recipients([]string{"age1nonsense"}); err == nil {
		t.Error("a wrong recipient was taken")
	}
}

// Of an archive whose tar stream was changed by somebody who can compress, nothing passes but what is the same archive.
func TestChangedStreamIsFound(t *testing.T) {
	temp := t.TempDir()
	plain, err := unpacked(archive(t, temp, some[0], some[1], some[2]))
	if err != nil {
		t.Fatal(err)
	}
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		bad := bytes.Clone(plain)
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			at := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				bad[at] = rapid.Byte().Draw(t, "byte")
			case 1:
				bad = bad[:at+1]
			default:
				to := rapid.IntRange(0, len(bad)-1).Draw(t, "to")
				n := min(512, len(bad)-max(at, to))
				copy(bad[to:to+n], bad[at:at+n])
			}
		}
		_, files, err := contents(temp, zip.EncodeAll(bad, nil))
		if err == nil && !cmp.Equal(files, []file{some[0], some[1], some[2]}, cmp.AllowUnexported(file{})) {
			t.Fatalf("read as %v", files)
		}
	})
}

// Whatever a file holds, reading it ends, and what it gives is in order.
func FuzzRead(f *testing.F) {
	temp := f.TempDir()
	f.Add(archive(f, temp))
	f.Add(archive(f, temp, some[:3]...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, files, err := contents(temp, raw)
		if err == nil && !slices.IsSortedFunc(files, func(a, b file) int { return backup.Compare(a.name, b.name) }) {
			t.Errorf("read %v", files)
		}
	})
}

func unpacked(raw []byte) ([]byte, error) {
	zip, err := zstd.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	return io.ReadAll(zip)
}
