package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/image/pack"
	"github.com/tiphys/tiphys/backup/folder"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/control/sweep"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
)

// gitIn runs git in a folder and gives what it printed.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=ada", "GIT_AUTHOR_EMAIL=ada@x", "GIT_COMMITTER_NAME=ada", "GIT_COMMITTER_EMAIL=ada@x")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// clerk is a server with something of everything that a backup has.
type clerk struct {
	*Server
	data string
	// work is a checkout of its repository, first and second its two commits; no branch leads to the first any more.
	work, first, second string
	image               string
}

func openClerk(t *testing.T) *clerk {
	t.Helper()
	c := &clerk{data: filepath.Join(t.TempDir(), "data"), work: t.TempDir()}
	c.Server = opened(t, Options{Data: c.data, Network: local.Network{Disabled: true}})
	put(t, c.Server, "runs/a/log", "what was logged")
	put(t, c.Server, "runs/a", "a key above a key")
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := c.machine.Images.Pack(t.Context(), "shop/api", "v1", pack.Options{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	c.image = made
	for _, name := range []string{"harbour", "harbour/quay", "empty"} {
		if _, err := c.remote.CreateRepository(t.Context(), forge.Actor{Name: "user:ada"}, forge.Repository{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	gitIn(t, c.work, "init", "-q", "-b", "main")
	gitIn(t, c.work, "commit", "-q", "--allow-empty", "-m", "first")
	c.first = gitIn(t, c.work, "rev-parse", "HEAD")
	c.push(t)
	gitIn(t, c.work, "commit", "-q", "--amend", "--allow-empty", "-m", "second")
	c.second = gitIn(t, c.work, "rev-parse", "HEAD")
	c.push(t)
	gitIn(t, c.work, "push", "-q", filepath.Join(c.data, "git", "harbour/quay.git"), "HEAD:refs/heads/main", "HEAD:refs/tags/v1")
	if err := c.remote.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *clerk) push(t *testing.T) {
	t.Helper()
	gitIn(t, c.work, "push", "-q", "-f", filepath.Join(c.data, "git", "harbour.git"), "HEAD:main")
	if err := c.remote.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// backUp writes a backup with its keys beside, and gives its folder.
func (c *clerk) backUp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sum, err := Backup(t.Context(), folder.BackupOptions{Data: c.data, File: filepath.Join(dir, "b"), KeysFile: filepath.Join(dir, "k"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyBackup(t.Context(), filepath.Join(dir, "b")); err != nil || sum.Manifest.Head.Seq == 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	for _, name := range []string{"b", "k"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("it left %v, %v", entries, err)
	}
	return dir
}

func restoreOf(dir, data string) folder.RestoreOptions {
	return folder.RestoreOptions{File: filepath.Join(dir, "b"), KeysFile: filepath.Join(dir, "k"), Data: data, Actor: "user:ada", Now: time.Now}
}

// What was there at the time of the backup is there again, and nothing of what came later. The restored server is held.
func TestRestoredServer(t *testing.T) {
	c := openClerk(t)
	sealed := c.box.Seal(secret.New("swordfish"), "here")
	dir := c.backUp(t)

	gitIn(t, c.work, "commit", "-q", "--allow-empty", "-m", "third")
	c.push(t)
	put(t, c.Server, "runs/late", "later")
	if err := c.machine.Artifacts.Delete(t.Context(), "runs/a"); err != nil {
		t.Fatal(err)
	}

	data := filepath.Join(t.TempDir(), "deep", "again")
	done, err := Restore(t.Context(), restoreOf(dir, data))
	if err != nil || !done.State.Held || done.State.Epoch == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	s := opened(t, Options{Data: data, Network: local.Network{Disabled: true}})
	if st := s.hold.State(); !st.Held || st.Epoch != done.State.Epoch || st.Restored.Head != done.Manifest.Head {
		t.Errorf("held: %+v", st)
	}
	for key, want := range map[string]string{"runs/a/log": "what was logged", "runs/a": "a key above a key"} {
		r, _, err := s.machine.Artifacts.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", key, got, err)
		}
		_ = r.Close()
	}
	if _, err := s.machine.Artifacts.Stat(t.Context(), "runs/late"); err == nil {
		if _, _, err := s.machine.Artifacts.Get(t.Context(), "runs/late"); !errors.Is(err, artifact.ErrNotFound) {
			t.Errorf("what came later: %v", err)
		}
	}
	if m, err := s.machine.Images.Resolve("shop/api", "v1"); err != nil || m.Digest != c.image {
		t.Errorf("image: %v, %v", m.Digest, err)
	}
	harbour, quay := filepath.Join(data, "git", "harbour.git"), filepath.Join(data, "git", "harbour", "quay.git")
	if got := gitIn(t, harbour, "rev-parse", "main"); got != c.second {
		t.Errorf("main is at %s and not at %s", got, c.second)
	}
	if got := gitIn(t, quay, "rev-parse", "v1"); got != c.second {
		t.Errorf("v1 is at %s", got)
	}
	gitIn(t, harbour, "cat-file", "commit", c.first) // an event may be replayed to it
	gitIn(t, harbour, "fsck", "--strict")
	if value, err := s.box.Open(sealed, "here"); err != nil || value.Reveal() != "swordfish" {
		t.Errorf("secrets: %v", err)
	}
	head := func() int64 {
		e, err := s.machine.Ledger.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return e.Seq
	}
	before := head()
	if before != done.Manifest.Head.Seq+1 {
		t.Errorf("the restored ledger ends with %d, and the backup with %d", before, done.Manifest.Head.Seq)
	}
	if rep, err := s.machine.Ledger.Verify(t.Context(), ledger.Check{Storage: true, Rows: true}); err != nil || !rep.Whole() {
		t.Errorf("%+v, %v", rep, err)
	}
	if _, err := s.hold.Release(t.Context(), "user:ada", nil); err != nil {
		t.Fatal(err)
	}
	// Repositories and ledger are at one: there is nothing to make up for.
	before = head()
	if err := s.remote.Reconcile(t.Context()); err != nil || head() != before {
		t.Errorf("comparing Git with the ledger recorded %d entries, %v", head()-before, err)
	}
}

// A held server answers what reads, and refuses what changes something, to be tried again later.
func TestHeldServerRefuses(t *testing.T) {
	dir := openClerk(t).backUp(t)
	data := filepath.Join(t.TempDir(), "again")
	if _, err := Restore(t.Context(), restoreOf(dir, data)); err != nil {
		t.Fatal(err)
	}
	s := opened(t, Options{Data: data, Network: local.Network{Disabled: true}})
	if err := s.services.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.services.Stop()
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:9"
		r.Header.Set("Authorization", "Bearer "+s.o.Token.Reveal())
		w := httptest.NewRecorder()
		s.port.Handler().ServeHTTP(w, r)
		return w
	}
	for _, one := range []struct{ method, path string }{
		{"GET", "/api/v1/runs"}, {"GET", "/api/v1/restore"}, {"GET", "/readyz"}, {"GET", "/git/harbour.git/info/refs?service=git-upload-pack"}, {"GET", "/v2/"},
		{"GET", "/api/v1/restore?kind=run"}, {"GET", "/api/v1/restore?kind=application"},
	} {
		if got := ask(one.method, one.path, ""); got.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", one.method, one.path, got.Code, got.Body)
		}
	}
	for _, one := range []struct{ method, path string }{
		{"POST", "/api/v1/workflows/default"}, {"POST", "/webhooks/default/git/x"}, {"GET", "/webhooks/default/git/x"}, {"PUT", "/api/v1/workflows/default/a/stop"},
		{"DELETE", "/api/v1/definitions/ConfigMap/default/a"}, {"GET", "/git/harbour.git/info/refs?service=git-receive-pack"}, {"POST", "/git/harbour.git/git-receive-pack"},
		{"PUT", "/v2/shop/api/manifests/v1"}, {"POST", "/api/v1/mrs/harbour"}, {"POST", "/api/v1/apps/default/a/sync"}, {"POST", "/api/v1/events/x/replay"},
	} {
		got := ask(one.method, one.path, "{}")
		if got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" || !strings.Contains(got.Body.String(), "tiphys restore --plan") {
			t.Errorf("%s %s: %d %v %s", one.method, one.path, got.Code, got.Header(), got.Body)
		}
	}
	if got := ask("GET", "/readyz", "").Body.String(); !strings.HasPrefix(got, "ready, and held since ") {
		t.Errorf("ready: %s", got)
	}
	if s.recording.Shown() == "" {
		t.Error("the screens do not say that the server is held")
	}
	if got := ask("POST", "/api/v1/restore", `{"skip":["walk"]}`); got.Code != http.StatusBadRequest || !s.hold.State().Held {
		t.Errorf("a wrong release: %d %s", got.Code, got.Body)
	}
	if got := ask("POST", "/api/v1/restore", `{}`); got.Code != http.StatusOK {
		t.Errorf("release: %d %s", got.Code, got.Body)
	}
	if got := ask("POST", "/api/v1/mrs/harbour", "{}"); got.Code == http.StatusServiceUnavailable {
		t.Errorf("released: %d %s", got.Code, got.Body)
	}
	if got := ask("POST", "/api/v1/restore", `{}`); got.Code != http.StatusConflict {
		t.Errorf("released twice: %d %s", got.Code, got.Body)
	}
}

// Whatever keeps a restore from its end leaves nothing behind.
func TestRefusedRestoreLeavesNothing(t *testing.T) {
	dir := openClerk(t).backUp(t)
	raw, err := os.ReadFile(filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	other := openClerk(t).backUp(t)
	write := func(name string, text []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := append([]byte(nil), raw...)
	bad[len(bad)/2] ^= 1
	for name, change := range map[string]func(*folder.RestoreOptions){
		"cut":         func(o *folder.RestoreOptions) { o.File = write("b", raw[:len(raw)-9]) },
		"changed":     func(o *folder.RestoreOptions) { o.File = write("b", bad) },
		"no archive":  func(o *folder.RestoreOptions) { o.File = write("b", []byte("hello")) },
		"not there":   func(o *folder.RestoreOptions) { o.File = filepath.Join(t.TempDir(), "b") },
		"no keys":     func(o *folder.RestoreOptions) { o.KeysFile = "" },
		"others' key": func(o *folder.RestoreOptions) { o.KeysFile = filepath.Join(other, "k") },
		"no identity": func(o *folder.RestoreOptions) { o.KeysFile, o.Identity = "", filepath.Join(dir, "k") },
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			o := restoreOf(dir, filepath.Join(parent, "again"))
			change(&o)
			if _, err := Restore(t.Context(), o); err == nil {
				t.Error("it was restored")
			}
			if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
				t.Errorf("it left %v, %v", entries, err)
			}
		})
	}
	t.Run("not empty", func(t *testing.T) {
		parent := t.TempDir()
		mine := filepath.Join(parent, "again", "mine")
		if err := errors.Join(os.Mkdir(filepath.Dir(mine), 0o700), os.WriteFile(mine, []byte("keep"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), restoreOf(dir, filepath.Dir(mine))); failure.KindOf(err) != failure.Conflict {
			t.Errorf("%v", err)
		}
		if text, err := os.ReadFile(mine); string(text) != "keep" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
			t.Errorf("it left %v, %v", entries, err)
		}
	})
	t.Run("others' folder in the way", func(t *testing.T) {
		data := filepath.Join(t.TempDir(), "again")
		mine := filepath.Join(data+".restoring", "mine")
		if err := errors.Join(os.Mkdir(filepath.Dir(mine), 0o700), os.WriteFile(mine, []byte("keep"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), restoreOf(dir, data)); failure.KindOf(err) != failure.Conflict {
			t.Errorf("%v", err)
		}
		if text, err := os.ReadFile(mine); string(text) != "keep" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// Keys that are encrypted in the backup open with the identity, and are nowhere else.
func TestKeysInTheBackup(t *testing.T) {
	c := openClerk(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	identity := filepath.Join(dir, "identity")
	if err := os.WriteFile(identity, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "b")
	if _, err := Backup(t.Context(), folder.BackupOptions{Data: c.data, File: file, Recipients: []age.Recipient{id.Recipient()}, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "again")
	o := folder.RestoreOptions{File: file, Data: data, Actor: "user:ada", Now: time.Now}
	if _, err := Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--identity") {
		t.Errorf("without the identity: %v", err)
	}
	o.Identity = identity
	if _, err := Restore(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"keys/secrets.key", "keys/steps.key", "keys/digests.key", "ledger.key"} {
		was, err := os.ReadFile(filepath.Join(c.data, name))
		is, err2 := os.ReadFile(filepath.Join(data, name))
		if err := errors.Join(err, err2); err != nil || string(was) != string(is) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o.Identity, o.WithoutKeys, o.Data = "", true, filepath.Join(dir, "bare")
	if done, err := Restore(t.Context(), o); err != nil || !done.WithoutKeys || !done.State.Restored.WithoutKeys {
		t.Errorf("without keys: %+v, %v", done, err)
	}
}

func TestBackupWritesOverNothing(t *testing.T) {
	c := openClerk(t)
	dir := c.backUp(t)
	o := folder.BackupOptions{Data: c.data, File: filepath.Join(dir, "b"), KeysFile: filepath.Join(dir, "k2"), Now: time.Now}
	if _, err := Backup(t.Context(), o); failure.KindOf(err) != failure.Conflict {
		t.Errorf("the archive is there: %v", err)
	}
	other := openClerk(t).backUp(t)
	o.File, o.KeysFile = filepath.Join(dir, "b2"), filepath.Join(other, "k")
	if _, err := Backup(t.Context(), o); failure.KindOf(err) != failure.Conflict {
		t.Errorf("others' keys are there: %v", err)
	}
	o.KeysFile = filepath.Join(dir, "k") // the same keys
	if _, err := Backup(t.Context(), o); err != nil {
		t.Error(err)
	}
	o = folder.BackupOptions{Data: t.TempDir(), File: filepath.Join(dir, "b3"), WithoutKeys: true, Now: time.Now}
	if _, err := Backup(t.Context(), o); failure.KindOf(err) != failure.NotFound {
		t.Errorf("no data folder: %v", err)
	}
}

// While contents are copied no sweep removes any: what a name in the backup names is in it.
func TestSweepsWaitForBackups(t *testing.T) {
	late := &calendar{began: time.Now()}
	data, dir := t.TempDir(), t.TempDir()
	s := opened(t, Options{Data: data, Now: late.now, Network: local.Network{Disabled: true}})
	put(t, s, "runs/a", "named when the backup begins")
	sweeps := []sweep.Kind{sweep.Artifacts{Data: data, Store: s.machine.Artifacts}, sweep.Images{Data: data, Store: s.machine.Images}}
	all := func() (count int64) {
		for _, k := range sweeps {
			got, err := k.Sweep(context.WithoutCancel(t.Context()), late.now())
			if err != nil {
				t.Error(err)
			}
			count += got.Count
		}
		return count
	}
	_, err := Backup(t.Context(), folder.BackupOptions{Data: data, File: filepath.Join(dir, "b"), WithoutKeys: true, Now: time.Now, Fault: func(point string) {
		if point != "backup/git" {
			return
		}
		if err := s.machine.Artifacts.Delete(context.WithoutCancel(t.Context()), "runs/a"); err != nil {
			t.Error(err)
		}
		late.days.Store(3)
		if n := all(); n != 0 {
			t.Errorf("%d contents were swept while they were copied", n)
		}
	}})
	if err != nil {
		t.Error(err)
	}
	if n := all(); n != 1 {
		t.Errorf("after the backup %d contents were swept", n)
	}
}

// A run in the folder of a held server would go on with what is held: it is refused, and nothing is recorded.
func TestRunInAHeldFolder(t *testing.T) {
	dir := openClerk(t).backUp(t)
	data := filepath.Join(t.TempDir(), "again")
	if _, err := Restore(t.Context(), restoreOf(dir, data)); err != nil {
		t.Fatal(err)
	}
	m, err := OpenMachine(t.Context(), MachineOptions{Data: data, Network: local.Network{Disabled: true}})
	if !errors.Is(err, hold.ErrHeld) || !strings.Contains(failure.HintOf(err), "tiphys serve") {
		t.Errorf("%v", err)
		if err == nil {
			_ = m.Close()
		}
	}
}

// A ledger that was put into a folder by hand is older than the folder: its server does not start.
func TestLedgerOfAnotherEpoch(t *testing.T) {
	data := t.TempDir()
	if err := folder.CheckEpoch(data, hold.State{}); err != nil {
		t.Error(err)
	}
	if err := folder.CheckEpoch(data, hold.State{Epoch: 5}); err != nil { // the file is made
		t.Error(err)
	}
	if err := folder.CheckEpoch(data, hold.State{Epoch: 5}); err != nil {
		t.Error(err)
	}
	for _, other := range []int64{0, 4, 6} {
		if err := folder.CheckEpoch(data, hold.State{Epoch: other}); failure.KindOf(err) != failure.Stalled || failure.HintOf(err) == "" {
			t.Errorf("epoch %d: %v", other, err)
		}
	}
}
