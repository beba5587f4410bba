package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func stdWith(env map[string]string) IO {
	return IO{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}, Getenv: func(name string) string { return env[name] }}
}

// All names of one server's loopback are one, and another port, scheme or host is another server.
func TestAddresses(t *testing.T) {
	for given, want := range map[string]string{
		"127.0.0.1:2746": "http://localhost:2746", "localhost:2746": "http://localhost:2746", "http://[::1]:2746/": "http://localhost:2746",
		"tiphys.localhost:2746": "http://localhost:2746", "http://LOCALHOST:2746": "http://localhost:2746", "http://localhost": "http://localhost:80",
		"https://CI.example.org": "https://ci.example.org:443", "https://localhost:2746": "https://localhost:2746", "https://[2001:db8::1]:8443": "https://[2001:db8::1]:8443",
		"http://localhost.example.org:2746": "http://localhost.example.org:2746", "http://shop.localhost:2746": "http://shop.localhost:2746",
		"ftp://x": "", "http://": "", "http://a b": "",
	} {
		got, err := addressOf(given)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", given, got, err, want)
		}
	}
}

// What is kept is the user's alone, is found again under every name of the server, and by no other server's name.
func TestKeyring(t *testing.T) {
	config := filepath.Join(t.TempDir(), "made", "config")
	std := stdWith(map[string]string{"XDG_CONFIG_HOME": config})
	k, err := ownKeyring(std)
	if err != nil {
		t.Fatal(err)
	}
	kept := credential{Server: "http://localhost:2746", Data: "/srv/tiphys", Token: "one", Git: "g", GitID: "1"}
	if err := k.keep(kept); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{config: 0o700, k.folder(): 0o700, filepath.Join(k.folder(), fileOf(kept.Server)): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
	for base, want := range map[string]string{"http://127.0.0.1:2746": "one", "http://localhost:2746": "one", "http://localhost:2747": "", "https://localhost:2746": "", "http://example.org:2746": ""} {
		if got, err := knownToken(std, base); got != want || err != nil {
			t.Errorf("%s: %q %v", base, got, err)
		}
	}
	// The same server keeps what git has; another one at its address has nothing of it.
	if err := k.learn(credential{Server: kept.Server, Token: "one"}); err != nil {
		t.Fatal(err)
	}
	if got, err := k.find(kept.Server); err != nil || got != kept {
		t.Errorf("%+v %v", got, err)
	}
	if err := k.learn(credential{Server: kept.Server, Data: "/srv/other", Token: "two"}); err != nil {
		t.Fatal(err)
	}
	got, err := k.find(kept.Server)
	if diff := cmp.Diff(credential{Server: kept.Server, Data: "/srv/other", Token: "two"}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	left, err := os.ReadDir(k.folder())
	if err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
	// What others may have read or put there is not used, and the command says so.
	file := filepath.Join(k.folder(), fileOf(kept.Server))
	if err := os.Chmod(file, 0o640); err != nil { //nolint:gosec // the point of the test
		t.Fatal(err)
	}
	if got, err := knownToken(std, kept.Server); err == nil || got != "" {
		t.Errorf("a file that others may read gives %q %v", got, err)
	}
	if err := os.Rename(file, file+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file+".moved", file); err != nil {
		t.Fatal(err)
	}
	if got, err := knownToken(std, kept.Server); err == nil || got != "" {
		t.Errorf("a link gives %q %v", got, err)
	}
}

// nobody is a user without rights.
const nobody = 65534

// The user behind sudo gets a note of their own, which is theirs; a link of theirs leads to where they may write themselves and nowhere else.
func TestNoteOfTheUserBehindSudo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not tested: acting as another user needs root")
	}
	outside := t.TempDir()
	// Not below the test's own folders, which other users may not walk through.
	home, err := os.MkdirTemp("", "tiphys-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	k := keyring{filepath.Join(home, ".config"), nobody}
	c := credential{Server: "http://localhost:1", Token: "x"}
	learn := func() error { return asUser(nobody, nobody, func() error { return k.learn(c) }) }
	if err := learn(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{k.config, k.folder(), filepath.Join(k.folder(), fileOf(c.Server))} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != nobody || st.Gid != nobody || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is of %d:%d with mode %v", path, st.Uid, st.Gid, info.Mode())
		}
	}
	// A folder of root's by a link.
	if err := os.RemoveAll(k.config); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, k.config); err != nil {
		t.Fatal(err)
	}
	if err := learn(); err == nil {
		t.Error("root wrote where the user may not")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
	// The thread that acted as the user is gone: this process is root everywhere.
	for range 50 {
		if err := os.WriteFile(filepath.Join(outside, "root"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What sudo would say does not count for who is not root, and must name a user that there is.
	if _, _, ok := sudoKeyring(stdWith(map[string]string{"SUDO_UID": "4000000000"})); ok {
		t.Error("a user that there is not")
	}
	if _, _, ok := sudoKeyring(stdWith(map[string]string{"SUDO_UID": "65534", "SUDO_USER": "somebody-else"})); ok {
		t.Error("another user's name")
	}
	if _, _, ok := sudoKeyring(stdWith(map[string]string{"SUDO_UID": "0", "SUDO_USER": "root"})); ok {
		t.Error("root is behind root")
	}
}

// A login link is for a person's eyes: not for a pipe, a file or a buffer.
func TestTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if terminal(w) || terminal(file) || terminal(&bytes.Buffer{}) {
		t.Error("a pipe, a file or a buffer is taken for a terminal")
	}
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED in part: there are no terminals here: %v", err)
	}
	defer screen.Close()
	if !terminal(screen) {
		t.Error("a terminal is taken for none")
	}
}
