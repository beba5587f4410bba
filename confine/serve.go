package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"time"
)

// look is how often a process looks at what its work has used.
const look = 20 * time.Millisecond

// Serve is a process of a [Pool]: it gives up for good what computing does not need, and answers requests until there are no more. An
// error of work is ours, not the request's: what is wrong with a request belongs into its answer. The error is for a process that
// cannot go on.
func Serve(stdin io.Reader, stdout io.Writer, work func(body []byte) (any, error)) error {
	first, err := readRequest(stdin)
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	var r request
	if err := json.Unmarshal(first, &r); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if err := confine(r); err != nil {
		return fmt.Errorf(unconfined+": %w", err)
	}
	if err := os.NewFile(3, "folder").Close(); err != nil {
		return fmt.Errorf(unconfined+": close folder: %w", err)
	}
	s := &server{stdout: stdout, limits: r, work: work}
	if err := s.reply(ready, nil); err != nil {
		return err
	}
	for {
		body, err := readRequest(stdin)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if err := s.serve(body); err != nil {
			return err
		}
	}
}

type server struct {
	stdout io.Writer
	limits request
	work   func(body []byte) (any, error)
}

// errTime ends a process whose work cannot be stopped otherwise.
var errTime = errors.New("the work took more processor time than it may")

// serve answers one request.
func (s *server) serve(body []byte) error {
	begin, err := processorTime()
	if err != nil {
		return err
	}
	type result struct {
		body []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := s.work(body)
		if err == nil {
			body, err = encode(answer)
		}
		done <- result{body, err}
	}()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			switch {
			case r.err != nil:
				text := r.err.Error()
				return s.reply(failed, []byte(text[:min(len(text), maxComplaints)]))
			case int64(len(r.body)) > s.limits.Answer:
				return s.reply(tooLarge, nil)
			}
			return s.reply(answered, r.body)
		case <-tick.C:
			now, err := processorTime()
			if err != nil {
				return err
			}
			if s.limits.Each > 0 && now-begin > s.limits.Each {
				return errors.Join(errTime, s.reply(tooLong, nil))
			}
		}
	}
}

func (s *server) reply(w word, body []byte) error {
	used, err := processorTime()
	if err != nil {
		return err
	}
	if err := writeReply(s.stdout, reply{word: w, worn: grown(s.limits.Memory), used: used, body: body}); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// grown tells whether earlier requests have left so little memory that the next one would find another limit than the first one did.
func grown(limit uint64) bool {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(sample)
	return limit > 0 && sample[0].Value.Kind() == metrics.KindUint64 && sample[0].Value.Uint64() > limit/2
}
