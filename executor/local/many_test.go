package local_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
)

// manyPods is how many pods [TestManyPodsWithNetworks] has run at the same time; "1000" takes minutes.
const manyPods = "TIPHYS_TEST_PODS"

// More pods than a bridge has ports run at the same time, each with a network of its own: the last one reaches the first
// by its address, and this machine reaches both.
func TestManyPodsWithNetworks(t *testing.T) {
	needRoot(t)
	pods, err := strconv.Atoi(os.Getenv(manyPods))
	if err != nil {
		t.Skipf("SKIPPED: more live pods than a bridge takes; set %s to their number, 1100", manyPods)
	}
	e := open(t, t.TempDir(), withImages, func(o *local.Options) {
		o.Network.Subnet = fmt.Sprintf("100.%d.0.0/16", 64+os.Getpid()&63)
	})
	defer func() { _ = e.Close() }()
	began := time.Now()
	var first executor.Report
	for i := range pods {
		p := shell(t, "sleep 100000")
		if i == 0 {
			p = shell(t, "exec python3 -m http.server 8000 --directory /etc")
		}
		p.ID.Attempt = i
		if err := e.Start(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
		}
	}
	seen := map[string]bool{first.IP: true}
	for limit := time.After(20 * time.Minute); len(seen) < pods; {
		select {
		case r := <-e.Reports():
			if r.Phase.Done() {
				t.Fatalf("%+v", r)
			}
			if r.Phase == executor.Running {
				seen[r.IP] = true
			}
		case <-limit:
			t.Fatalf("%d pods with an address of their own run", len(seen))
		}
	}
	threads, descriptors := costs(t)
	t.Logf("%d pods run after %s; this process has %d threads and %d descriptors", pods, time.Since(began).Round(time.Second), threads, descriptors)
	if descriptors > 100 {
		t.Errorf("%d descriptors", descriptors)
	}
	client := shell(t, `python3 -c 'import urllib.request; print(len(urllib.request.urlopen("http://`+first.IP+`:8000/hostname", timeout=20).read()) > 0)'`)
	client.ID.Attempt = pods
	result(t, run(t, e, client), "True")
	list, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if err := e.Stop(t.Context(), r.ID, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range list {
		r := report(t, e, done)
		if err := e.Acknowledge(t.Context(), r.ID); err != nil {
			t.Error(err)
		}
	}
}
