package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// person is a user of this machine who is not root, with a folder, a program and an image.
type person struct {
	t            *testing.T
	uid          int
	home, tiphys string
	// ids are those that newuidmap gives; none if 0.
	ids int
}

// probe is what the image has: it says who it is and what network it has, and waits where it is told to.
const probe = `package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	links, _ := net.Interfaces()
	fmt.Println("I am", os.Getuid(), "with", len(links), "links")
	if _, err := os.Stat("/folder/gone"); err == nil {
		fmt.Println("what a layer removed is there")
	}
	if list, err := os.ReadDir("/folder/opaque"); err != nil || len(list) != 1 {
		fmt.Println("the folder that a layer made anew has", len(list), err)
	}
	if len(os.Args) > 1 {
		wait, _ := time.ParseDuration(os.Args[1])
		time.Sleep(wait)
	}
	if err := os.WriteFile("/tmp/out", []byte("done"), 0o600); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
`

func newPerson(t *testing.T, uid, ids int) *person {
	t.Helper()
	program, err := filepath.Abs(options(t).Tiphys)
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, uid: uid, ids: ids, home: t.TempDir()}
	if err := os.Chmod(filepath.Dir(p.home), 0o755); err != nil {
		t.Fatal(err)
	}
	p.tiphys = filepath.Join(t.TempDir(), "tiphys")
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(p.tiphys, data, 0o755)
	}
	if err == nil {
		err = os.Chown(p.home, uid, uid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// command is one of the program, as the person would call it.
func (p *person) command(args ...string) *exec.Cmd {
	p.t.Helper()
	name := p.tiphys
	if p.ids > 0 {
		list := filepath.Join(p.t.TempDir(), "ids")
		if err := os.WriteFile(list, fmt.Appendf(nil, "%d:3000000000:%d\n", p.uid, p.ids), 0o644); err != nil {
			p.t.Fatal(err)
		}
		const script = `mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && user=$2 && shift 2 && exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"`
		name, args = "unshare", append([]string{"-m", "sh", "-ec", script, "sh", list, fmt.Sprint(p.uid), p.tiphys}, args...)
	}
	cmd := exec.CommandContext(p.t.Context(), name, args...)
	cmd.Dir = p.home
	cmd.Env = []string{"HOME=" + p.home, "PATH=" + os.Getenv("PATH")}
	if p.ids == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.uid)}}
	}
	return cmd
}

// write makes a file in the person's home.
func (p *person) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.home, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// image is two layers with the probe, of which the second removes a file of the first and makes a folder anew. user is who its process is.
func image(t *testing.T, user string) v1.Image {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(probe), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(dir, "probe"), filepath.Join(dir, "main.go"))
	program, err := os.ReadFile(filepath.Join(dir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	below := []tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, {Name: "folder/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "folder/gone", Mode: 0o644, Uid: 1000},
		{Name: "folder/opaque/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "folder/opaque/old", Mode: 0o644}, {Name: "probe", Mode: 0o755, Size: int64(len(program))},
	}
	above := []tar.Header{
		{Name: "folder/.wh.gone", Mode: 0o644}, {Name: "folder/opaque/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "folder/opaque/.wh..wh..opq", Mode: 0o644},
		{Name: "folder/opaque/new", Mode: 0o644, Uid: 1000, Gid: 1000},
	}
	made, err := mutate.AppendLayers(empty.Image, layer(t, below, program), layer(t, above, nil))
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.User, config.Config.Entrypoint = user, []string{"/probe"}
	if made, err = mutate.ConfigFile(made, config); err != nil {
		t.Fatal(err)
	}
	return made
}

// layer has files without content, but for the last, which has that of program.
func layer(t *testing.T, files []tar.Header, program []byte) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range files {
		if err := w.WriteHeader(&files[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func pushImage(t *testing.T, at string, made v1.Image, o ...remote.Option) {
	t.Helper()
	ref, err := name.ParseReference(at, name.Insecure)
	if err == nil {
		err = remote.Write(ref, made, o...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func oneStep(image, executor string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: one, annotations: {tiphys.dev/executor: %s}}
spec:
  entrypoint: main
  templates:
  - name: main
    outputs: {parameters: [{name: out, valueFrom: {path: /tmp/out}}]}
    %s
`, executor, image)
}

// A user who is not root runs steps in containers and in views of this machine. Without newuidmap root is the only user that there is, which an
// image whose process is another one learns; with it there are others.
func TestRunWithoutRoot(t *testing.T) {
	const nobodyElse, somebody = 54321, 2 // the second one is in /etc/passwd, as newuidmap wants it
	r := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer r.Close()
	host := strings.TrimPrefix(r.URL, "http://")
	options(t)
	pushImage(t, host+"/probe:root", image(t, ""))
	pushImage(t, host+"/probe:user", image(t, "1000"))
	container := func(tag string) string { return fmt.Sprintf(`container: {image: "%s/probe:%s"}`, host, tag) }
	view := `container: {image: none, command: [sh, -ec], args: ["id -u; ls /usr/bin >/dev/null; touch /mine /usr/mine; echo done >/tmp/out; date >/dev/null"]}`
	for _, one := range []struct {
		title     string
		uid, ids  int
		step, way string
		phase     string
		says      string
	}{
		{"container", nobodyElse, 0, container("root"), "container", "Succeeded", "I am 0 with"},
		{"view of this machine", nobodyElse, 0, view, "host", "Succeeded", ""},
		{"container of another user", nobodyElse, 0, container("user"), "container", "Failed", "there is no user or group 1000"},
		{"container of another user, with ids", somebody, 65536, container("user"), "container", "Succeeded", "I am 1000 with"},
		{"view of this machine, with ids", somebody, 65536, view, "host", "Succeeded", ""},
	} {
		t.Run(one.title, func(t *testing.T) {
			if one.ids > 0 {
				needProgram(t, "newuidmap")
			}
			p := newPerson(t, one.uid, one.ids)
			p.write("one.yaml", oneStep(one.step, one.way))
			cmd := p.command("run", "one.yaml")
			out, err := cmd.CombinedOutput()
			text := string(out)
			if (err == nil) != (one.phase == "Succeeded") || !strings.Contains(text, one.says) || !strings.Contains(text, "Status:     "+one.phase) {
				t.Errorf("%v\n%s", err, text)
			}
			if strings.Contains(text, "a layer") {
				t.Errorf("the layers are not as they should be:\n%s", text)
			}
			if _, err := os.Lstat("/usr/mine"); err == nil {
				t.Error("a view wrote to this machine")
			}
		})
	}
}

func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED: %s is not there; make test-e2e installs it", name)
	}
}

// A user who is not root runs a server: its pods have users and a network of their own, and outlive it; the next server finds them in the same
// namespaces, and nothing is left in the end.
func TestServeWithoutRoot(t *testing.T) {
	options(t)
	needProgram(t, "newuidmap")
	needProgram(t, "pasta")
	p := newPerson(t, 2, 65536)
	data := filepath.Join(p.home, "data")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	_ = l.Close()
	said := &bytes.Buffer{}
	var server *exec.Cmd
	begin := func() {
		t.Helper()
		server = p.command("serve", "--data", data, "--listen", listen)
		server.Stdout, server.Stderr = said, said
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, "the server answers", func() error {
			return once(t.Context(), http.DefaultClient, "http://"+listen, "localhost", "/healthz")
		})
	}
	defer func() {
		if t.Failed() {
			_ = server.Process.Kill()
			_ = server.Wait()
			t.Log(said)
		}
	}()
	begin()
	token, err := os.ReadFile(filepath.Join(data, "keys", "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	pushImage(t, listen+"/probe:1", image(t, "1000"), remote.WithAuth(&authn.Basic{Username: "admin", Password: strings.TrimSpace(string(token))}))
	_, port, _ := net.SplitHostPort(listen)
	p.write("one.yaml", oneStep(fmt.Sprintf(`container: {image: "localhost:%s/probe:1", args: [3s]}`, port), "container"))
	if out, err := p.command("submit", "one.yaml", "--server", "http://"+listen).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	get := func() (phase string, attempts int) {
		out, err := p.command("get", "one", "--server", "http://"+listen, "-o", "json").Output()
		var w struct {
			Status struct {
				Phase string
				Nodes map[string]json.RawMessage
			}
		}
		if err == nil {
			err = json.Unmarshal(out, &w)
		}
		if err != nil {
			t.Log(err)
		}
		return w.Status.Phase, len(w.Status.Nodes)
	}
	lines := func() string {
		out, _ := p.command("logs", "one", "--server", "http://"+listen).CombinedOutput()
		return string(out)
	}
	wait(t, "the step speaks", func() error {
		if text := lines(); !strings.Contains(text, "I am 1000 with 2 links") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
	_ = server.Process.Kill() // and the server in its namespace ends with it
	_ = server.Wait()
	begin()
	wait(t, "the run ends", func() error {
		if phase, _ := get(); phase != "Succeeded" {
			return fmt.Errorf("it is %q", phase)
		}
		return nil
	})
	if n := strings.Count(lines(), "I am"); n != 1 {
		t.Errorf("the step ran %d times", n)
	}
	if out, err := p.command("down", "--data", data).CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
	_ = server.Wait()
	if left, err := os.ReadDir(filepath.Join(data, "rootless")); err != nil || len(left) > 0 {
		t.Errorf("the namespaces are still noted: %v %v", left, err)
	}
}

// wait tries until something holds, for half a minute at most.
func wait(t *testing.T, what string, holds func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within 30 s: %v", what, err)
		case <-tick.C:
		}
	}
}
