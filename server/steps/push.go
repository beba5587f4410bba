package steps

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/server/gate"
)

// Pushes keeps what attempts push where executor and server share no disk; executor/pushed is one. What a method has
// answered for is durable, and whatever is pushed again changes nothing.
type Pushes interface {
	PutOutput(ctx context.Context, id executor.ID, name string, value []byte) error
	Output(ctx context.Context, id executor.ID, name string) ([]byte, error)
	// AppendLog adds a piece that begins at offset, and gives the log's size with it.
	AppendLog(ctx context.Context, id executor.ID, container string, offset int64, piece []byte) (size int64, err error)
	LogSize(ctx context.Context, id executor.ID, container string) (int64, error)
	Log(ctx context.Context, id executor.ID, container string, offset int64) (io.ReadCloser, error)
}

// pushRoutes are the lines for outputs and logs.
func (a *API) pushRoutes() []gate.Route {
	return []gate.Route{
		{Pattern: "PUT /api/v1/step/outputs/{name}", Access: gate.Step, Body: protocol.PushedOutputLimit, Timeout: quick, Handle: a.putOutput},
		{Pattern: "GET /api/v1/step/outputs/{name}", Access: gate.Step, Timeout: quick, Handle: a.getOutput},
		{Pattern: "POST /api/v1/step/logs/{container}", Access: gate.Step, Body: protocol.PushedPieceLimit, Timeout: quick, Handle: a.appendLog},
		{Pattern: "GET /api/v1/step/logs/{container}", Access: gate.Step, Handle: a.getLog},
		{Pattern: "GET /api/v1/step/logs/{container}/size", Access: gate.Step, Timeout: quick, Handle: a.logSize},
	}
}

// attemptOf is the attempt that a token is for: a step pushes for itself alone.
func attemptOf(c steptoken.Claims) executor.ID {
	return executor.ID{Owner: c.UID, Node: c.Node, Attempt: c.Attempt}
}

// checked reads a body and fails at its end if it is not what the sender said that it sends (RFC 9530, Content-Digest).
// Without that header there is nothing to compare with.
type checked struct {
	body io.Reader
	sum  hash.Hash
	want []byte
}

// check prepares the body of a request. must refuses a request without a digest.
func check(r *http.Request, must bool) (io.Reader, error) {
	header := r.Header.Get("Content-Digest")
	if header == "" && !must {
		return r.Body, nil
	}
	text, ok := strings.CutPrefix(header, "sha-256=:")
	want, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, ":"))
	if !ok || err != nil || len(want) != sha256.Size {
		return nil, bad("Content-Digest is %.80q: expected sha-256=:BASE64:", header)
	}
	return &checked{body: r.Body, sum: sha256.New(), want: want}, nil
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && string(c.sum.Sum(nil)) != string(c.want) {
		return n, bad("what arrived has another digest than what was sent")
	}
	return n, err
}

// whole reads a body that is kept in memory; the gate bounds it.
func whole(r *http.Request) ([]byte, error) {
	body, err := check(r, true)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(body)
}

func (a *API) putOutput(w http.ResponseWriter, r *http.Request) {
	value, err := whole(r)
	if err == nil {
		err = a.Pushes.PutOutput(r.Context(), attemptOf(claims(r)), r.PathValue("name"), value)
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]any{"name": r.PathValue("name"), "size": len(value)})
}

func (a *API) getOutput(w http.ResponseWriter, r *http.Request) {
	value, err := a.Pushes.Output(r.Context(), attemptOf(claims(r)), r.PathValue("name"))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(value)
}

// offset is where in a log a request is about; 0 if it does not say.
func offset(r *http.Request) (int64, error) {
	text := r.URL.Query().Get("offset")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, bad("the offset %.40q is no number from 0", text)
	}
	return n, nil
}

func (a *API) appendLog(w http.ResponseWriter, r *http.Request) {
	at, err := offset(r)
	var piece []byte
	if err == nil {
		piece, err = whole(r)
	}
	var size int64
	if err == nil {
		size, err = a.Pushes.AppendLog(r.Context(), attemptOf(claims(r)), r.PathValue("container"), at, piece)
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]int64{"size": size})
}

func (a *API) logSize(w http.ResponseWriter, r *http.Request) {
	size, err := a.Pushes.LogSize(r.Context(), attemptOf(claims(r)), r.PathValue("container"))
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]int64{"size": size})
}

func (a *API) getLog(w http.ResponseWriter, r *http.Request) {
	at, err := offset(r)
	var log io.ReadCloser
	if err == nil {
		log, err = a.Pushes.Log(r.Context(), attemptOf(claims(r)), r.PathValue("container"), at)
	}
	if err != nil {
		fail(w, err)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if _, err := io.Copy(w, log); err != nil {
		a.Log.Warn("send log", "container", r.PathValue("container"), "error", err)
	}
}
