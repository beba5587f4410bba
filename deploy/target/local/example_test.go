package local_test

import (
	"os"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy/health"
)

// TestTheExample: examples/database.yaml comes up, with its claim and its names.
func TestTheExample(t *testing.T) {
	text, err := os.ReadFile("../../../examples/database.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	names := &hostNames{}
	m.names = names
	m.reopen()
	m.apply("{apiVersion: v1, kind: Secret, metadata: {name: database, namespace: prod}, stringData: {password: x}}")
	m.apply(strings.ReplaceAll(string(text), "metadata: {name: database}", "metadata: {name: database, namespace: prod}"))
	m.awaitHealth("StatefulSet", "database", health.Healthy)
	m.awaitHealth("PersistentVolumeClaim", "data-database-0", health.Healthy)
	m.await("its names are there", func() bool {
		return len(names.of("database-0.database.prod.svc.cluster.local")) == 1 && len(names.of("database.prod")) == 1
	})
	order, _ := m.executor.order("database-0")
	if len(order.Claims) != 1 || len(order.Resolve["Secret/prod/database"]) != 1 {
		t.Errorf("it was started with %+v", order)
	}
}
