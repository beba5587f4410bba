package front_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
)

// connection is an answer whose connection notes the deadlines of its reads.
type connection struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (c *connection) SetReadDeadline(t time.Time) error {
	c.deadlines = append(c.deadlines, t)
	return nil
}

// drip is a body of which a little comes and then, until the deadline, nothing.
type drip struct{ begun bool }

func (d *drip) Read(p []byte) (int, error) {
	if d.begun {
		return 0, os.ErrDeadlineExceeded
	}
	d.begun = true
	return copy(p, "a"), nil
}

// TestSlowBodiesOfApplications: whoever sends a body to an application bit by bit is waited for as on the server's own routes, and then answered
// with 408. What an application takes as a conversation is not waited for with a limit.
func TestSlowBodiesOfApplications(t *testing.T) {
	app := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "whole")
	}))
	f := front.New(front.Options{})
	t.Cleanup(func() { _ = f.Close() })
	to := []front.Endpoint{{Address: app, Backend: "app"}}
	if err := f.Set(front.Table{Hosts: map[string][]front.Route{"app.localhost": {{Path: "/", Endpoints: to}}, "grpc.localhost": {{Path: "/", HTTP2: true, Endpoints: to}}}}); err != nil {
		t.Fatal(err)
	}
	ask := func(host string, major int, kind string, body io.Reader) *connection {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/", body)
		r.ProtoMajor, r.ContentLength = major, -1
		r.Header.Set("Content-Type", kind)
		c := &connection{ResponseRecorder: httptest.NewRecorder()}
		f.ServeHTTP(c, r)
		return c
	}
	before := time.Now()
	c := ask("app.localhost", 1, "text/plain", &drip{})
	if c.Code != http.StatusRequestTimeout || c.Header().Get("Connection") != "close" {
		t.Errorf("answered %d %v", c.Code, c.Header())
	}
	if len(c.deadlines) < 2 || c.deadlines[0].Before(before) || c.deadlines[1].After(time.Now().Add(3*time.Minute)) {
		t.Errorf("it is waited for until %v", c.deadlines)
	}
	c = ask("app.localhost", 1, "text/plain", strings.NewReader("all of it"))
	if c.Code != http.StatusOK || len(c.deadlines) < 2 || !c.deadlines[len(c.deadlines)-1].IsZero() {
		t.Errorf("a whole body: %d, and the deadlines are %v", c.Code, c.deadlines)
	}
	if c := ask("grpc.localhost", 1, "application/grpc", &drip{}); c.Code != http.StatusRequestTimeout {
		t.Errorf("what only calls itself gRPC is answered %d", c.Code)
	}
	if c := ask("grpc.localhost", 2, "application/grpc", strings.NewReader("a call")); c.Code != http.StatusOK || len(c.deadlines) > 0 {
		t.Errorf("a call of gRPC: %d, and the deadlines are %v", c.Code, c.deadlines)
	}
}
