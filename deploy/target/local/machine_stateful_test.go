package local_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// TestStatefulSetOnThisMachine: real pods reach each other by the names that they keep, and find what they wrote after they were replaced and after the
// server was away.
func TestStatefulSetOnThisMachine(t *testing.T) {
	m := onThisMachine(t)
	set := func(version string) string {
		return `{apiVersion: v1, kind: Service, metadata: {name: db, namespace: prod}, spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: prod}, spec: {replicas: 2, serviceName: db, selector: {matchLabels: {app: db}}, updateStrategy: {type: RollingUpdate},
  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}],
  template: {metadata: {labels: {app: db}}, spec: {terminationGracePeriodSeconds: 5, containers: [{name: c, image: "x:1", ports: [{name: http, containerPort: 8080}],
    env: [{name: VERSION, value: ` + version + `}, {name: DATA, value: /data}], volumeMounts: [{name: data, mountPath: /data}],
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, failureThreshold: 30}}]}}}}`
	}
	ask := func(pod, query string) string {
		ip, _ := field(m.get("Pod", pod), "status", "podIP").(string)
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + ip + ":8080/?" + query)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		return string(body)
	}
	m.apply("{apiVersion: v1, kind: Namespace, metadata: {name: prod}}")
	m.apply(set("v1"))
	m.awaitHealth("StatefulSet", "db", health.Healthy)
	for pod, peer := range map[string]string{"db-0": "db-1.db", "db-1": "db-0.db.prod.svc.cluster.local"} {
		m.await(pod+" finds "+peer, func() bool { return ask(pod, "ask=http://"+peer+":8080/") == "v1, 1 starts: v1, 1 starts" })
	}
	if got := ask("db-1", "host"); got != "db-1" {
		t.Errorf("its host name is %q", got)
	}
	m.shut()
	m.open()
	m.apply(set("v2"))
	m.await("they are replaced and find what was written", func() bool {
		h, _ := health.Of(m.get("StatefulSet", "db"))
		return h.Status == health.Healthy && ask("db-0", "") == "v2, 2 starts" && ask("db-1", "") == "v2, 2 starts"
	})
	if err := m.Delete(t.Context(), deploy.Key{Kind: "Namespace", Name: "prod"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	m.await("everything is gone", func() bool { all, _ := m.List(t.Context(), ""); return len(all) == 0 })
}
