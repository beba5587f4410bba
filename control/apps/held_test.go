package apps_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/failure"
)

// An Application that is left out stays at what it has on record though its source has gone on, until it is rolled back to the newest.
func TestApplicationsThatAreLeftOut(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("api", "api:1")})
	w.define(application(""))
	w.await("first sync", func() bool { return w.app("prod").Revision == "c1" && w.app("prod").Sync == plan.Synced })
	w.stop()
	w.commit("c2", map[string]string{"a.yaml": deployment("api", "api:2")})
	p := w.c.Planners()[0]
	page, err := p.Plan(t.Context(), "", 10)
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != "application/default/prod" ||
		page.Items[0].What != "what the record says of it (c1) is started, and it is synced if its source, or the newest release on record, is another" {
		t.Fatalf("planned is %+v, %v", page, err)
	}
	for range 2 {
		if err := p.Leave(t.Context(), "application/default/prod", "user:ada"); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Leave(t.Context(), "application/default/none", "user:ada"); failure.KindOf(err) != failure.NotFound {
		t.Errorf("what there is not: %v", err)
	}
	if page, err := p.Plan(t.Context(), "", 10); err != nil || !strings.HasSuffix(page.Items[0].What, "and it stays at c1") {
		t.Errorf("planned is %+v, %v", page, err)
	}
	looks := w.lists.Load()
	w.start()
	w.await("it is looked at", func() bool { return w.lists.Load() > looks && w.app("prod").Pinned == "c1" })
	if a := w.app("prod"); a.Revision != "c1" || w.images() != "api:1" {
		t.Errorf("it went on to %s with %s", a.Revision, w.images())
	}
	if err := w.c.Rollback(t.Context(), "default/prod", "", "user:ada"); err != nil {
		t.Fatal(err)
	}
	w.await("the newest", func() bool { return w.app("prod").Revision == "c2" && w.images() == "api:2" })
}
