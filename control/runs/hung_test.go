package runs_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/workflow"
)

const tarpit = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: NAME}
spec:
  entrypoint: main
  templates:
  - name: main
    steps: [[{name: ask, template: ask, withSequence: {count: "300"}}]]
  - {name: ask, http: {url: "URL", timeoutSeconds: 3600}}
`

const remembered = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: remembered}
spec:
  entrypoint: main
  templates:
  - {name: main, memoize: {key: k, cache: {configMap: {name: c}}}, container: {image: busybox, command: [sail]}}
`

const asking = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: asking}
spec:
  entrypoint: main
  templates:
  - {name: main, http: {url: "URL"}}
`

// A run whose requests go to a server that does not answer holds up neither the questions nor the requests of other runs.
func TestRequestsThatHangHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{})
	defer d.close()
	end := make(chan struct{})
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/well" {
			return
		}
		asked.Add(1)
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(end)
	d.submit(strings.NewReplacer("NAME", "hung", "URL", srv.URL).Replace(tarpit))
	await(t, func() bool { return asked.Load() >= 10 })
	d.submit(remembered)
	d.submit(strings.ReplaceAll(asking, "URL", srv.URL+"/well"))
	d.until("others' end", func() bool { return d.phase("remembered").Done() && d.phase("asking").Done() })
	if d.phase("remembered") != workflow.Succeeded || d.phase("asking") != workflow.Succeeded {
		t.Errorf("they are %s and %s", d.phase("remembered"), d.phase("asking"))
	}
	if n := asked.Load(); n > 16 {
		t.Errorf("one run has %d requests under way", n)
	}
}
