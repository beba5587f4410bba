package local_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

func mounting(word string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: words, namespace: prod}, data: {word: %s}}", word)
}

// told gives the words that pods were told, each with how often, and forgets them.
func (m *machine) told() map[string]int {
	m.executor.mu.Lock()
	defer m.executor.mu.Unlock()
	words := map[string]int{}
	for _, p := range m.executor.told {
		words[p.Resolve["ConfigMap/prod/words"]["word"].Reveal()+p.Resolve["Secret/prod/keys"]["key"].Reveal()]++
	}
	m.executor.told = nil
	return words
}

func (m *machine) fail(err error) {
	m.executor.mu.Lock()
	m.executor.failing = err
	m.executor.mu.Unlock()
}

// awaitTold waits until pods were told a word, as many as there are, and nothing else.
func (m *machine) awaitTold(word string, pods int) {
	m.t.Helper()
	n := 0
	m.await(fmt.Sprintf("%d pods are told %s", pods, word), func() bool {
		for was, times := range m.told() {
			if was != word {
				m.t.Fatalf("a pod was told %q", was)
			}
			n += times
		}
		return n == pods
	})
}

// Pods follow the ConfigMaps and Secrets that they mount, without a new pod (Kubernetes, Concepts, ConfigMaps, "Mounted ConfigMaps are updated
// automatically"), and those that only take variables from one are left alone.
func TestMountedObjectsAreFollowed(t *testing.T) {
	m := newMachine(t)
	m.apply(mounting("one"))
	m.apply("{apiVersion: v1, kind: Secret, metadata: {name: keys, namespace: prod}, stringData: {key: a}}")
	deployment := strings.Split(app("app:v1"), "\n---\n")[0]
	m.apply(strings.ReplaceAll(deployment, "name: api", "name: other") + "\n        envFrom: [{configMapRef: {name: words}}]")
	m.apply(deployment + `
      volumes:
      - {name: words, configMap: {name: words}}
      - {name: keys, projected: {sources: [{secret: {name: keys}}]}}`)
	for _, name := range []string{"api", "other"} {
		m.awaitHealth("Deployment", name, health.Healthy)
	}
	m.told()
	m.apply(mounting("two"))
	m.awaitTold("twoa", 3)
	m.apply("{apiVersion: v1, kind: Secret, metadata: {name: keys, namespace: prod}, stringData: {key: b}}")
	m.awaitTold("twob", 3)
	m.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: unrelated, namespace: prod}, data: {word: x}}")
	m.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: words, namespace: other}, data: {word: x}}")

	// What fails is tried again, and shown until it succeeds.
	m.fail(errors.New("the pod does not answer"))
	m.apply(mounting("three"))
	m.await("the failure is shown", func() bool { return strings.Contains(m.Trouble(), "the pod does not answer") })
	m.fail(nil)
	m.await("it is over", func() bool { return m.Trouble() == "" })
	if words := m.told(); words["threeb"] < 4 || len(words) != 1 {
		t.Errorf("they were told %v", words)
	}

	// A server that comes back does not know what they were told.
	before := len(m.executor.running())
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m.open()
	m.awaitTold("threeb", 3)
	if after := len(m.executor.running()); after != before {
		t.Errorf("%d pods run, before %d", after, before)
	}

	// What can never be told is not tried for ever.
	m.fail(fmt.Errorf("too old: %w", errors.ErrUnsupported))
	m.apply(mounting("four"))
	m.awaitTold("fourb", 3)
	m.fail(nil)
	if err := m.Delete(t.Context(), deploy.Key{Kind: "ConfigMap", Namespace: "prod", Name: "words"}, deploy.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	m.awaitTold("b", 3) // gone: for whom it is optional is without it
	if text := m.Trouble(); text != "" {
		t.Errorf("it says %q", text)
	}
}
