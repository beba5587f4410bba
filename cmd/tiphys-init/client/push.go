package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/tiphys/tiphys/executor/protocol"
)

// outputPut gives the server an output parameter.
func (c *client) outputPut(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("output put", flag.ContinueOnError), args, 2, 2, "NAME and FILE, or NAME and -")
	if err != nil {
		return err
	}
	f, err := c.input(rest[1])
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	value, err := io.ReadAll(io.LimitReader(f, protocol.PushedOutputLimit+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", rest[1], err)
	}
	if len(value) > protocol.PushedOutputLimit {
		return fmt.Errorf("output %s has more than %d KiB: make it an artifact", rest[0], protocol.PushedOutputLimit>>10)
	}
	_, err = c.do(ctx, request{method: "PUT", path: "/api/v1/step/outputs/" + escape(rest[0]), body: bytes.NewReader(value), digest: true})
	return err
}

// outputGet prints an output parameter that this attempt has given.
func (c *client) outputGet(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("output get", flag.ContinueOnError), args, 1, 1, "one NAME")
	if err != nil {
		return err
	}
	answer, err := c.do(ctx, request{method: "GET", path: "/api/v1/step/outputs/" + escape(rest[0])})
	if err == nil {
		_, err = c.sys.stdout.Write(answer.body)
	}
	return err
}

// logPush gives the server what it does not have of a container's log.
func (c *client) logPush(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("log push", flag.ContinueOnError), args, 2, 2, "CONTAINER and FILE")
	if err != nil {
		return err
	}
	f, err := os.Open(rest[1]) //nolint:gosec // the user names it
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	path := "/api/v1/step/logs/" + escape(rest[0])
	// Whoever pushed before may have died at any moment: the server knows where to go on.
	at, err := c.logSize(ctx, request{method: "GET", path: path + "/size"})
	if err != nil {
		return err
	}
	piece := make([]byte, protocol.PushedPieceLimit)
	for {
		n, err := f.ReadAt(piece, at)
		if n == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", rest[1], err)
		}
		to := path + "?offset=" + strconv.FormatInt(at, 10)
		size, err := c.logSize(ctx, request{method: "POST", path: to, body: bytes.NewReader(piece[:n]), digest: true})
		if err != nil {
			return err
		}
		if size < at+int64(n) {
			return fmt.Errorf("the server has %d bytes of the log after it was sent %d", size, at+int64(n))
		}
		at += int64(n)
	}
}

// logSize makes a request that answers with the size of a log.
func (c *client) logSize(ctx context.Context, r request) (int64, error) {
	answer, err := c.do(ctx, r)
	if err != nil {
		return 0, err
	}
	var said struct {
		Size int64 `json:"size"`
	}
	if err := json.Unmarshal(answer.body, &said); err != nil {
		return 0, fmt.Errorf("read the server's answer: %w", err)
	}
	return said.Size, nil
}
