package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
)

// inProcess is an executor whose pods are HTTP servers of this process, each on a loopback address of its own. An
// image says how the server behaves: "app:v1" answers its image's name; "broken" is never ready; "crash" ends at
// once; "echo" says how it is asked; "noimage" cannot be pulled; "task" succeeds at once; "badtask" fails; "refused" and "unlaunched" are not started
// while refuse says so, with an error or on record only. Like a real pod it goes on when the target is closed, and it breaks off what
// it is doing when it is stopped.
type inProcess struct {
	t       testing.TB
	mu      sync.Mutex
	reports chan executor.Report
	pods    map[executor.ID]*inPod
	starts  map[executor.ID]int
	final   map[executor.ID]executor.Report
	next    int
	orders  map[executor.ID]executor.Pod
	refuse  bool
	idle    map[executor.ID]bool // on record, and not launched
	told    []executor.Pod       // whose volumes were refreshed
	failing error                // what Refresh says
	claims  map[string]executor.Claim
	// stubborn are pods that do not end when they are told to, while it is true.
	stubborn bool
}

type inPod struct {
	server *http.Server
	report executor.Report
}

func newInProcess(t testing.TB) *inProcess {
	e := &inProcess{t: t, reports: make(chan executor.Report, 4096), pods: map[executor.ID]*inPod{}, starts: map[executor.ID]int{},
		final: map[executor.ID]executor.Report{}, orders: map[executor.ID]executor.Pod{}, idle: map[executor.ID]bool{}, claims: map[string]executor.Claim{}}
	t.Cleanup(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, p := range e.pods {
			_ = p.server.Close()
		}
	})
	return e
}

func (e *inProcess) Check(context.Context, executor.Pod) ([]executor.Problem, error) { return nil, nil }
func (e *inProcess) Capabilities(context.Context) (executor.Capabilities, error) {
	return executor.Capabilities{}, nil
}
func (e *inProcess) List(context.Context) ([]executor.Report, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []executor.Report
	for _, p := range e.pods {
		list = append(list, p.report)
	}
	for _, r := range e.final {
		list = append(list, r)
	}
	return list, nil
}

func (e *inProcess) Start(_ context.Context, p executor.Pod) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r, ended := e.final[p.ID]; ended {
		e.reports <- r
		return nil
	}
	if running := e.pods[p.ID]; running != nil {
		e.reports <- running.report
		return nil
	}
	e.starts[p.ID]++
	e.orders[p.ID] = p
	image := p.Pod.Spec.Containers[0].Image
	r := executor.Report{ID: p.ID, StartedAt: time.Now()}
	end := func(phase executor.Phase, reason string, code int) error {
		r.Phase, r.Reason, r.FinishedAt, r.Message = phase, reason, time.Now(), fmt.Sprintf("main: Error (exit code %d)", code)
		r.ExitCode = &code
		e.final[p.ID] = r
		e.reports <- r
		return nil
	}
	if e.refuse && image == "refused" {
		return errors.New("the disk is full")
	}
	if delete(e.idle, p.ID); e.refuse && image == "unlaunched" {
		e.idle[p.ID] = true
		e.reports <- executor.Report{ID: p.ID, Phase: executor.Pending, Reason: executor.ReasonNotLaunched, Message: "it was not launched"}
		return nil
	}
	switch image {
	case "crash", "badtask":
		return end(executor.Failed, "", 1)
	case "task":
		return end(executor.Succeeded, "", 0)
	case "noimage":
		return end(executor.Error, executor.ReasonImage, 0)
	}
	e.next++
	r.Phase, r.IP = executor.Running, fmt.Sprintf("127.44.%d.%d", e.next/250, e.next%250+1)
	listener, err := net.Listen("tcp", r.IP+":8080")
	if err != nil {
		return err
	}
	started := time.Now()
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/ready" && (image == "broken" || time.Since(started) < 30*time.Millisecond):
			w.WriteHeader(http.StatusServiceUnavailable)
		case image == "echo":
			body, err := io.ReadAll(req.Body)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = fmt.Fprint(w, req.RequestURI, " for ", req.Host, " ", req.Header.Get("X-Forwarded-Prefix"), len(body))
		case strings.HasPrefix(req.URL.Path, "/slow"):
			time.Sleep(20 * time.Millisecond) // A request that is under way while pods come and go.
			_, _ = io.WriteString(w, image)
		case req.URL.Path == "/headers":
			_, _ = io.WriteString(w, req.Host+" "+req.Header.Get("X-Forwarded-For")+" "+req.Header.Get("X-Forwarded-Host")+" "+req.Header.Get("X-Forwarded-Proto"))
		default:
			_, _ = io.WriteString(w, image)
		}
	})}
	e.pods[p.ID] = &inPod{server: server, report: r}
	go func() { _ = server.Serve(listener) }()
	e.reports <- r
	return nil
}

func (e *inProcess) Stop(_ context.Context, id executor.ID, _ time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.idle[id] {
		delete(e.idle, id)
		r := executor.Report{ID: id, Phase: executor.Failed, Reason: executor.ReasonStopped, FinishedAt: time.Now()}
		e.final[id] = r
		e.reports <- r
		return nil
	}
	p := e.pods[id]
	if p == nil || e.stubborn {
		return nil
	}
	_ = p.server.Close()
	delete(e.pods, id)
	r := executor.Report{ID: id, Phase: executor.Failed, Reason: executor.ReasonStopped, StartedAt: p.report.StartedAt, FinishedAt: time.Now()}
	e.final[id] = r
	e.reports <- r
	return nil
}

func (e *inProcess) Reports() <-chan executor.Report { return e.reports }
func (e *inProcess) Acknowledge(_ context.Context, id executor.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.final, id)
	return nil
}

// Logs gives two lines for each container, and for who follows a running one nothing more until they go.
func (e *inProcess) Logs(ctx context.Context, id executor.ID, container string, o executor.LogOptions) (io.ReadCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.starts[id] == 0 || !slices.ContainsFunc(e.orders[id].Pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == container }) {
		return nil, executor.ErrNotFound
	}
	text := fmt.Sprintf("one\nlog of %s %d\n", container, id.Attempt)
	if o.FromLine == -1 {
		text = text[len("one\n"):]
	}
	if !o.Follow || e.pods[id] == nil {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	go func() { _, _ = io.WriteString(w, text) }()
	return r, nil
}
func (e *inProcess) Exec(context.Context, executor.ID, string, []string) (int, []byte, error) {
	return 0, nil, nil
}

// Refresh notes what a pod is told.
func (e *inProcess) Refresh(_ context.Context, p executor.Pod) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, p)
	return e.failing
}

func (e *inProcess) Close() error { return nil }

// running gives the ids of the pods that run, and how often each id was started.
func (e *inProcess) running() map[executor.ID]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := map[executor.ID]bool{}
	for id := range e.pods {
		found[id] = true
	}
	return found
}

// CreateClaim implements executor.Claims.
func (e *inProcess) CreateClaim(_ context.Context, c executor.Claim) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if was, there := e.claims[c.Namespace+"/"+c.Name]; there && was.Owner != c.Owner {
		return errors.New("it was made for somebody else")
	}
	e.claims[c.Namespace+"/"+c.Name] = c
	return nil
}

// FindClaim implements executor.Claims.
func (e *inProcess) FindClaim(_ context.Context, namespace, name string) (executor.Claim, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, there := e.claims[namespace+"/"+name]
	if !there {
		return c, executor.ErrNotFound
	}
	return c, nil
}

// DeleteClaim implements executor.Claims.
func (e *inProcess) DeleteClaim(_ context.Context, namespace, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.pods {
		for _, v := range e.orders[id].Pod.Spec.Volumes {
			if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == name {
				e.t.Errorf("the volume %s was to be removed while pod %s has it", name, id.Node)
				return &executor.TransientError{Err: errors.New("a pod has it")}
			}
		}
	}
	delete(e.claims, namespace+"/"+name)
	return nil
}

// volumes are how many volumes there are.
func (e *inProcess) volumes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.claims)
}

// order is what the executor was given for the present attempt of a pod by its name.
func (e *inProcess) order(name string) (executor.Pod, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.pods {
		if id.Node == name {
			return e.orders[id], true
		}
	}
	return executor.Pod{}, false
}

// alive gives how many pods of each name run.
func (e *inProcess) alive() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := map[string]int{}
	for id := range e.pods {
		found[id.Node]++
	}
	return found
}
