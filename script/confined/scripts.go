// Package confined runs small programs of users in processes that can compute and nothing else, and that are ended at their limits: for
// what an interpreter cannot count itself. [Scripts] is the server's side, [Serve] that of the process.
package confined

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tiphys/tiphys/confine"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/script"
)

// Limits of one run of a program.
const (
	// Processor is its processor time, Memory the data memory of its process, in bytes.
	Processor = 2 * time.Second
	Memory    = 64 << 20
	// timeout is by the clock on the wall, on a busy machine; wait is for a process that has time.
	timeout, wait = 10 * time.Second, 15 * time.Second
	// processes is how many run at a time.
	processes = 2
	// maxAnswer bounds an answer, in bytes: the program's result, or why there is none.
	maxAnswer = 2 << 20
	// maxPrograms is how many programs a process remembers.
	maxPrograms = 64
)

// Options are of [NewScripts].
type Options struct {
	// Command starts the process that calls [Serve]: this program's path and the name of its hidden command. Empty means
	// "/proc/self/exe __script".
	Command []string
	// Memory is the most data memory of a process in bytes; 0 means [Memory].
	Memory uint64
	// Processor is the processor time of one program; 0 means [Processor].
	Processor time.Duration
}

// Scripts runs programs in processes of their own, which are kept for the next one. It is a sensor.Scripts and a health.Scripts, safe for concurrent use. The
// processes hold nothing but what is computed on, so authors share them.
type Scripts struct {
	o    Options
	pool *confine.Pool
}

// NewScripts makes a Scripts; its first program starts the first process. [Scripts.Close] ends all.
func NewScripts(o Options) *Scripts {
	if len(o.Command) == 0 {
		o.Command = []string{"/proc/self/exe", "__script"}
	}
	if o.Memory == 0 {
		o.Memory = Memory
	}
	if o.Processor == 0 {
		o.Processor = Processor
	}
	return &Scripts{o: o, pool: confine.NewPool(confine.PoolOptions{
		Child:     confine.Child{Command: o.Command, Timeout: timeout, Memory: o.Memory, Answer: maxAnswer, Jail: true},
		Processor: o.Processor, Most: processes, Wait: wait,
	})}
}

type request struct {
	// Lua says that the program is one in Lua, and not in jq.
	Lua bool `json:"lua,omitempty"`
	// Health says that the data is an object whose health is asked for.
	Health  bool            `json:"health,omitempty"`
	Program string          `json:"program"`
	Now     time.Time       `json:"now"`
	Data    json.RawMessage `json:"data"`
}

type answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	// Problem says why there is no result.
	Problem string `json:"problem,omitempty"`
}

// JQ runs a jq program, as sensor.Scripts says.
func (s *Scripts) JQ(ctx context.Context, program string, data []byte, now time.Time) ([]byte, error) {
	return s.run(ctx, request{Program: program, Now: now, Data: data})
}

// Health runs a Lua program on an object, as health.Scripts says.
func (s *Scripts) Health(ctx context.Context, program string, object []byte) ([]byte, error) {
	return s.run(ctx, request{Lua: true, Health: true, Program: program, Data: object})
}

// Lua runs a Lua program, as sensor.Scripts says.
func (s *Scripts) Lua(ctx context.Context, program string, data []byte, now time.Time) ([]byte, error) {
	return s.run(ctx, request{Lua: true, Program: program, Now: now, Data: data})
}

func (s *Scripts) run(ctx context.Context, r request) ([]byte, error) {
	if !json.Valid(r.Data) {
		return nil, failure.Invalidf("the data is not json")
	}
	var got answer
	err := s.pool.Ask(ctx, r, &got)
	var ended *confine.EndedError
	switch {
	case errors.As(err, &ended):
		return nil, failure.Invalidf("the program was stopped: %s", ended.Reason)
	case errors.Is(err, confine.ErrTooLong):
		return nil, failure.Invalidf("the program was stopped: it met its limit of %s of processor time", s.o.Processor)
	case errors.Is(err, confine.ErrTooLarge):
		return nil, failure.Invalidf("the data or the result is too large")
	case err != nil:
		return nil, fmt.Errorf("run a program: %w", err)
	case got.Problem != "":
		return nil, failure.Invalidf("%s", got.Problem)
	}
	return got.Result, nil
}

// Processes are the ids of the processes that there are.
func (s *Scripts) Processes() []int { return s.pool.Processes() }

// Close ends the processes.
func (s *Scripts) Close() error { return s.pool.Close() }

// Serve is the process: it runs programs until its input ends. The error is for a process that cannot go on.
func Serve(stdin io.Reader, stdout io.Writer) error {
	s := server{programs: map[string]*script.JQ{}}
	return confine.Serve(stdin, stdout, s.run)
}

// server remembers the jq programs that it has read.
type server struct{ programs map[string]*script.JQ }

func (s *server) run(body []byte) (any, error) {
	var r request
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	result, err := s.result(r)
	if err != nil {
		return answer{Problem: confine.Shortened(err.Error())}, nil
	}
	return answer{Result: result}, nil
}

func (s *server) result(r request) ([]byte, error) {
	if r.Health {
		return script.Interpreter{}.Health(context.Background(), r.Program, r.Data)
	}
	if r.Lua {
		return script.Interpreter{}.Lua(context.Background(), r.Program, r.Data, r.Now)
	}
	read, known := s.programs[r.Program]
	if !known {
		var err error
		if read, err = script.ReadJQ(r.Program); err != nil {
			return nil, err
		}
		if len(s.programs) >= maxPrograms {
			clear(s.programs)
		}
		s.programs[r.Program] = read
	}
	return read.Run(r.Data, r.Now)
}
