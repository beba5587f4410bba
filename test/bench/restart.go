package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// restartItems is how many items the run has, each of four nodes and five entries.
	restartItems  = 10_000
	restartRounds = 5
)

const restartRun = `{"workflow": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "big"}, "spec": {"entrypoint": "all", "templates": [
{"name": "all", "steps": [[{"name": "each", "template": "inner", "withSequence": {"count": "%d"}}], [{"name": "ask", "template": "ask"}]]},
{"name": "inner", "steps": [[{"name": "never", "template": "ask", "when": "1 == 2"}]]},
{"name": "ask", "suspend": {}}]}}}`

// restart measures how long a run of tens of thousands of entries cannot be commanded after a kill, from the moment when the server answers at all,
// and what processor time it takes the server.
func restart(ctx context.Context, program string) error {
	dir, err := os.MkdirTemp("", "tiphys-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	port, err := freePort()
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	var took, cost []time.Duration
	for round := range restartRounds + 1 {
		s, _, err := startServerAt(ctx, program, data, "", port)
		if err != nil {
			return err
		}
		began := time.Now()
		if round == 0 {
			err = s.submitBig(ctx)
		} else {
			err = s.refuseRetry(ctx)
			took = append(took, time.Since(began))
			var used time.Duration
			used, failed := cpuOf(s.cmd.Process.Pid)
			cost, err = append(cost, used), errors.Join(err, failed)
		}
		if err != nil || round == restartRounds {
			fmt.Printf("a run of %d items after kill -9: a command is answered %s after the server is there, which took %s of processor time till then\n",
				restartItems, median(took), median(cost))
			return errors.Join(err, s.stop())
		}
		if err := s.cmd.Process.Kill(); err != nil {
			return err
		}
		if err := <-s.done; err == nil {
			return errors.New("the server ended before it was killed")
		}
	}
	return nil
}

// submitBig starts the run and waits until it waits for a person.
func (s *server) submitBig(ctx context.Context) error {
	code, answer, err := s.send(ctx, http.MethodPost, "/api/v1/workflows/default", fmt.Sprintf(restartRun, restartItems))
	if err != nil || code != http.StatusOK {
		return fmt.Errorf("submit: %d %.200s: %w", code, answer, err)
	}
	last := int64(0)
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Second) {
		head, err := s.head(ctx)
		if err != nil {
			return err
		}
		if head == last && head > restartItems*5 {
			return nil
		}
		last = head
	}
	return errors.New("the run does not get to its end")
}

// refuseRetry asks for what a run that goes on refuses: the run's state is needed for that, and nothing changes.
func (s *server) refuseRetry(ctx context.Context) error {
	code, answer, err := s.send(ctx, http.MethodPut, "/api/v1/workflows/default/big/retry", "{}")
	if err == nil && !strings.Contains(answer, "not ended") {
		err = fmt.Errorf("retry: %d %.200s", code, answer)
	}
	return err
}

func (s *server) send(ctx context.Context, method, path, body string) (code int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, "", err
	}
	s.prove(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(raw), err
}
