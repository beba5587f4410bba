package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/server"
	"github.com/tiphys/tiphys/server/gate"
)

// credential is what the command line remembers of one server: where it is, and what proves who one is there.
type credential struct {
	// Server is its address, as addressOf writes it.
	Server string `json:"server"`
	// Data is its data folder, if it is on this machine.
	Data string `json:"data,omitempty"`
	// Token is sent with every request.
	Token string `json:"token"`
	// Git is a token that is worth only Git, and GitID its id; empty until "tiphys login" made it.
	Git   string `json:"git,omitempty"`
	GitID string `json:"gitID,omitempty"`
}

// addressOf is the one way to write a server's address: scheme, host and port. All names of loopback are one server's.
func addressOf(raw string) (string, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("server address %q: write http://HOST:PORT or https://HOST:PORT", raw)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if gate.LoopbackHost(host) || host == server.LocalName {
		host = "localhost"
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port), nil
}

// keyring is the folder where the command line of one user keeps credentials, one file for each server.
type keyring struct {
	// config is the folder that programs of the user keep their settings in.
	config string
	// uid is the user.
	uid int
}

// ownKeyring is that of the user who runs this process.
func ownKeyring(std IO) (keyring, error) {
	uid := os.Geteuid()
	if config := std.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(config) {
		return keyring{config, uid}, nil
	}
	home := std.Getenv("HOME")
	if !ownedBy(home, uid) {
		// sudo may leave HOME as it was.
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && u.HomeDir != "" {
			home = u.HomeDir
		}
	}
	if !filepath.IsAbs(home) {
		return keyring{}, errors.New("this user has no home folder: set HOME or XDG_CONFIG_HOME")
	}
	return keyring{filepath.Join(home, ".config"), uid}, nil
}

func ownedBy(path string, uid int) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

// sudoKeyring is that of the user who ran this process by sudo; false if there is none. What sudo says of itself counts for root only.
func sudoKeyring(std IO) (_ keyring, gid int, ok bool) {
	uid, err := strconv.Atoi(std.Getenv("SUDO_UID"))
	if err != nil || uid <= 0 || os.Geteuid() != 0 {
		return keyring{}, 0, false
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil || u.Username != std.Getenv("SUDO_USER") || !filepath.IsAbs(u.HomeDir) {
		return keyring{}, 0, false
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return keyring{}, 0, false
	}
	return keyring{filepath.Join(u.HomeDir, ".config"), uid}, gid, true
}

// folder is where the files are.
func (k keyring) folder() string { return filepath.Join(k.config, "tiphys") }

// fileOf is the name of a server's file.
func fileOf(address string) string {
	return strings.ReplaceAll(url.PathEscape(strings.Replace(address, "://", "_", 1)), "%5B", "[") + ".json"
}

// maxCredential bounds what is read of a file, in bytes.
const maxCredential = 16 << 10

// find gives what is known of a server; nothing if nothing is. A file that others may read is refused: whoever has read it has the token.
func (k keyring) find(address string) (credential, error) {
	var c credential
	path := filepath.Join(k.folder(), fileOf(address))
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) //nolint:gosec // the user's own folder
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read credential: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return c, fmt.Errorf("read credential: %w", err)
	case !info.Mode().IsRegular():
		return c, fmt.Errorf("read credential %s: it is not a file", path)
	case info.Mode().Perm()&0o077 != 0:
		return c, fmt.Errorf("read credential %s: others may read it (mode %04o); remove it, and run tiphys login", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxCredential))
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return credential{}, fmt.Errorf("read credential %s: %w", path, err)
	}
	if c.Server != address {
		return credential{}, fmt.Errorf("read credential %s: it is of %q", path, c.Server)
	}
	return c, nil
}

// keep remembers a credential in the place of what was known of its server. The file is its owner's alone and is there whole or not at all.
func (k keyring) keep(c credential) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(k.folder(), 0o700); err != nil {
		return fmt.Errorf("keep credential: %w", err)
	}
	// The folder may be there from before with other rights.
	if err := os.Chmod(k.folder(), 0o700); err != nil { //nolint:gosec // a folder
		return fmt.Errorf("keep credential: %w", err)
	}
	if err := protocol.WriteFile(filepath.Join(k.folder(), fileOf(c.Server)), append(raw, '\n'), true); err != nil {
		return fmt.Errorf("keep credential: %w", err)
	}
	return nil
}

// learn keeps where a server is and its token, and what is known of it beside, as long as it is the same server with the same token.
func (k keyring) learn(c credential) error {
	known, err := k.find(c.Server)
	if err == nil && known.Token == c.Token {
		c.Git, c.GitID, c.Data = known.Git, known.GitID, cmp.Or(c.Data, known.Data)
	}
	if err == nil && known == c {
		return nil
	}
	return k.keep(c)
}

// asUser does something with files as another user does: the kernel asks for that user's rights, so that no link of theirs leads to where they may
// not go, and what is made is theirs. It needs root. It has a thread of its own, which ends with it.
func asUser(uid, gid int, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: nobody else gets a thread with these rights
		if err := unix.Setfsgid(gid); err != nil {
			done <- err
			return
		}
		if err := unix.Setfsuid(uid); err != nil {
			done <- err
			return
		}
		// The call itself never says that it was refused.
		if now, err := unix.SetfsuidRetUid(-1); err != nil || now != uid {
			done <- fmt.Errorf("act as user %d: refused", uid)
			return
		}
		done <- do()
	}()
	return <-done
}

// terminal says whether a person reads what is written there: no log and no other program.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// noted is a user who was told the token of a server.
type noted struct {
	// Folder is where it is kept.
	Folder string
	Err    error
}

// note keeps a server's credential for the user who started it, and for the one behind sudo.
func note(std IO, c credential) []noted {
	var all []noted
	own, err := ownKeyring(std)
	if err == nil {
		err = own.learn(c)
	}
	all = append(all, noted{own.folder(), err})
	if k, gid, ok := sudoKeyring(std); ok {
		all = append(all, noted{k.folder(), asUser(k.uid, gid, func() error { return k.learn(c) })})
	}
	return all
}

// hidden are the folders of credentials that steps must not see.
func hidden(std IO) []string {
	var all []string
	if own, err := ownKeyring(std); err == nil {
		all = append(all, own.folder())
	}
	if k, _, ok := sudoKeyring(std); ok {
		all = append(all, k.folder())
	}
	return all
}
