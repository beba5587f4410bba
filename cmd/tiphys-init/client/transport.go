package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// A step speaks to its server over one of two transports, which TIPHYS_SERVER chooses: the socket in the pod
// (unix:///path), or HTTPS (https://host[:port]) where executor and server are not on one machine. Over either the step
// is who its token says.

// transport is a way to the server.
type transport struct {
	network, address string
	// host is what the Host header says, and the name that the server's certificate has to have.
	host string
	// secure says that the connection is encrypted and the server proves its name.
	secure bool
}

// transport reads TIPHYS_SERVER.
func (c *client) transport() (transport, error) {
	server := c.sys.getenv("TIPHYS_SERVER")
	if server == "" {
		server = defaultServer
	}
	if path, ok := strings.CutPrefix(server, "unix://"); ok && path != "" {
		return transport{network: "unix", address: path, host: "localhost"}, nil
	}
	t := transport{network: "tcp"}
	port := "80"
	if host, ok := strings.CutPrefix(server, "https://"); ok {
		t.host, t.secure, port = host, true, "443"
	} else if host, ok := strings.CutPrefix(server, "http://"); ok {
		t.host = host
	}
	t.host = strings.TrimSuffix(t.host, "/")
	if t.host == "" || strings.ContainsAny(t.host, "/@?#") {
		return t, usagef("TIPHYS_SERVER is %q; expected unix:///path, https://host:port or http://host:port", server)
	}
	if t.secure && !canSecure {
		return t, usagef("TIPHYS_SERVER is %q, and this build of tiphys speaks through the pod's socket; one built with -tags https speaks to it", server)
	}
	t.address = t.host
	if _, _, err := net.SplitHostPort(t.host); err != nil {
		t.address = net.JoinHostPort(strings.Trim(t.host, "[]"), port)
	}
	return t, nil
}

// dial opens a connection. errAway says that it may be had later.
func (t transport) dial(ctx context.Context, limit time.Duration, caFile string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: min(limit, 10*time.Second)}
	raw, err := dialer.DialContext(ctx, t.network, t.address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	if !t.secure {
		return raw, nil
	}
	name, _, err := net.SplitHostPort(t.address)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, dialer.Timeout)
	defer cancel()
	conn, err := secure(ctx, raw, name, caFile)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// tokenLimit is the longest token file, in bytes.
const tokenLimit = 64 << 10

// token is the step's identity: the content of TIPHYS_TOKEN_FILE, which whoever put it there may replace by a fresh one, or
// TIPHYS_TOKEN.
func (c *client) token() (string, error) {
	token := c.sys.getenv("TIPHYS_TOKEN")
	if path := c.sys.getenv("TIPHYS_TOKEN_FILE"); path != "" {
		f, err := os.Open(path) //nolint:gosec // the pod's own environment names it
		if err != nil {
			return "", usagef("TIPHYS_TOKEN_FILE: %v", err)
		}
		defer func() { _ = f.Close() }()
		data, err := io.ReadAll(io.LimitReader(f, tokenLimit))
		if err != nil {
			return "", usagef("TIPHYS_TOKEN_FILE: %v", err)
		}
		token = strings.TrimSpace(string(data))
	}
	if strings.ContainsAny(token, "\r\n") {
		return "", usagef("the token has line breaks")
	}
	return token, nil
}
