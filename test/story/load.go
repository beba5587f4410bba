package story

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// load sends requests to an application without a pause and counts.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sent   atomic.Int64
	failed atomic.Int64
	mu     sync.Mutex
	first  error
}

// visitors is how many send at the same time; every other one makes a connection for each request.
const visitors = 4

// startLoad begins to send requests to a host.
func (w *World) startLoad(ctx context.Context, host string) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	for i := range visitors {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 1}, Timeout: 10 * time.Second}
		l.wg.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(25 * time.Millisecond)
			defer tick.Stop()
			for {
				l.visit(ctx, client, w.URL, host)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	return l
}

func (l *load) visit(ctx context.Context, client *http.Client, url, host string) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url+"/", nil)
	if err != nil {
		l.fail(err)
		return
	}
	req.Host = host
	l.sent.Add(1)
	resp, err := client.Do(req)
	if err != nil {
		l.fail(err)
		return
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		l.fail(err)
	case resp.StatusCode != http.StatusOK:
		l.fail(fmt.Errorf("%s: %s", resp.Status, firstLine(data)))
	}
}

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf("at %s: %w", time.Now().Format(time.TimeOnly+".000"), err)
	}
}

// stop ends the sending and returns how many requests there were, how many failed, and the first failure.
func (l *load) stop() (sent, failed int64, first error) {
	l.cancel()
	l.wg.Wait()
	return l.sent.Load(), l.failed.Load(), l.first
}
