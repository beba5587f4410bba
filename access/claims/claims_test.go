package claims

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/access/podpolicy"
)

// events draws what events may say, from few values so that they meet.
func events() *rapid.Generator[Event] {
	return rapid.Custom(func(t *rapid.T) Event {
		e := Event{Nobody: rapid.IntRange(0, 5).Draw(t, "nobody") == 0}
		if rapid.IntRange(0, 4).Draw(t, "git") == 0 {
			return e
		}
		e.Forge = rapid.SampledFrom([]string{"", "ports/lab"}).Draw(t, "forge")
		e.Repository = rapid.SampledFrom([]string{"harbour", "fort"}).Draw(t, "repository")
		e.Name = e.Forge + "/" + e.Repository
		e.Ref = rapid.SampledFrom([]string{"refs/heads/main", "refs/heads/try"}).Draw(t, "ref")
		e.Commit = rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "commit")
		if e.MergeRequest = rapid.IntRange(0, 2).Draw(t, "merge request"); e.MergeRequest == 0 {
			e.Protected = e.Ref == "refs/heads/main"
		} else if rapid.Bool().Draw(t, "fork") {
			e.Fork = "mallory/harbour"
		}
		if e.Nobody {
			e.Name = ""
		}
		return e
	})
}

// TestAnotherEventGivesNothing: whatever had a hand in a run besides takes rights away or leaves them, whatever it is and in whatever order.
func TestAnotherEventGivesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Record{Kind: podpolicy.Own, Role: "admin"}.About(events().Draw(t, "about"))
		for i := range rapid.IntRange(0, 3).Draw(t, "others") {
			before := r
			e := events().Draw(t, fmt.Sprint("other ", i))
			if rapid.IntRange(0, 4).Draw(t, "manifest") == 0 {
				r = r.From(e.Name, e.Ref, rapid.Bool().Draw(t, "own"))
			} else {
				if r = r.With(e); e.Nobody && r.Protected {
					t.Errorf("protected, though nobody proved %+v: %+v", e, r)
				}
			}
			widens(t, before, r)
		}
		if r.Protected && (r.Kind == podpolicy.Nobody || r.MergeRequest != 0 || r.Fork != "") {
			t.Errorf("protected: %+v", r)
		}
	})
}

// widens fails if a record claims what one before it did not.
func widens(t *rapid.T, before, after Record) {
	t.Helper()
	a, b := before.ActsFor(), after.ActsFor()
	switch {
	case b.Protected && !a.Protected, a.Nobody && !b.Nobody, a.Fork && !b.Fork, a.MR != 0 && b.MR == 0:
		t.Errorf("%+v became %+v", before, after)
	case b.Ref != "" && b.Ref != a.Ref, b.Commit != "" && b.Commit != a.Commit, b.Repo != a.Repo || b.Forge != a.Forge:
		t.Errorf("%+v speaks for something else: %+v", before, after)
	}
	p, q := before.Subject(), after.Subject()
	if p.Kind == podpolicy.Nobody && q.Kind != podpolicy.Nobody || q.Kind == podpolicy.Own && p.Kind != podpolicy.Own {
		t.Errorf("%+v is for another: %+v", p, q)
	}
	for _, repo := range p.Repositories {
		if q.Kind != podpolicy.Nobody && !slices.Contains(q.Repositories, repo) {
			t.Errorf("the hand of %s is forgotten: %+v", repo, q)
		}
	}
}

// TestViewsOfTwoParts: a run that was submitted when its claims were kept in two parts has the same rights from the one record.
func TestViewsOfTwoParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mr := rapid.IntRange(0, 3).Draw(t, "merge request")
		acts := ActsFor{
			Forge: rapid.SampledFrom([]string{"", "ports/lab"}).Draw(t, "forge"), Repo: "harbour", Commit: "c", MR: mr,
			Nobody: rapid.Bool().Draw(t, "nobody"),
		}
		pods := podpolicy.Subject{Kind: podpolicy.Repository, Repositories: rapid.SampledFrom([][]string{{"harbour"}, {"fort", "harbour"}}).Draw(t, "repositories"), MergeRequest: mr}
		switch {
		case rapid.Bool().Draw(t, "by hand"):
			acts, pods = ActsFor{}, podpolicy.Subject{Kind: podpolicy.Own, Role: "developer"}
		case mr == 0:
			acts.Ref, pods.Ref, acts.Protected = "refs/heads/main", "refs/heads/main", rapid.Bool().Draw(t, "protected")
		case rapid.Bool().Draw(t, "fork"):
			acts.Fork, pods.Fork = true, "mallory/harbour"
		}
		if acts.Nobody {
			acts.Protected, pods = false, podpolicy.Subject{Why: "nobody proved it"}
			acts.Fork, acts.MR = false, 0
		}
		r := FromParts(acts, pods)
		if diff := cmp.Diff(acts, r.ActsFor()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(pods, r.Subject(), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestRecordIsKept: a record that was written once is understood for ever.
func TestRecordIsKept(t *testing.T) {
	const kept = `{"kind":"repository","forge":"ports/lab","repository":"team/harbour","ref":"refs/heads/try","commit":"c1","mergeRequest":4,` +
		`"fork":"mallory/harbour","author":{"name":"mallory"},"hands":[{"name":"lab.example/team/harbour","ref":"refs/heads/try"},{"name":"ci","manifest":true}],"origin":"api"}`
	var r Record
	if err := json.Unmarshal([]byte(kept), &r); err != nil {
		t.Fatal(err)
	}
	want := ActsFor{Forge: "ports/lab", Repo: "team/harbour", Ref: "refs/heads/try", Commit: "c1", MR: 4, Fork: true}
	if diff := cmp.Diff(want, r.ActsFor()); diff != "" {
		t.Error(diff)
	}
	raw, err := json.Marshal(r)
	if err != nil || string(raw) != kept {
		t.Errorf("%v: %s", err, raw)
	}
}

// TestZeroIsNobody: a record of which nothing is known gives nothing.
func TestZeroIsNobody(t *testing.T) {
	if s := (Record{}).Subject(); s.Kind != podpolicy.Nobody {
		t.Errorf("%+v", s)
	}
	if !(Record{}).ActsFor().Nobody {
		t.Error("the zero value acts for somebody")
	}
}
