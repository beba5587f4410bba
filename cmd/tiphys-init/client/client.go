// Package client is what a step runs as "tiphys": it packs images, records releases, sets statuses, writes comments
// and moves artifacts, outputs and logs, with the step's own token. It imports the standard library only, and not net/http,
// which would double the small binary that every step carries; TLS is in builds with the tag https alone.
//
// # The contract with the server
//
// The server is at TIPHYS_SERVER, by default unix:///run/tiphys/api.sock: HTTP/1.1 over that socket, over TLS with
// https://host:port, or over TCP with http://host:port. Every request has "Authorization: Bearer $TIPHYS_TOKEN" and closes its connection. A request
// that changes something has an Idempotency-Key of 64 hex digits, which stays the same when the client repeats it
// because the connection broke or the server answered 502, 503 or 504; the server answers a repeat as it answered
// the first. The key is made of token, command, arguments, a random number of this process, and the ordinal of the
// request in it: a command that is given twice is done twice.
//
//	POST /api/v1/step/releases   {"name","images":{"SERVICE":"REF@sha256:…"},"commit"}
//	POST /api/v1/step/statuses   {"state","context","description","url","repo","sha"}
//	POST /api/v1/step/comments   {"marker","body","mr"}
//	PUT  /api/v1/step/artifacts/KEY      the content; answers {"key","digest","size"}
//	GET  /api/v1/step/artifacts/KEY      the content
//	GET  /api/v1/step/artifacts?prefix=  {"items":[{"key","digest","size","time"}]}
//	PUT  /api/v1/step/outputs/NAME       the value, with a Content-Digest (RFC 9530), as artifacts have one; GET gives it
//	GET  /api/v1/step/logs/CONTAINER/size             {"size"}: where to go on
//	POST /api/v1/step/logs/CONTAINER?offset=N         a piece of the log, with a Content-Digest; answers {"size"}. What the
//	                                     server has already is not added again; GET gives the log from an offset
//	GET  /api/v1/step                    {…}, which whoami prints
//	     /v2/NAME/…                      the registry, as the OCI distribution specification 1.1 says: HEAD of blobs,
//	                                     POST of whole blobs (?digest=), PUT of the manifest
//
// Fields without a value are left out. Any 2xx is success. Any other answer is an error: {"message","hint"}, or the
// registry's {"errors":[{"code","message"}]}, or text, is printed to standard error.
//
// Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
package client

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Exit codes of [Main].
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const defaultServer = "unix:///run/tiphys/api.sock"

const help = `tiphys: what a step can tell the server, and get from it.

  tiphys image pack --name REPO [--tag TAG] [flags] PATH
      Pack a folder or a static binary into an image and push it. The last line
      printed is REPO@sha256:….
        --entrypoint ARG  what the image executes; repeat for arguments
        --cmd ARG         default arguments; repeat
        --env NAME=VALUE  a variable; repeat
        --label NAME=VALUE, --port 8080/tcp   repeat
        --user USER, --workdir DIR, --arch ARCH
        --base scratch    the only base there is: nothing
        --output FILE     write REPO@sha256:… to FILE

  tiphys release NAME --image SERVICE=REF@DIGEST... [--commit SHA]
      Record which images belong together.

  tiphys status --state success|failed|pending|running --context NAME
                [--description TEXT] [--url URL] [--repo REPO] [--sha SHA]
      Set a status on the commit that this run is about.

  tiphys comment [--marker NAME] [--mr NUMBER] [--file FILE | TEXT]
      Comment on this run's merge request. A comment with the same marker is
      changed in place. FILE - is standard input.

  tiphys artifact put KEY FILE     keep a file (- is standard input)
  tiphys artifact get KEY [FILE]   fetch one, to standard output without FILE
  tiphys artifact ls [PREFIX]      list keys, sizes and digests

  tiphys output put NAME FILE      give the server an output parameter (- is standard input)
  tiphys output get NAME           print one that this step has given
  tiphys log push CONTAINER FILE   give the server what it does not have of a log

  tiphys whoami                    what this step's token is good for

The server is found by TIPHYS_SERVER and TIPHYS_TOKEN, which every step has;
over https TIPHYS_CA_FILE says who vouches for it. TIPHYS_TOKEN_FILE is a file
with the token instead.
If it is away, for a restart, commands wait for it: 2 minutes, or TIPHYS_TIMEOUT.

Exit code: 0 done, 1 refused or failed, 2 wrong usage.
`

// system is what the client needs of the world.
type system struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	// wait returns after d, or with an error when ctx is done.
	wait func(ctx context.Context, d time.Duration) error
}

// Main runs the client with the arguments after the program's name, and returns its exit code.
func Main(args []string) int {
	return run(context.Background(), args, system{
		getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now,
		wait: func(ctx context.Context, d time.Duration) error {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
}

// usageError is a command that cannot be meant as it is.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

var errHelp = errors.New("help is asked for")

func run(ctx context.Context, args []string, sys system) int {
	c := &client{sys: sys, args: args}
	err := c.dispatch(ctx, args)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errHelp):
		_, _ = io.WriteString(sys.stdout, help)
		return exitOK
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(sys.stderr, "tiphys: %s\nRun \"tiphys --help\" for what there is.\n", usage.text)
		return exitUsage
	}
	_, _ = fmt.Fprintf(sys.stderr, "tiphys: %s\n", err)
	return exitFailed
}

func (c *client) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usagef("a command is missing")
	}
	name, rest := args[0], args[1:]
	if name == "image" || name == "artifact" || name == "output" || name == "log" {
		if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			name, rest = name+" "+rest[0], rest[1:]
		}
	}
	commands := map[string]func(context.Context, []string) error{
		"image pack": c.imagePack, "release": c.release, "status": c.status, "comment": c.comment,
		"artifact put": c.artifactPut, "artifact get": c.artifactGet, "artifact ls": c.artifactList, "whoami": c.whoami,
		"output put": c.outputPut, "output get": c.outputGet, "log push": c.logPush,
	}
	if command := commands[name]; command != nil {
		return command(ctx, rest)
	}
	for _, a := range args {
		if a == "--help" || a == "-h" || a == "help" {
			return errHelp
		}
	}
	return usagef("there is no command %q", name)
}

// parse reads flags wherever they stand, and returns the other arguments: at least least and at most most.
func parse(fs *flag.FlagSet, args []string, least, most int, what string) ([]string, error) {
	fs.SetOutput(io.Discard)
	var rest []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			return nil, errHelp
		}
		if err != nil {
			return nil, usagef("%s: %s", fs.Name(), err)
		}
		ended := len(args) > fs.NArg() && args[len(args)-fs.NArg()-1] == "--"
		if fs.NArg() == 0 {
			break
		}
		if ended {
			rest = append(rest, fs.Args()...)
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	if len(rest) < least || len(rest) > most {
		return nil, usagef("%s: expected %s", fs.Name(), what)
	}
	return rest, nil
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

// timeout is how long the server may be away.
func (c *client) timeout() (time.Duration, error) {
	v := c.sys.getenv("TIPHYS_TIMEOUT")
	if v == "" {
		return 2 * time.Minute, nil
	}
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, usagef("TIPHYS_TIMEOUT is %q; expected a duration such as 90s", v)
	}
	return d, nil
}
