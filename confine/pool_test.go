package confine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/confine"
	"github.com/tiphys/tiphys/failure"
)

// order is what a process of the pool is asked to do.
type order struct {
	Do string
	N  int
}

// done is what it says: who it is, and how often it was asked before.
type done struct {
	PID, Before, N int
	Passwd, Zone   string
}

// serve is the work of a process.
func serve() func(body []byte) (any, error) {
	before := 0
	return func(body []byte) (any, error) {
		var o order
		if err := json.Unmarshal(body, &o); err != nil {
			return nil, err
		}
		switch o.Do {
		case "memory":
			for text := "x"; len(text) > 0; text += text {
			}
		case "one list":
			list := make([]any, 1<<30)
			return len(list), nil
		case "grow":
			grown := make([]byte, 130<<20)
			grown[len(body)] = 1
		case "loop":
			for n := 0; n >= 0; n++ {
			}
		case "wait":
			select {}
		case "recursion":
			return deeper(1), nil
		case "answer":
			return strings.Repeat("x", 3<<20), nil
		case "panic":
			panic("a fault of this program")
		case "die":
			return nil, syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "fail":
			return nil, errors.New("cannot")
		}
		_, err := os.ReadFile("/etc/passwd")
		d := done{PID: os.Getpid(), Before: before, N: o.N, Passwd: said(err), Zone: time.Local.String()}
		before++
		return d, nil
	}
}

func pool(t *testing.T, change func(*confine.PoolOptions)) *confine.Pool {
	t.Helper()
	o := confine.PoolOptions{
		Child:     confine.Child{Command: []string{"/proc/self/exe", "__serve"}, Timeout: 20 * time.Second, Memory: 128 << 20, Answer: 1 << 20, Jail: true},
		Processor: 10 * time.Second, Wait: time.Minute,
	}
	if raced {
		o.Child.Memory = 0
	}
	if change != nil {
		change(&o)
	}
	p := confine.NewPool(o)
	t.Cleanup(func() {
		pids := p.Processes()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if left := p.Processes(); len(left) > 0 {
			t.Errorf("processes %v are left after Close", left)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is left after Close: %v", pid, err)
			}
		}
	})
	return p
}

func ask(t *testing.T, p *confine.Pool, o order) done {
	t.Helper()
	var d done
	if err := p.Ask(t.Context(), o, &d); err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	return d
}

// TestPoolKeepsProcesses: one process answers many requests, until it has answered as many as it may.
func TestPoolKeepsProcesses(t *testing.T) {
	p := pool(t, func(o *confine.PoolOptions) { o.Serves = 3 })
	if n := len(p.Processes()); n != 0 {
		t.Errorf("there are %d processes before the first request", n)
	}
	var pids []int
	for i := range 7 {
		d := ask(t, p, order{N: i})
		if d.N != i || d.Before != i%3 {
			t.Errorf("request %d: %+v", i, d)
		}
		if os.Geteuid() == 0 && d.Passwd != "no" {
			t.Error("it can read the machine's files")
		}
		if d.Zone != "UTC" {
			t.Errorf("its time zone is %s", d.Zone)
		}
		pids = append(pids, d.PID)
	}
	if pids[0] != pids[2] || pids[2] == pids[3] || pids[3] != pids[5] || pids[5] == pids[6] {
		t.Errorf("processes that answered: %v", pids)
	}
}

// TestPoolLimits: what a request is to blame for is told, the process is replaced, and the next request is answered.
func TestPoolLimits(t *testing.T) {
	if raced {
		t.Skip("SKIPPED: limits are not tried under the race detector, whose own memory is more than they allow")
	}
	p := pool(t, func(o *confine.PoolOptions) { o.Most = 1 })
	impatient := pool(t, func(o *confine.PoolOptions) { o.Processor = 300 * time.Millisecond; o.Most = 1 })
	ended := func(err error) bool { return errors.As(err, new(*confine.EndedError)) }
	for do, c := range map[string]struct {
		is   func(error) bool
		text string
	}{
		"memory":    {ended, "its limit of 128 MiB of memory"},
		"one list":  {ended, "its limit of 128 MiB of memory"},
		"recursion": {ended, ""},
		"panic":     {ended, ""},
		"loop":      {func(err error) bool { return errors.Is(err, confine.ErrTooLong) }, ""},
		"answer":    {func(err error) bool { return errors.Is(err, confine.ErrTooLarge) }, ""},
	} {
		p := p
		if do == "loop" {
			p = impatient
		}
		var d any
		err := p.Ask(t.Context(), order{Do: do}, &d)
		if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.text) || failure.KindOf(err) == failure.RetryAfter {
			t.Errorf("%s: %v", do, err)
		}
		if got := ask(t, p, order{N: 7}); got.N != 7 {
			t.Errorf("after %s: %+v", do, got)
		}
	}
}

// TestPoolIsNotToBlame: what is the machine's fault, or ours, may be tried again.
func TestPoolIsNotToBlame(t *testing.T) {
	ask := func(p *confine.Pool, do string) error {
		var d any
		err := p.Ask(t.Context(), order{Do: do}, &d)
		if failure.KindOf(err) != failure.RetryAfter {
			t.Errorf("%s: %v is %s", do, err, failure.KindOf(err))
		}
		return err
	}
	p := pool(t, nil)
	_ = ask(p, "die")
	_ = ask(p, "fail")
	slow := pool(t, func(o *confine.PoolOptions) { o.Child.Timeout = 500 * time.Millisecond })
	if err := ask(slow, "wait"); err != nil && !strings.Contains(err.Error(), "no answer within") && !strings.Contains(err.Error(), "start process") {
		t.Error(err)
	}
	missing := pool(t, func(o *confine.PoolOptions) { o.Child.Command = []string{"/nowhere/tiphys", "__serve"} })
	_ = ask(missing, "")
	other := pool(t, func(o *confine.PoolOptions) { o.Child.Command = []string{"/bin/false"} })
	_ = ask(other, "")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	_ = ask(p, "")
}

// TestPoolKilledFromOutside: a process that somebody kills, idle or at work, costs the request nothing.
func TestPoolKilledFromOutside(t *testing.T) {
	p := pool(t, func(o *confine.PoolOptions) { o.Most = 1 })
	first := ask(t, p, order{N: 1})
	kill := func(pid int) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	kill(first.PID)
	second := ask(t, p, order{N: 2})
	if second.PID == first.PID || second.Before != 0 {
		t.Errorf("%+v after %+v", second, first)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		var d any
		result <- p.Ask(ctx, order{Do: "wait"}, &d)
	}()
	// At work it is asked again in another process, which can only be seen by that process.
	kill(second.PID)
	next := until(t, p, func(pids []int) bool { return len(pids) == 1 && pids[0] != second.PID })
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if third := ask(t, p, order{N: 3}); third.PID == next[0] {
		t.Error("a process whose request was given up was asked again")
	}
}

// until waits for the pool's processes to be as wanted.
func until(t *testing.T, p *confine.Pool, want func(pids []int) bool) []int {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		pids := p.Processes()
		if want(pids) {
			return pids
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes are %v", pids)
		}
		time.Sleep(time.Millisecond) // another process is waited for, with a deadline
	}
}

// TestPoolIdle: processes that nobody asks end.
func TestPoolIdle(t *testing.T) {
	p := pool(t, func(o *confine.PoolOptions) { o.Idle = time.Millisecond })
	ask(t, p, order{})
	until(t, p, func(pids []int) bool { return len(pids) == 0 })
	ask(t, p, order{})
}

// TestPoolReplacesTheGrown: what one request took of the memory is not missing for the next.
func TestPoolReplacesTheGrown(t *testing.T) {
	if raced {
		t.Skip("SKIPPED: limits are not tried under the race detector, whose own memory is more than they allow")
	}
	p := pool(t, func(o *confine.PoolOptions) { o.Child.Memory = 250 << 20 })
	first := ask(t, p, order{})
	grew := ask(t, p, order{Do: "grow"})
	if after := ask(t, p, order{}); grew.PID != first.PID || after.PID == first.PID {
		t.Errorf("answered by %d, %d and then %d", first.PID, grew.PID, after.PID)
	}
}

// TestPoolManyAtOnce: a hundred requests share the processes, and each has its own answer.
func TestPoolManyAtOnce(t *testing.T) {
	p := pool(t, func(o *confine.PoolOptions) { o.Most = 3; o.Serves = 7 })
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			var d done
			if err := p.Ask(t.Context(), order{N: i}, &d); err != nil || d.N != i {
				t.Errorf("%d: %+v %v", i, d, err)
			}
			if n := len(p.Processes()); n > 3 {
				t.Errorf("there are %d processes", n)
			}
		})
	}
	all.Wait()
}

// TestPoolWaits: who finds every process busy waits, and not for ever.
func TestPoolWaits(t *testing.T) {
	p := pool(t, func(o *confine.PoolOptions) { o.Most = 1; o.Wait = 50 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		var d any
		result <- p.Ask(ctx, order{Do: "wait"}, &d)
	}()
	until(t, p, func(pids []int) bool { return len(pids) == 1 })
	var d any
	err := p.Ask(t.Context(), order{}, &d)
	if failure.KindOf(err) != failure.RetryAfter || !strings.Contains(err.Error(), "busy") {
		t.Error(err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestPoolCloseAtWork: Close ends what is at work, and who waits.
func TestPoolCloseAtWork(t *testing.T) {
	p := pool(t, func(o *confine.PoolOptions) { o.Most = 1 })
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			var d any
			if err := p.Ask(t.Context(), order{Do: "wait"}, &d); failure.KindOf(err) != failure.RetryAfter {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	until(t, p, func(pids []int) bool { return len(pids) == 1 })
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}

// BenchmarkStart is the start of a process, up to its first answer, and BenchmarkAsk an answer of one that is there.
func BenchmarkStart(b *testing.B) { benchmarkPool(b, 1) }

// BenchmarkAsk is an answer of a process that is there.
func BenchmarkAsk(b *testing.B) { benchmarkPool(b, 1<<30) }

func benchmarkPool(b *testing.B, serves int) {
	p := confine.NewPool(confine.PoolOptions{
		Child:  confine.Child{Command: []string{"/proc/self/exe", "__serve"}, Timeout: 20 * time.Second, Memory: 128 << 20, Answer: 1 << 20, Jail: true},
		Serves: serves,
	})
	defer func() {
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	}()
	for i := range b.N {
		var d done
		if err := p.Ask(b.Context(), order{N: i}, &d); err != nil || d.N != i {
			b.Fatal(fmt.Errorf("%+v: %w", d, err))
		}
	}
}
