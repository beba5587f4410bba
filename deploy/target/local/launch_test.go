package local_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/executor"
)

// later is a machine whose clock the test moves on.
func later(t *testing.T) (m *machine, move func(time.Duration)) {
	t.Helper()
	m = newMachine(t)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	var ahead atomic.Int64
	target, err := local.Open(t.Context(), local.Options{Ledger: m.ledger, Executor: m.executor, Logs: m.executor, Commands: m.executor, Front: m.front,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	m.Target = target
	n := 0
	return m, func(d time.Duration) {
		ahead.Add(int64(d))
		n++ // anything that is applied has the target look again
		m.apply(fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: tick%d, namespace: prod}}", n))
	}
}

func (m *machine) begun() (n int) {
	m.executor.mu.Lock()
	defer m.executor.mu.Unlock()
	for _, times := range m.executor.starts {
		n += times
	}
	return n
}

func (m *machine) setRefuse(is bool) {
	m.executor.mu.Lock()
	m.executor.refuse = is
	m.executor.mu.Unlock()
}

// A pod that cannot be launched, whether the executor says so at once or only has it on record, is tried again after 10 s,
// doubling to 5 min as Kubernetes does, is Degraded with the reason meanwhile, and comes up as soon as it can.
func TestPodThatIsNotLaunched(t *testing.T) {
	for _, image := range []string{"refused", "unlaunched"} {
		t.Run(image, func(t *testing.T) {
			m, move := later(t)
			m.setRefuse(true)
			m.apply(strings.Replace(strings.Split(app(image), "\n---\n")[0], "replicas: 3", "replicas: 1", 1))
			begins := 1
			if image == "unlaunched" {
				begins = 2 // once at once: it may be no fault of the pod's
			}
			m.await("it was tried", func() bool { return m.begun() == begins })
			for _, seconds := range []int{10, 20, 40, 80, 160, 300, 300} {
				wait := time.Duration(seconds) * time.Second
				want := fmt.Sprintf("back-off %s starting the pod", wait)
				m.await(want, func() bool {
					return strings.Contains(podText(m), want) && strings.Contains(podText(m), "CreateContainerError")
				})
				move(wait - 5*time.Second)
				if got := m.begun(); got != begins {
					t.Fatalf("before %s are over it was tried: %d times", wait, got)
				}
				begins++
				move(5 * time.Second)
				m.await("it is tried again", func() bool { return m.begun() == begins })
			}
			m.awaitHealth("Pod", podName(m), health.Degraded)
			m.setRefuse(false)
			move(5 * time.Minute)
			m.awaitHealth("Deployment", "api", health.Healthy)
			if text := podText(m); strings.Contains(text, "back-off") || !strings.Contains(text, `"restartCount":0`) {
				t.Errorf("it runs as its first attempt, and nothing is left of the trouble: %s", text)
			}
		})
	}
}

func podName(m *machine) string {
	all, err := m.List(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, o := range all {
		if o.GetKind() == "Pod" {
			return o.GetName()
		}
	}
	return ""
}

func podText(m *machine) string {
	name := podName(m)
	if name == "" {
		return ""
	}
	if o := m.get("Pod", name); o != nil {
		return toText(o)
	}
	return ""
}

// What was on record and not launched goes with its pod, from the executor too; what nobody knows any more goes as well.
func TestPodThatIsNotLaunchedGoes(t *testing.T) {
	m, _ := later(t)
	m.setRefuse(true)
	m.apply("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: prod}, spec: {containers: [{name: c, image: unlaunched}]}}")
	m.await("it waits", func() bool { return strings.Contains(toText(m.get("Pod", "p")), "back-off") })
	if err := m.Delete(t.Context(), deploy.Key{Kind: "Pod", Namespace: "prod", Name: "p"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	idle := func() int {
		m.executor.mu.Lock()
		defer m.executor.mu.Unlock()
		return len(m.executor.idle) + len(m.executor.final)
	}
	m.await("it is gone", func() bool { return m.get("Pod", "p") == nil && idle() == 0 })
	id := executor.ID{Owner: local.OwnerPrefix + "nobodys", Node: "x", Attempt: 1}
	m.executor.mu.Lock()
	m.executor.idle[id] = true
	m.executor.mu.Unlock()
	m.executor.reports <- executor.Report{ID: id, Phase: executor.Pending, Reason: executor.ReasonNotLaunched}
	m.await("nobody's is gone", func() bool { return idle() == 0 })
}
