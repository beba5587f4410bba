package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/server/api"
)

const (
	// logPause is between two tries to reach a server again, logPatience how long it is tried.
	logPause    = 250 * time.Millisecond
	logPatience = 5 * time.Minute
)

// remoteLog reads one container's log from a server. It counts lines, so that it goes on behind the last one when the
// server was away, without loss and without repeating any.
type remoteLog struct {
	c       *client
	path    string
	query   url.Values
	follow  bool
	resp    *http.Response
	attempt string
	line    uint64 // the line that is being read
	part    int64  // how much of it was written
}

func newRemoteLog(c *client, namespace, run, node, container string, o executor.LogOptions) *remoteLog {
	l := &remoteLog{
		c: c, path: path("runs", namespace, run, "log", node), follow: o.Follow,
		query: url.Values{"container": {container}, "from": {strconv.Itoa(o.FromLine)}, "whole": {"1"}},
	}
	if o.Follow {
		l.query.Set("follow", "1")
	}
	if o.Timestamps {
		l.query.Set("timestamps", "1")
	}
	return l
}

// open asks for the log.
func (l *remoteLog) open(ctx context.Context) error {
	resp, err := l.c.send(ctx, http.MethodGet, l.path+"?"+l.query.Encode(), nil) //nolint:bodyclose // copy closes it
	if err != nil {
		return err
	}
	l.resp, l.attempt = resp, resp.Header.Get(api.LogAttempt)
	if l.line, err = strconv.ParseUint(resp.Header.Get(api.LogLine), 10, 64); err != nil {
		l.follow = false // a server that does not count lines: nothing to go on from
	}
	return nil
}

// copy writes the log to w until its end, over servers that come and go.
func (l *remoteLog) copy(ctx context.Context, w io.Writer) error {
	for {
		err := l.read(w)
		_ = l.resp.Body.Close()
		end := l.resp.Trailer.Get(api.LogEnd)
		var failed *writeError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &failed):
			return failed.err
		case err == nil && (end == "yes" || !l.follow):
			return nil
		case !l.follow:
			return fmt.Errorf("read log: %w", err)
		case err == nil && end == "next":
			l.attempt, l.line, l.part = nextAttempt(l.attempt), 0, 0
		}
		if err := l.again(ctx); err != nil {
			return err
		}
	}
}

func nextAttempt(s string) string {
	n, err := strconv.Atoi(s)
	if err != nil {
		return s
	}
	return strconv.Itoa(n + 1)
}

// again opens the log behind what was written.
func (l *remoteLog) again(ctx context.Context) error {
	l.query.Set("from", strconv.FormatUint(l.line, 10))
	l.query.Set("attempt", l.attempt)
	line := l.line
	limit := time.Now().Add(logPatience)
	for {
		t := time.NewTimer(logPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
		err := l.open(ctx)
		if err == nil && l.line == line {
			return nil
		}
		if err == nil {
			_ = l.resp.Body.Close()
			return fmt.Errorf("the log has only %d lines now, of which %d were read", l.line, line)
		}
		if time.Now().After(limit) {
			return fmt.Errorf("go on with the log: %w", err)
		}
	}
}

// writeError is a failure of whoever the log is written to.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }

// read copies one answer and keeps count. Of the first line it leaves out what was written before.
func (l *remoteLog) read(w io.Writer) error {
	in := bufio.NewReaderSize(l.resp.Body, 64<<10)
	if n, err := io.CopyN(io.Discard, in, l.part); err != nil {
		if errors.Is(err, io.EOF) && n < l.part {
			return nil // the line is not longer yet
		}
		return err
	}
	for {
		piece, err := in.ReadSlice('\n')
		if len(piece) > 0 {
			if _, e := w.Write(piece); e != nil {
				return &writeError{e}
			}
			l.part += int64(len(piece))
			if piece[len(piece)-1] == '\n' {
				l.line, l.part = l.line+1, 0
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
