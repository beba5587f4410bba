package runs

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// TestFetch asks a real server. The rules are those of the agent of Argo Workflows (executor/agent.go): GET by default,
// bodyFrom before body, headers are added, and a header "Host" is the request's host.
func TestFetch(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = io.Copy(w, io.LimitReader(zeros{}, maxResponse+1))
		case "/slow":
			<-r.Context().Done()
		default:
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Answer", "42")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "%s %s %s %v", r.Method, r.Host, body, r.Header["X-A"])
		}
	}))
	defer s.Close()
	zero := int64(0)
	for _, c := range []struct {
		name string
		http manifest.HTTPTemplate
		want workflow.Response
		err  string
	}{
		{"plain", manifest.HTTPTemplate{URL: s.URL, Body: "b"}, workflow.Response{Body: "GET " + s.Listener.Addr().String() + " b []"}, ""},
		{"everything", manifest.HTTPTemplate{
			URL: s.URL, Method: "PUT", Body: "b", BodyFrom: &manifest.HTTPBodySource{Bytes: []byte("from")},
			Headers: []manifest.HTTPHeader{{Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}, {Name: "Host", Value: "other.test"}},
		}, workflow.Response{Body: "PUT other.test from [1 2]"}, ""},
		{"too large", manifest.HTTPTemplate{URL: s.URL + "/large"}, workflow.Response{}, "is larger than 1048576 bytes: fetch it in a container step"},
		{"too slow", manifest.HTTPTemplate{URL: s.URL + "/slow", TimeoutSeconds: &zero}, workflow.Response{}, "no answer within 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := (&Controller{o: Options{Egress: egress.Unrestricted()}}).fetch(context.Background(), "default/w", workflow.Request{HTTP: c.http})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Headers["X-Answer"][0] != "42" || got.Status != http.StatusTeapot {
				t.Errorf("status %d, headers %v", got.Status, got.Headers)
			}
			got.Headers, got.Status = nil, 0
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
