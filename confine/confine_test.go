package confine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/confine"
)

// TestMain lets the test binary be the confined process.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "__work" {
		if err := confine.Main(os.Stdin, os.Stdout, work); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "__serve" {
		if err := confine.Serve(os.Stdin, os.Stdout, serve()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// found is what a process that has been taken over could reach.
type found struct {
	Inside, Passwd, Above, Environment, Network, Write, Exec, Open string
	UID                                                            int
}

func said(err error) string {
	if err == nil {
		return "yes"
	}
	return "no"
}

// work tries what it must not be able to, by the system's calls: not by the folder's handle, which is careful of itself.
func work(root *os.Root, body []byte) (any, error) {
	var task struct{ Do, Secret string }
	if err := json.Unmarshal(body, &task); err != nil {
		return nil, err
	}
	switch task.Do {
	case "memory":
		text := "x"
		for len(text) > 0 {
			text += text
		}
	case "large":
		return touched(1 << 30), nil
	case "much":
		return touched(100 << 20), nil
	case "loop":
		for n := 0; n >= 0; n++ {
		}
	case "recursion":
		return deeper(1), nil
	case "answer":
		return strings.Repeat("x", 3<<20), nil
	}
	var f found
	inside, err := root.ReadFile("inside.txt")
	f.Inside = string(inside) + said(err)
	_, err = os.ReadFile("/etc/passwd")
	f.Passwd = said(err)
	_, err = os.ReadFile(task.Secret)
	f.Above = said(err)
	f.Environment = os.Getenv("CONFINE_TEST_SECRET")
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+strings.TrimPrefix(filepath.Ext(task.Secret), "."), time.Second)
	if f.Network = said(err); err == nil {
		_ = c.Close()
	}
	if f.Write = said(os.WriteFile("/made", []byte("x"), 0o600)); f.Write == "no" {
		f.Write = said(root.WriteFile("made", []byte("x"), 0o600))
	}
	f.Exec = said(exec.Command("/bin/sh", "-c", "true").Run())
	var files []*os.File
	for err = nil; err == nil && len(files) < 1000; {
		var file *os.File
		if file, err = root.Open("inside.txt"); err == nil {
			files = append(files, file)
		}
	}
	f.Open = said(err)
	f.UID = os.Getuid()
	return f, nil
}

// touched makes n bytes at once, uses each page of them, and gives n.
func touched(n int) int {
	made := make([]byte, n)
	for i := 0; i < n; i += 4 << 10 {
		made[i] = 1
	}
	return len(made)
}

// deeper ends only after more calls than fit anywhere.
func deeper(n int) int {
	if n == 1<<40 {
		return n
	}
	return deeper(n+1) + 1
}

func TestConfined(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: what a confined process can reach is not tested: that it can name nothing but its folder needs root")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("CONFINE_TEST_SECRET", "the secret")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	secret := filepath.Join(t.TempDir(), "secret."+port)
	dir := t.TempDir()
	for name, text := range map[string]string{secret: "secret", filepath.Join(dir, "inside.txt"): "inside "} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil { // the limit of file sizes, not a mode, keeps it from writing
		t.Fatal(err)
	}
	var got found
	isolated, err := child(true).Run(t.Context(), dir, map[string]string{"Secret": secret}, &got)
	if err != nil || !isolated {
		t.Fatal(err, isolated)
	}
	want := found{Inside: "inside yes", Passwd: "no", Above: "no", Network: "no", Write: "no", Exec: "no", Open: "no", UID: 65534}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-) got (+):\n%s", diff)
	}
}

func child(jail bool) confine.Child {
	if raced {
		return confine.Child{Command: []string{"/proc/self/exe", "__work"}, Timeout: 20 * time.Second, Memory: 4 << 30, Answer: 1 << 20, Jail: jail}
	}
	return confine.Child{Command: []string{"/proc/self/exe", "__work"}, Timeout: 10 * time.Second, Memory: 128 << 20, Answer: 1 << 20, Jail: jail}
}

func TestLimits(t *testing.T) {
	if raced {
		t.Skip("SKIPPED: limits are not tried under the race detector, whose own memory is more than they allow")
	}
	for do, want := range map[string]string{
		// The runtime ends in words or by a signal; both are told.
		"memory": "its limit of 128 MiB of memory", "large": "its limit of 128 MiB of memory", "recursion": "", "answer": "more than 1 MiB", "loop": "stopped after 300ms",
	} {
		c := child(false)
		if do == "loop" {
			c.Timeout = 300 * time.Millisecond
		}
		var got any
		_, err := c.Run(t.Context(), t.TempDir(), map[string]string{"Do": do}, &got)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", do, err, want)
		}
		var ended *confine.EndedError
		if own := do == "memory" || do == "large" || do == "recursion"; errors.As(err, &ended) != own {
			t.Errorf("%s: %v: it ended by itself: %t, want %t", do, err, !own, own)
		}
		if errors.Is(err, context.DeadlineExceeded) != (do == "loop") || errors.Is(err, confine.ErrTooLarge) != (do == "answer") {
			t.Errorf("%s: cannot tell what %v is", do, err)
		}
	}
	// What the program itself takes before its work is not counted.
	var got int
	if _, err := child(false).Run(t.Context(), t.TempDir(), map[string]string{"Do": "much"}, &got); err != nil || got != 100<<20 {
		t.Errorf("most of the memory: %d bytes, %v", got, err)
	}
}
