package forgetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// ScriptedToken is the token that a [Scripted] forge takes.
const ScriptedToken = "scripted-token"

// Scripted is a forge elsewhere that a test drives: an HTTP server of its own with one repository, which can be down, limit requests,
// refuse the token, or do what it is asked and lose the answer. It is its own [forge.Type].
type Scripted struct {
	URL string

	mu       sync.Mutex
	trouble  string // "", down, limited, refused or lost
	after    time.Duration
	requests int
	repo     string
	pr       event.PullRequest
	refs     map[string]string            // branch or tag: commit
	files    map[string]map[string][]byte // by commit
	statuses map[string][]forge.Status    // by commit
	comments []scriptedComment
	merged   map[string]int
}

type scriptedComment struct{ Marker, Body string }

// NewScripted starts a forge with the repository that the suite wants; it ends with the test.
func NewScripted(t testing.TB) *Scripted {
	t.Helper()
	const main, feature = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"
	tree := map[string][]byte{"README.md": []byte("hello\n"), "bin/data": {0, 1, 2, 255}}
	branch := map[string][]byte{"README.md": tree["README.md"], "bin/data": tree["bin/data"], "feature.txt": []byte("new\n")}
	s := &Scripted{
		repo: "team/harbour", refs: map[string]string{"main": main, "feature": feature, "v1": main, main: main, feature: feature,
			"HEAD": main, "refs/heads/main": main, "refs/heads/feature": feature, "refs/tags/v1": main},
		files: map[string]map[string][]byte{main: tree, feature: branch}, statuses: map[string][]forge.Status{}, merged: map[string]int{},
		pr: event.PullRequest{Number: 1, Title: "Add", State: "open", SourceBranch: "feature", TargetBranch: "main", HeadSHA: feature, Author: "ada",
			Labels: []string{"deploy:api"}},
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	s.pr.URL = server.URL + "/team/harbour/1"
	return s
}

// Trouble has the forge be down, limited, refused or lost (it does what it is asked, and the connection breaks) until it is set to "".
func (s *Scripted) Trouble(what string, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.after = what, after
}

// Requests counts what it was asked.
func (s *Scripted) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Statuses are those of a commit.
func (s *Scripted) Statuses(sha string) []forge.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]forge.Status{}, s.statuses[sha]...)
}

// Comments are the texts of the merge request's comments.
func (s *Scripted) Comments() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, c := range s.comments {
		all = append(all, c.Body)
	}
	return all
}

// Fixture is the repository for the suite.
func (s *Scripted) Fixture() Fixture {
	return Fixture{
		Repo: s.repo, MainSHA: s.refs["main"], FeatureSHA: s.refs["feature"], Number: 1, Title: "Add", BinaryContent: []byte{0, 1, 2, 255},
		Statuses: func(_ context.Context, sha string) ([]forge.Status, error) { return s.Statuses(sha), nil },
		Comments: func(context.Context, int) ([]string, error) { return s.Comments(), nil },
		Close:    func(context.Context) error { s.end("closed"); return nil },
		Merge: func(context.Context) (string, error) {
			s.end("merged")
			return s.refs["feature"], nil
		},
		Trouble: s.Trouble,
	}
}

func (s *Scripted) end(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pr.State, s.pr.Merged = state, state == "merged"
	if s.pr.Merged {
		s.merged[s.refs["feature"]] = 1
	}
}

// ServeHTTP is the forge.
func (s *Scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	switch {
	case s.trouble == "down":
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case s.trouble == "limited":
		w.Header().Set("Retry-After", strconv.Itoa(int(s.after/time.Second)))
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case s.trouble == "refused" || r.Header.Get("Authorization") != "Bearer "+ScriptedToken:
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer, found := s.answer(r)
	switch {
	case s.trouble == "lost":
		// The connection ends without an answer: the client does not know what was done.
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	case !found:
		w.WriteHeader(http.StatusNotFound)
	default:
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (s *Scripted) answer(r *http.Request) (any, bool) {
	q := r.URL.Query()
	if q.Get("repo") != s.repo {
		return nil, false
	}
	sha, known := s.refs[q.Get("revision")]
	number, _ := strconv.Atoi(q.Get("number"))
	switch r.Method + " " + r.URL.Path {
	case "GET /repository":
		return event.Repo{FullName: s.repo, DefaultBranch: "main", CloneHTTP: s.URL + "/" + s.repo + ".git"}, true
	case "GET /requests":
		if s.pr.State != "open" {
			return []event.PullRequest{}, true
		}
		return []event.PullRequest{s.pr}, true
	case "GET /request":
		return s.pr, number == s.pr.Number
	case "GET /merged":
		return s.merged[q.Get("sha")], true
	case "GET /commit":
		return sha, known
	case "GET /file":
		content, ok := s.files[sha][q.Get("path")]
		return content, known && ok
	case "PUT /status":
		var status forge.Status
		_ = json.NewDecoder(r.Body).Decode(&status)
		list := s.statuses[sha]
		for i := range list {
			if list[i].Context == status.Context {
				list[i] = status
				return struct{}{}, known
			}
		}
		if known {
			s.statuses[sha] = append(list, status)
		}
		return struct{}{}, known
	case "PUT /comment":
		var c scriptedComment
		_ = json.NewDecoder(r.Body).Decode(&c)
		for i := range s.comments {
			if s.comments[i].Marker == c.Marker {
				s.comments[i] = c
				return struct{}{}, number == s.pr.Number
			}
		}
		if number == s.pr.Number {
			s.comments = append(s.comments, c)
		}
		return struct{}{}, number == s.pr.Number
	}
	return nil, false
}

// Name implements forge.Type.
func (s *Scripted) Name() string { return "scripted" }

// Check implements forge.Type.
func (s *Scripted) Check(spec manifest.ForgeSpec) []manifest.Diagnostic {
	if spec.Token == nil {
		return []manifest.Diagnostic{{Severity: manifest.SeverityError, Path: "spec", Message: "a scripted forge needs a token"}}
	}
	return nil
}

// Open implements forge.Type.
func (s *Scripted) Open(spec manifest.ForgeSpec, credentials forge.Credentials, client *http.Client) (forge.Forge, error) {
	return &scriptedClient{url: spec.URL, credentials: credentials, http: client}, nil
}

// Client asks the forge with the right token.
func (s *Scripted) Client(credentials forge.Credentials) forge.Forge {
	return &scriptedClient{url: s.URL, credentials: credentials, http: &http.Client{}}
}

// scriptedClient is the forge.Forge of a scripted forge.
type scriptedClient struct {
	url         string
	credentials forge.Credentials
	http        *http.Client
}

// ask sends one request. What the forge says is told by the kind of the error, as every implementation does.
func (c *scriptedClient) ask(ctx context.Context, method, path string, query map[string]string, body, answer any) error {
	token, err := c.credentials.Token(ctx)
	if err != nil {
		return err
	}
	values := url.Values{}
	for k, v := range query {
		values.Set(k, v)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path+"?"+values.Encode(), bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	wrong := fmt.Errorf("%s %s answered %s", method, path, resp.Status)
	switch resp.StatusCode {
	case http.StatusOK:
		if answer == nil {
			return nil
		}
		return json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(answer)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", forge.ErrNotFound, wrong)
	case http.StatusUnauthorized, http.StatusForbidden:
		return failure.Refusedf("the forge does not take the token: %w", wrong)
	case http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return failure.Later(time.Duration(seconds)*time.Second, wrong)
	}
	return wrong
}

func (c *scriptedClient) PullRequests(ctx context.Context, repo string) (list []event.PullRequest, err error) {
	err = c.ask(ctx, http.MethodGet, "/requests", map[string]string{"repo": repo}, nil, &list)
	return list, err
}

func (c *scriptedClient) PullRequest(ctx context.Context, repo string, number int) (one event.PullRequest, err error) {
	err = c.ask(ctx, http.MethodGet, "/request", map[string]string{"repo": repo, "number": strconv.Itoa(number)}, nil, &one)
	return one, err
}

func (c *scriptedClient) MergedAs(ctx context.Context, repo, sha string) (number int, err error) {
	err = c.ask(ctx, http.MethodGet, "/merged", map[string]string{"repo": repo, "sha": sha}, nil, &number)
	return number, err
}

func (c *scriptedClient) Describe(ctx context.Context, repo string) (found event.Repo, err error) {
	err = c.ask(ctx, http.MethodGet, "/repository", map[string]string{"repo": repo}, nil, &found)
	return found, err
}

func (c *scriptedClient) File(ctx context.Context, repo, revision, path string) (content []byte, err error) {
	err = c.ask(ctx, http.MethodGet, "/file", map[string]string{"repo": repo, "revision": revision, "path": path}, nil, &content)
	return content, err
}

func (c *scriptedClient) Resolve(ctx context.Context, repo, revision string) (sha string, err error) {
	err = c.ask(ctx, http.MethodGet, "/commit", map[string]string{"repo": repo, "revision": revision}, nil, &sha)
	return sha, err
}

func (c *scriptedClient) SetStatus(ctx context.Context, repo, sha string, s forge.Status) error {
	return c.ask(ctx, http.MethodPut, "/status", map[string]string{"repo": repo, "revision": sha}, s, nil)
}

func (c *scriptedClient) Comment(ctx context.Context, repo string, number int, marker, body string) error {
	return c.ask(ctx, http.MethodPut, "/comment", map[string]string{"repo": repo, "number": strconv.Itoa(number)}, scriptedComment{marker, body}, nil)
}
