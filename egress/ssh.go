package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// SSH is the hidden command [SSHCommand]: it becomes ssh, with the arguments that git gave, and with a connection through the route of its
// environment. Where it goes is told by a variable, so that no shell reads a name that a manifest chose.
func SSH(ctx context.Context, args []string) error {
	at, err := destination(args)
	if err != nil {
		return err
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("find ssh: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	to, err := resolved(ctx, program, args[:at], args[at])
	if err != nil {
		return err
	}
	through := "ProxyCommand=" + strings.ReplaceAll(Quote(self), "%", "%%") + " " + ConnectCommand
	argv := slices.Concat([]string{"ssh", "-o", through, "-o", "ProxyUseFdpass=no"}, args)
	return syscall.Exec(program, argv, append(os.Environ(), variableTo+"="+to)) //nolint:gosec // git's own arguments for ssh
}

// destination finds the host among ssh's arguments as git gives them, and our own before them.
func destination(args []string) (int, error) {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-o" || arg == "-p" || arg == "-i" || arg == "-F" || arg == "-l":
			i++
		case arg == "-4" || arg == "-6" || arg == "-x" || arg == "-T":
		case strings.HasPrefix(arg, "-"):
			return 0, fmt.Errorf("ssh's option %s is not known here", arg)
		default:
			return i, nil
		}
	}
	return 0, errors.New("no host for ssh was given")
}

// resolved asks ssh where it would go: the configuration of whoever runs the server may say something else than the URL.
func resolved(ctx context.Context, program string, options []string, host string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, slices.Concat([]string{"-G"}, options, []string{"--", host})...) //nolint:gosec // git's own arguments for ssh
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask ssh for the host: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, twice := found[key]; !twice {
			found[key] = value
		}
	}
	if found["hostname"] == "" || found["port"] == "" {
		return "", errors.New("ask ssh for the host: it names none")
	}
	return net.JoinHostPort(found["hostname"], found["port"]), nil
}

// Connect is the hidden command [ConnectCommand], ssh's ProxyCommand: it carries in and out through the route of its environment.
func Connect(ctx context.Context, env func(string) string, in io.Reader, out io.Writer) error {
	through, err := url.Parse(env(variableProxy))
	if err != nil || through.Host == "" || through.User == nil {
		return errors.New("this command is for programs that the server started")
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", through.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	password, _ := through.User.Password()
	made, err := tunnel(conn, env(variableTo), through.User.Username(), password, http.Header{directHeader: {"1"}})
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(made, bufio.NewReader(in)) // ssh sees an error as the end of its connection
		if half, ok := made.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(out, made)
	return err
}
