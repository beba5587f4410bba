package local_test

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
)

// damage writes into the ledger's file what no program would.
func (m *machine) damage(statement string) {
	m.t.Helper()
	db, err := sql.Open("sqlite", m.path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if done, err := db.Exec(statement); err != nil {
		m.t.Fatal(err)
	} else if n, _ := done.RowsAffected(); n != 1 {
		m.t.Fatalf("%s: %d rows", statement, n)
	}
}

const chartMap = `{apiVersion: v1, kind: ConfigMap, metadata: {name: chart, namespace: prod}, data: {depth: "12"}}`

// An object whose row is damaged is read from its entry. If that cannot be read either it holds its own Application, and the target opens
// and looks after all others.
func TestDamagedObject(t *testing.T) {
	m := newMachine(t)
	m.apply(chartMap)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	chart := deploy.Key{Kind: "ConfigMap", Namespace: "prod", Name: "chart"}
	for _, body := range []string{`{`, `{"key": {"kind": "ConfigMap"}}`, `null`, `{"key": {"kind": "ConfigMap", "namespace": "prod", "name": "other"}, "object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "prod", "name": "other"}}}`} {
		m.damage(`UPDATE projected SET body = '` + body + `' WHERE key = '/ConfigMap:prod/chart'`)
		m.open()
		if got := m.get("ConfigMap", "chart"); got == nil || got.Object["data"] == nil || m.Trouble() != "" {
			t.Fatalf("the row says %s: %v, trouble %q", body, got, m.Trouble())
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m.damage(`UPDATE entries SET body = '[' WHERE subject = 'object//ConfigMap:prod/chart'`)
	m.open()
	if _, err := m.Get(t.Context(), chart); !failure.Is(err, failure.Stalled) || errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("the damaged object is asked for: %v", err)
	}
	if _, err := m.List(t.Context(), "default/app"); !failure.Is(err, failure.Stalled) {
		t.Errorf("its Application is asked for: %v", err)
	}
	if list, err := m.List(t.Context(), "default/other"); err != nil || len(list) > 0 {
		t.Errorf("another Application is asked for: %v, %v", list, err)
	}
	if err := m.Delete(t.Context(), chart, deploy.ApplyOptions{Application: "default/app"}); !failure.Is(err, failure.Stalled) {
		t.Errorf("it is deleted: %v", err)
	}
	wish := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(chartMap), &wish.Object); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(t.Context(), wish, deploy.ApplyOptions{Application: "default/app"}); !failure.Is(err, failure.Stalled) {
		t.Errorf("it is applied: %v", err)
	}
	if !strings.Contains(m.Trouble(), "chart") {
		t.Errorf("the trouble is %q", m.Trouble())
	}
	m.apply(strings.Split(app("app:v1"), "\n---\n")[0])
	m.awaitHealth("Deployment", "api", "Healthy")
}

// A Secret that cannot be opened keeps from starting only the pods that name it.
func TestSecretThatCannotBeOpened(t *testing.T) {
	m := newMachine(t)
	m.apply(`{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: prod}, stringData: {word: sesame}}`)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	box, err := secret.NewBox([]byte("another key of thirty-two bytes!"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := local.Open(t.Context(), local.Options{Ledger: m.ledger, Executor: m.executor, Logs: m.executor, Commands: m.executor, Box: box, Front: m.front})
	if err != nil {
		t.Fatal(err)
	}
	m.Target = target
	m.apply(`{apiVersion: v1, kind: Pod, metadata: {name: locked, namespace: prod}, spec: {containers: [{name: c, image: "app:v1", envFrom: [{secretRef: {name: key, optional: true}}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: open, namespace: prod}, spec: {containers: [{name: c, image: "app:v1"}]}}`)
	m.awaitHealth("Pod", "open", "Healthy")
	m.await("the other pod says why it does not start", func() bool {
		raw, _ := m.get("Pod", "locked").MarshalJSON()
		return strings.Contains(string(raw), "open Secret key")
	})
}

// sullen is a front, names and addresses that refuse while it says so.
type sullen struct {
	local.Front
	refuses atomic.Bool
	named   atomic.Int64 // how many addresses pods can resolve
}

var errSullen = errors.New("not now")

func (s *sullen) Set(table front.Table) error {
	if s.refuses.Load() {
		return errSullen
	}
	return s.Front.Set(table)
}

func (s *sullen) SetHosts(hosts map[string][]string) error {
	if s.refuses.Load() {
		return errSullen
	}
	s.named.Store(int64(len(hosts)))
	return nil
}

func (s *sullen) Range() netip.Prefix { return netip.MustParsePrefix("127.88.7.0/24") }

func (s *sullen) Add(netip.Addr) error { return nil }

func (s *sullen) Remove(netip.Addr) error {
	if s.refuses.Load() {
		return errSullen
	}
	return nil
}

// What the network refuses is tried again, and shown as trouble until it succeeds.
func TestRefusedByTheNetwork(t *testing.T) {
	m := newMachine(t)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	var ahead atomic.Int64
	s := &sullen{Front: m.front}
	target, err := local.Open(t.Context(), local.Options{Ledger: m.ledger, Executor: m.executor, Logs: m.executor, Commands: m.executor, Front: s, Names: s, Addresses: s,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	m.Target = target
	service := `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: prod}, spec: {selector: {app: web}, ports: [{port: 80}]}}`
	m.apply(service)
	m.await("the service has its address", func() bool {
		return s.named.Load() > 0
	})
	s.refuses.Store(true)
	if err := m.Delete(t.Context(), deploy.Key{Kind: "Service", Namespace: "prod", Name: "web"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	m.await("the trouble is shown", func() bool {
		return strings.Contains(m.Trouble(), errSullen.Error()) && strings.Contains(m.Trouble(), "and 2 more")
	})
	s.refuses.Store(false)
	ahead.Add(int64(time.Minute))
	m.apply(`{apiVersion: v1, kind: ConfigMap, metadata: {name: tick, namespace: prod}}`) // has the target look
	m.await("it is over", func() bool { return m.Trouble() == "" })
}

// unwilling is an executor that does not stop pods while it says so, and whose commands fail.
type unwilling struct {
	*inProcess
	refuses atomic.Bool
}

func (u *unwilling) Stop(ctx context.Context, id executor.ID, grace time.Duration) error {
	if u.refuses.Load() {
		return errSullen
	}
	return u.inProcess.Stop(ctx, id, grace)
}

func (u *unwilling) Exec(context.Context, executor.ID, string, []string) (int, []byte, error) {
	return 3, nil, nil
}

// A pod that cannot be stopped is trouble until it is. A hook that failed is in the entry of the pod's end.
func TestPodThatCannotBeStopped(t *testing.T) {
	m := newMachine(t)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	u := &unwilling{inProcess: m.executor}
	target, err := local.Open(t.Context(), local.Options{Ledger: m.ledger, Executor: u, Logs: u, Commands: u, Front: m.front})
	if err != nil {
		t.Fatal(err)
	}
	m.Target = target
	m.apply(`{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: prod}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "app:v1", lifecycle: {preStop: {exec: {command: [drain]}}}}]}}`)
	m.awaitHealth("Pod", "web", "Healthy")
	u.refuses.Store(true)
	if err := m.Delete(t.Context(), deploy.Key{Kind: "Pod", Namespace: "prod", Name: "web"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	m.await("the trouble is shown", func() bool { return m.Trouble() == "stop pod web: not now" })
	u.refuses.Store(false)
	m.await("the pod is gone", func() bool { return m.get("Pod", "web") == nil })
	m.await("it is over", func() bool { return m.Trouble() == "" })
	entries, err := m.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{deploy.KindObjectDeleted}})
	if err != nil || len(entries) != 1 || !strings.Contains(string(entries[0].Body), "preStop of container c: exit code 3") {
		t.Errorf("the entry of its end: %v, %v", entries, err)
	}
}
