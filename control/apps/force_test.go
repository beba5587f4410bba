package apps_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy/plan"
)

// TestForceRecreates: what cannot be changed in place is made anew by Force, by one sync, which waits for the old one to go. Without Force the
// Application says what to do.
func TestForceRecreates(t *testing.T) {
	w := newWorld(t)
	pod := func(image string) map[string]string {
		return map[string]string{"p.yaml": "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: '" + image + "'}]}}"}
	}
	w.commit("c1", pod("one:1"))
	w.define(application(""))
	w.await("it runs", func() bool { return w.images() == "one:1" && w.app("prod").Sync == plan.Synced })
	w.commit("c2", pod("one:2"))
	w.c.Refresh("")
	w.await("it says what to do", func() bool {
		a := w.app("prod")
		return w.images() == "one:1" && strings.Contains(string(a.Operation), "Force=true")
	})
	w.define(strings.Replace(application(""), "CreateNamespace=true", "CreateNamespace=true, Force=true", 1))
	w.await("it is recreated", func() bool {
		return w.images() == "one:2" && w.app("prod").Sync == plan.Synced && w.app("prod").Revision == "c2"
	})
}
