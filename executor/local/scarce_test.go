package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
)

const poorArg = "be-a-poor-server"

// poorMain is a process with few descriptors that owns an executor: it starts many pods at once and says how they ended.
func poorMain(args []string) int {
	dir, init := args[0], args[1]
	pods, _ := strconv.Atoi(args[2])
	descriptors, _ := strconv.Atoi(args[3])
	machine, err := local.New(local.Options{Dir: dir, Init: init, NoSync: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	e := machine.Host()
	// What was open before may be more than the limit; nothing is opened beyond it.
	limit := unix.Rlimit{Cur: uint64(descriptors), Max: uint64(descriptors)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Println(err)
		return 1
	}
	go func() {
		for i := range pods {
			p := executor.Pod{ID: executor.ID{Owner: "poor", Node: "n", Attempt: i}, Main: "main"}
			p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Command: []string{"sleep", "1"}}}
			for {
				err := e.Start(context.Background(), p)
				var later *executor.TransientError
				if !errors.As(err, &later) {
					if err != nil {
						fmt.Println("start:", err)
						os.Exit(1)
					}
					break
				}
				<-time.After(10 * time.Millisecond)
			}
		}
	}()
	ends := map[executor.Phase]int{}
	for ended := 0; ended < pods; {
		r := <-e.Reports()
		if !r.Phase.Done() {
			continue
		}
		ended++
		ends[r.Phase]++
		if r.Phase != executor.Succeeded {
			fmt.Printf("%+v\n", r)
		}
		for e.Acknowledge(context.Background(), r.ID) != nil {
			<-time.After(10 * time.Millisecond)
		}
	}
	fmt.Println(ends)
	return 0
}

// Too few descriptors for many pods at once is no fault of any of them: they wait, and all of them run.
func TestFewDescriptors(t *testing.T) {
	needRoot(t)
	const pods = 150
	out, err := exec.Command(os.Args[0], poorArg, t.TempDir(), initBinary, strconv.Itoa(pods), "48").CombinedOutput()
	if want := fmt.Sprintf("map[Succeeded:%d]\n", pods); err != nil || !endsWith(string(out), want) {
		t.Fatalf("%v\n%.4000s", err, out)
	}
}

func endsWith(text, end string) bool {
	return len(text) >= len(end) && text[len(text)-len(end):] == end
}
