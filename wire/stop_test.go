package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor/local"
)

// A server that is asked to stop ends its streams at once and in order, and answers what was asked before.
func TestStopEndsStreamsAndFinishesRequests(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not tested: the local executor needs root")
	}
	s, err := Open(t.Context(), Options{Data: t.TempDir(), Listen: "127.0.0.1:0", Network: local.Network{Disabled: true}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()

	client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	var streams []io.ReadCloser
	for _, path := range []string{"/api/v1/stream?tables=run", "/api/v1/workflow-events/default"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.carrier.listener.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.o.Token.Reveal())
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		streams = append(streams, resp.Body)
	}
	// A request of which the server has only a part.
	conn, err := net.Dial("tcp", s.carrier.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{apiVersion: v1, kind: ConfigMap, metadata: {name: late}}`
	fmt.Fprintf(conn, "POST /api/v1/definitions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", s.o.Token.Reveal(), len(body))
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("the request is not being read: %q, %v", line, err)
	}
	_, _ = in.ReadString('\n')

	stop()
	for _, stream := range streams {
		if _, err := io.Copy(io.Discard, stream); err != nil {
			t.Errorf("a stream was broken off: %v", err)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("the server did not wait for the request: %v", err)
	default:
	}
	fmt.Fprint(conn, body)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("the request was broken off: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Errorf("the request was answered %d %s", resp.StatusCode, text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
