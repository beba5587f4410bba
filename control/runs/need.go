package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"time"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// tableMemo keeps memoised results.
const tableMemo = "memo"

// need answers a run's question for objects or for a memoised result.
func (c *Controller) need(ctx context.Context, key string, e workflow.Need) error {
	got := workflow.Got{Meta: c.meta(system), Key: e.Key}
	if e.Earlier != nil {
		found, err := c.earlier(ctx, key, *e.Earlier)
		if err != nil {
			got.Error = err.Error()
		}
		got.Memo, got.Earlier = found, found != nil
	}
	if e.Memo != nil && got.Memo == nil {
		memo, err := c.memo(ctx, key, *e.Memo)
		if err != nil {
			got.Error = err.Error()
		}
		got.Memo = memo
	}
	if e.List != nil {
		keys, err := c.list(ctx, key, *e.List)
		if err != nil {
			got.Error = err.Error()
		}
		got.Keys = keys
	}
	if len(e.Refs) > 0 {
		objects, err := c.objects(ctx, e.Refs)
		if err != nil {
			got.Error = err.Error()
		}
		got.Objects = objects
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.deliver(key, got, nil, workKey{queueEffects, effectKey(key, e)})
	return nil
}

// earlier gives what a node of an earlier run in the same namespace left, if it succeeded and is still there.
func (c *Controller) earlier(ctx context.Context, key string, e workflow.EarlierNode) (json.RawMessage, error) {
	of := Key(path.Dir(key), e.Run)
	run, err := c.Summary(ctx, path.Dir(key), e.Run)
	if errors.Is(err, ErrNotFound) || err == nil && run.UID != e.UID {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	own, err := view(ctx, c, key, func(r *live) place { return r.place() })
	if err != nil {
		return nil, err
	}
	if own.class() != own.acts.Class(e.UID) {
		return nil, nil // what such a run leaves is read by nobody else
	}
	row, err := c.o.Ledger.Row(ctx, tableNode, of+"/"+e.ID)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read node %s of run %s: %w", e.ID, of, err)
	}
	var n workflow.Node
	if err := json.Unmarshal(row.Body, &n); err != nil {
		return nil, fmt.Errorf("decode node %s of run %s: %w", e.ID, of, err)
	}
	switch {
	case n.Phase != workflow.Succeeded || n.Name != e.Name:
		return nil, nil
	case n.Outputs == nil:
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(n.Outputs)
}

// maxListed bounds a list of artifacts: it becomes a result, and as a rule a loop.
const maxListed = 100_000

// list gives the keys below a folder of the store.
func (c *Controller) list(ctx context.Context, key string, l workflow.List) ([]string, error) {
	if c.o.Folders == nil {
		return nil, errors.New("there is no store of artifacts here")
	}
	uid, err := view(ctx, c, key, func(r *live) string { return r.state.Run().UID })
	if err != nil {
		return nil, err
	}
	keys, err := c.o.Folders.Keys(ctx, artifact.Caller{Namespace: path.Dir(key), Owner: uid, Node: l.Node}, l.Folder)
	if err == nil && len(keys) > maxListed {
		return nil, fmt.Errorf("%s has %d artifacts, and a list takes at most %d: name a folder below it", l.Folder, len(keys), maxListed)
	}
	return keys, err
}

// objects looks objects up; one that does not exist is nil.
func (c *Controller) objects(ctx context.Context, refs []workflow.Ref) (map[workflow.Ref]json.RawMessage, error) {
	m := make(map[workflow.Ref]json.RawMessage, len(refs))
	for _, ref := range refs {
		raw, err := c.o.Objects.Object(ctx, ref)
		if err != nil && !errors.Is(err, ErrNoObject) {
			return nil, fmt.Errorf("read %s %s/%s: %w", ref.Kind, ref.Namespace, ref.Name, err)
		}
		m[ref] = raw
	}
	return m, nil
}

// memoEntry is the body of an entry "memo.stored".
type memoEntry struct {
	// Scope is whose claims it was stored under; empty for those of a run of no repository, and in older entries.
	Scope   string          `json:"scope,omitempty"`
	Cache   string          `json:"cache"`
	Key     string          `json:"key"`
	Run     string          `json:"run"`
	Node    string          `json:"node"`
	Outputs json.RawMessage `json:"outputs"`
}

// memoKey is the key of a row of [tableMemo]. No namespace has a colon.
func memoKey(scope, cache, key string) string {
	if scope != "" {
		scope += ":"
	}
	return scope + cache + "/" + key
}

// memo looks for a memoised result where the claims of the run let it read.
func (c *Controller) memo(ctx context.Context, run string, m workflow.Memo) (json.RawMessage, error) {
	class, err := view(ctx, c, run, func(r *live) claims.Class { return r.place().class() })
	if err != nil {
		return nil, err
	}
	for _, scope := range class.Reads() {
		if found, err := c.memoOf(ctx, scope, m); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// memoOf looks in one scope.
func (c *Controller) memoOf(ctx context.Context, scope string, m workflow.Memo) (json.RawMessage, error) {
	row, err := c.o.Ledger.Row(ctx, tableMemo, memoKey(scope, m.Cache, m.Key))
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read memoised result %s: %w", m.Key, err)
	}
	if m.MaxAge > 0 && c.o.Now().Sub(row.Time) > m.MaxAge {
		return nil, nil
	}
	var e memoEntry
	if err := json.Unmarshal(row.Body, &e); err != nil {
		return nil, fmt.Errorf("decode memoised result %s: %w", m.Key, err)
	}
	return e.Outputs, nil
}

// memoize stores a result in the transaction that finishes its node, so that whoever asks next finds it.
func memoize(tx ledger.Tx, r place, e workflow.PutMemo) error {
	_, err := tx.Append(ledger.Draft{
		Actor: system, Kind: kindMemo, Subject: subject(r.run), Cause: r.root,
		Body: memoEntry{Scope: r.class().Writes(), Cache: e.Cache, Key: e.Key, Run: r.run, Node: e.Node, Outputs: e.Outputs},
	})
	return err
}

// requestTimeout is Argo's default for http templates.
const requestTimeout = 30 * time.Second

// maxResponse bounds a response, in bytes. It is kept as the result, and a successCondition sees all of it.
const maxResponse = 1 << 20

// request makes the request of an http template and reports what its answer means.
func (c *Controller) request(ctx context.Context, key string, e workflow.Request) error {
	started := c.o.Now().UTC()
	resp, err := c.fetch(ctx, key, e)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		resp.Error = err.Error()
	}
	resp.StartedAt, resp.FinishedAt = started, c.o.Now().UTC()
	rep := workflow.Answer(e, resp)
	rep.ID.Owner = key
	c.report(key, rep, nil, workKey{queueEffects, effectKey(key, e)})
	return nil
}

func (c *Controller) fetch(ctx context.Context, key string, e workflow.Request) (workflow.Response, error) {
	timeout := requestTimeout
	if s := e.HTTP.TimeoutSeconds; s != nil {
		timeout = time.Duration(*s) * time.Second
	}
	why := fmt.Errorf("no answer within %s", timeout)
	ctx, cancel := context.WithTimeoutCause(egress.For(ctx, "http.url"), timeout, why)
	defer cancel()
	method := e.HTTP.Method
	if method == "" {
		method = http.MethodGet
	}
	body := []byte(e.HTTP.Body)
	if e.HTTP.BodyFrom != nil {
		body = e.HTTP.BodyFrom.Bytes
	}
	req, err := http.NewRequestWithContext(ctx, method, e.HTTP.URL, bytes.NewReader(body))
	if err != nil {
		return workflow.Response{}, fmt.Errorf("make request: %w", err)
	}
	if err := c.headers(ctx, key, e, req.Header); err != nil {
		return workflow.Response{}, err
	}
	// net/http takes the host from the request, not from its headers.
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	client, done := c.httpClient(e.HTTP.InsecureSkipVerify)
	defer done()
	resp, err := client.Do(req)
	if refusal, refused := egress.Refused(err); refused {
		return workflow.Response{}, refusal
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), why) {
			err = why
		}
		return workflow.Response{}, fmt.Errorf("request %s: %w", req.URL.Redacted(), err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return workflow.Response{}, fmt.Errorf("read response of %s: %w", req.URL.Redacted(), err)
	}
	if len(b) > maxResponse {
		return workflow.Response{}, fmt.Errorf("the response of %s is larger than %d bytes: fetch it in a container step", req.URL.Redacted(), maxResponse)
	}
	return workflow.Response{Status: resp.StatusCode, Headers: resp.Header, Body: string(b)}, nil
}
