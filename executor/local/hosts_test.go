package local

import "testing"

// TestNamesOfANamespace: what the search list of a pod has in Kubernetes (concepts/services-networking/dns-pod-service): within its namespace a Service by
// its bare name and a pod by its own and its Service's.
func TestNamesOfANamespace(t *testing.T) {
	e := &Executor{hosts: map[string][]string{
		"10.0.0.1": {"db.prod", "db.prod.svc.cluster.local", "db-0.db.prod", "db-0.db.prod.svc.cluster.local"},
		"10.0.0.2": {"a.b.c.prod.svc.cluster.local"},
	}}
	for namespace, want := range map[string]string{
		"prod": "10.0.0.1\tdb db-0.db db.prod db.prod.svc.cluster.local db-0.db.prod db-0.db.prod.svc.cluster.local\n10.0.0.2\ta.b.c.prod.svc.cluster.local\n",
		"test": "10.0.0.1\tdb.prod db.prod.svc.cluster.local db-0.db.prod db-0.db.prod.svc.cluster.local\n10.0.0.2\ta.b.c.prod.svc.cluster.local\n",
	} {
		if got := e.extraHosts(namespace); got != want {
			t.Errorf("%s: %q, want %q", namespace, got, want)
		}
	}
}
