package posts

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/failure"
)

// What a forge was to be told and is left out it is not told; the rest it is.
func TestPostsThatAreLeftOut(t *testing.T) {
	d := newDesk(t)
	for _, name := range []string{"build", "lint", "test"} {
		d.status(name, "success")
	}
	p := d.Planner()
	var ids []string
	for after := ""; ; {
		page, err := p.Plan(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ID)
			if !strings.HasPrefix(item.What, "forge ci/lab is told the status ") || !strings.HasSuffix(item.What, " of team/harbour at 222222222222: success") {
				t.Errorf("planned is %q", item.What)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(ids) != 3 {
		t.Fatalf("planned are %v", ids)
	}
	if err := p.Leave(t.Context(), ids[1], "user:ada"); err != nil {
		t.Fatal(err)
	}
	if err := p.Leave(t.Context(), ids[1], "user:ada"); failure.KindOf(err) != failure.NotFound {
		t.Errorf("left out twice: %v", err)
	}
	d.pass(0)
	if got := d.there(); got != "build success, test success" && got != "test success, build success" {
		t.Errorf("the forge was told %s", got)
	}
	if diff := cmp.Diff(map[string]string{"build": "sent 1", "lint": "failed 0", "test": "sent 1"}, d.states()); diff != "" {
		t.Error(diff)
	}
}
