package access_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

func person(role access.Role) access.Identity {
	return access.Identity{Actor: "user:ada", Verified: true, Role: role}
}

// TestRoles: what the built-in roles may, one of each border.
func TestRoles(t *testing.T) {
	policy := access.BuiltIn()
	for _, c := range []struct {
		verb access.Verb
		kind string
		may  string // of admin, developer, viewer
	}{
		{access.Get, access.Run, "adv"}, {access.Get, "Application", "adv"}, {access.Get, access.Log, "adv"}, {access.Get, "Secret", "ad"},
		{access.Create, access.Run, "ad"}, {access.Update, access.MergeRequest, "ad"}, {access.Sync, "Application", "ad"}, {access.Delete, "Sensor", "ad"},
		{access.Create, "Secret", "a"}, {access.Delete, "Secret", "a"}, {access.Create, "AppProject", "a"}, {access.Create, "Forge", "a"}, {access.Create, "ClusterWorkflowTemplate", "a"},
		{access.Update, access.Server, "a"}, {access.Create, access.Release, "a"}, {"dance", access.Run, "a"},
	} {
		got := ""
		for _, role := range []access.Role{access.Admin, access.Developer, access.Viewer, ""} {
			err := policy.Can(person(role), c.verb, c.kind, "default", "x")
			if err == nil {
				got += string(role[:1])
			} else if failure.KindOf(err) != failure.Refused {
				t.Errorf("%s %s: refused with %v", c.verb, c.kind, err)
			}
		}
		if got != c.may {
			t.Errorf("%s %s: %q may, want %q", c.verb, c.kind, got, c.may)
		}
	}
	err := policy.Can(person(access.Viewer), access.Sync, "Application", "shop", "web")
	if err == nil || err.Error() != "user:ada (viewer) may not sync Application shop/web" || failure.HintOf(err) != "it needs the role developer or admin" {
		t.Errorf("%v, hint %q", err, failure.HintOf(err))
	}
	if err := (access.Policy{}).Can(person(access.Admin), access.Get, access.Run, "", ""); err == nil {
		t.Error("a policy without rules allows something")
	}
}

// TestSteps: a step reaches what its claims name, and nothing beyond.
func TestSteps(t *testing.T) {
	policy := access.BuiltIn()
	branch := steptoken.Claims{Run: "default/r", UID: "u1", Repo: "shop", Commit: "c1", Ref: "refs/heads/main", Protected: true}
	merge := branch
	merge.MR, merge.UID, merge.Protected = 3, "u3", false
	topic := branch
	topic.Ref, topic.Protected = "refs/heads/topic", false
	byHand := steptoken.Claims{Run: "default/h", UID: "u9"}
	// A repository of the same name on another forge, and one of which nobody proved that it is.
	lab, nobody, nobodys := branch, steptoken.Claims{Run: "default/n", UID: "u5", Nobody: true}, branch
	lab.Forge, nobodys.Nobody = "default/Lab", true
	for _, c := range []struct {
		claims steptoken.Claims
		verb   access.Verb
		kind   string
		name   string
		may    bool
	}{
		{branch, access.Create, access.Release, access.CommitName("shop", "c1"), true},
		{branch, access.Create, access.Release, access.CommitName("shop", "c2"), false},
		{branch, access.Create, access.Release, access.CommitName("other", "c1"), false},
		{byHand, access.Create, access.Release, access.CommitName("", ""), false},
		{branch, access.Create, access.Status, access.CommitName("shop", "c1"), true},
		{branch, access.Create, access.Status, access.CommitName("other", "c1"), false},
		{byHand, access.Create, access.Status, access.CommitName("", ""), false},
		{branch, access.Create, access.Comment, access.MergeRequestName("shop", 0), false},
		{merge, access.Create, access.Comment, access.MergeRequestName("shop", 3), true},
		{merge, access.Create, access.Comment, access.MergeRequestName("shop", 4), false},
		{branch, access.Get, access.Artifact, access.ArtifactName("u1", "a"), true},
		{branch, access.Create, access.Artifact, access.ArtifactName("u3", "a"), false},
		{branch, access.Get, access.Image, access.ImageName("other", "latest"), true},
		{branch, access.Update, access.Image, access.ImageName("shop/api", "latest"), true},
		{branch, access.Update, access.Image, access.ImageName("shopping", "latest"), false},
		{branch, access.Update, access.Image, access.ImageName("other", "latest"), false},
		{byHand, access.Update, access.Image, access.ImageName("other", "latest"), true},
		{lab, access.Update, access.Image, access.ImageName("shop", "latest"), false},
		{lab, access.Update, access.Image, access.ImageName("forges/default/lab/shop", "latest"), true},
		{lab, access.Update, access.Image, access.ImageName("forges/default/lab/shop/api", "latest"), true},
		{lab, access.Update, access.Image, access.ImageName("forges/default/lab/shopping", "latest"), false},
		{branch, access.Update, access.Image, access.ImageName("forges/default/lab/shop", "latest"), false},
		{nobody, access.Update, access.Image, access.ImageName("shop", "latest"), false},
		{nobodys, access.Update, access.Image, access.ImageName("shop", "latest"), false},
		{nobodys, access.Create, access.Release, access.CommitName("shop", "c1"), false},
		{nobodys, access.Create, access.Status, access.CommitName("shop", "c1"), false},
		{nobodys, access.Get, access.Image, access.ImageName("shop", "latest"), false},
		{nobodys, access.Get, access.Image, access.ImageName("namespaces/default/x", "latest"), true},
		{nobodys, access.Update, access.Image, access.ImageName("namespaces/default/x", "latest"), true},
		{nobody, access.Update, access.Image, access.ImageName("namespaces/default", "latest"), true},
		{nobody, access.Update, access.Image, access.ImageName("namespaces/default-two/x", "latest"), false},
		{nobody, access.Update, access.Image, access.ImageName("namespaces/shop/x", "latest"), false},
		{nobodys, access.Create, access.Artifact, access.ArtifactName("u1", "a"), true},
		{merge, access.Update, access.Image, access.ImageName("shop", "latest"), false},
		{merge, access.Update, access.Image, access.ImageName("shop", "mr-3-a"), true},
		{merge, access.Update, access.Image, access.ImageName("shop", "mr-33"), false},
		{merge, access.Update, access.Image, access.ImageName("shop", "sha256:0"), true},
		// What a protected ref reads by a tag only protected refs write.
		{topic, access.Update, access.Image, access.ImageName("shop", "latest"), false},
		{topic, access.Update, access.Image, access.ImageName("shop", "branch-topic"), true},
		{topic, access.Update, access.Image, access.ImageName("shop", "sha256:0"), true},
		{branch, access.Update, access.Image, access.ImageName("shop", "mr-3-a"), false},
		{branch, access.Get, access.Image, access.ImageName("shop", "mr-3-a"), false},
		{branch, access.Get, access.Image, access.ImageName("shop", "branch-topic"), false},
		{merge, access.Get, access.Image, access.ImageName("shop", "mr-3-a"), true},
		{merge, access.Get, access.Image, access.ImageName("shop", "mr-4-a"), false},
		{merge, access.Get, access.Image, access.ImageName("other", "mr-3-a"), false},
		{byHand, access.Get, access.Image, access.ImageName("shop", "mr-3-a"), true},
		{branch, access.Get, access.Run, "r", false}, {branch, access.Get, access.Repository, "shop", false},
		{branch, access.Get, "Secret", "s", false}, {branch, access.Get, access.Attempt, "", true},
	} {
		// A role given to a step's token counts for nothing: what it may follows from its claims.
		id := access.Identity{Actor: "step:" + c.claims.Run, Step: &c.claims, Role: access.Admin}
		if err := policy.Can(id, c.verb, c.kind, "default", c.name); (err == nil) != c.may {
			t.Errorf("%s (merge request %d): %s %s %s: %v, want %t", c.claims.Run, c.claims.MR, c.verb, c.kind, c.name, err, c.may)
		}
	}
}

// TestRules: Argo CD's lines are read and written, deny beats allow, and objects are matched as globs.
func TestRules(t *testing.T) {
	var rules []access.Rule
	for _, line := range []string{
		"p, role:team, applications, sync, shop/*, allow", "p, role:team, applications, get, */*, allow", "p, role:team, applications, *, shop/secret-*, deny",
		"p, role:team, Run, get, shop/*, allow",
	} {
		rule, err := access.ParseRule(line)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, rule)
	}
	if diff := cmp.Diff("p, role:team, Application, sync, shop/*, allow", rules[0].String()); diff != "" {
		t.Error(diff)
	}
	policy := access.NewPolicy(rules...)
	for object, want := range map[string]bool{"shop/web": true, "shop/secret-web": false, "shopping/web": false, "other/shop": false} {
		namespace, name, _ := strings.Cut(object, "/")
		if err := policy.Can(person("team"), access.Sync, "Application", namespace, name); (err == nil) != want {
			t.Errorf("sync %s: %v", object, err)
		}
	}
	if policy.Some(person("team"), access.Get, access.Run) != nil || policy.Some(person("team"), access.Get, "*") != nil || policy.Some(person("team"), access.Delete, access.Run) == nil {
		t.Error("whether there is some")
	}
	for _, line := range []string{"", "g, ada, role:team", "p, role:team, applications, sync, shop/*", "p, role:team, applications, , shop/*, allow", "p, a, b, c, d, maybe"} {
		if rule, err := access.ParseRule(line); failure.KindOf(err) != failure.Invalid {
			t.Errorf("%q is read as %v, %v", line, rule, err)
		}
	}
}

// TestGlob: a pattern made of a text by putting stars for parts of it matches the text.
func TestGlob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.StringMatching(`[ab/]{0,3}`), 1, 5).Draw(t, "parts")
		pattern, text := "", ""
		for _, part := range parts {
			text += part
			if rapid.Bool().Draw(t, "star") {
				part = "*"
			}
			pattern += part
		}
		policy := access.NewPolicy(access.Rule{Role: "r", Resource: "K", Action: "get", Object: pattern + "/*"})
		if err := policy.Can(person("r"), access.Get, "K", text, "n"); err != nil {
			t.Fatalf("%q does not match %q", pattern, text)
		}
		if err := policy.Can(person("r"), access.Get, "K", text+"c", "n"); err == nil && !strings.Contains(pattern, "*") {
			t.Fatalf("%q matches %q", pattern, text+"c")
		}
	})
}

// runsOf keeps a row for each entry.
type runsOf struct{}

func (runsOf) Tables() []string { return []string{"run"} }

func (runsOf) Version() int { return 1 }

func (runsOf) Wants(kind string) bool { return kind == "run.submitted" }

func (runsOf) Apply(e ledger.Entry, rows ledger.Rows) error {
	return rows.Put(ledger.Row{Table: "run", Key: strings.TrimPrefix(e.Subject, "run/"), Time: e.Time, Body: e.Body})
}

// TestView: rows and entries of namespaces that one may not see are not there, pages are as long as was asked for, and without
// an identity there is nothing.
func TestView(t *testing.T) {
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off, Projections: []ledger.Projection{runsOf{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for i := range 30 {
		namespace := []string{"hidden", "shop", "hidden"}[i%3]
		subject := fmt.Sprintf("run/%s/r%02d", namespace, i)
		err := l.Write(t.Context(), ledger.On(subject), func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "user:ada", Kind: "run.submitted", Subject: subject, Body: struct{}{}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	view := access.NewView(l, access.NewPolicy(
		access.Rule{Role: "team", Resource: access.Run, Action: "get", Object: "shop/*"},
		access.Rule{Role: "forges", Resource: "Forge", Action: "get", Object: "shop/*"}, access.Rule{Role: "all", Resource: "*", Action: "get", Object: "*/*"},
	))
	as := func(role access.Role) context.Context { return access.With(t.Context(), person(role)) }
	seen := func(ctx context.Context, q ledger.Query) (keys []string) {
		for {
			rows, err := view.List(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				keys = append(keys, row.Key)
			}
			if len(rows) < q.Limit {
				return keys
			}
			if len(rows) != q.Limit {
				t.Fatalf("a page has %d rows", len(rows))
			}
			if last := rows[len(rows)-1]; q.ChangedAfter > 0 {
				q.ChangedAfter = last.Seq
			} else {
				q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
			}
		}
	}
	for _, q := range []ledger.Query{{Table: "run", Limit: 4}, {Table: "run", Limit: 4, Oldest: true}, {Table: "run", Limit: 4, ChangedAfter: 1}} {
		keys := seen(as("team"), q)
		if len(keys) != 10 || strings.Contains(strings.Join(keys, " "), "hidden") {
			t.Errorf("%+v: %v", q, keys)
		}
		if all := seen(as("all"), q); len(all) < 29 {
			t.Errorf("%+v: who may see all sees %d", q, len(all))
		}
		if none := seen(t.Context(), q); len(none) != 0 {
			t.Errorf("nobody sees %v", none)
		}
	}
	for _, newest := range []bool{false, true} {
		entries, err := view.Entries(as("team"), ledger.EntryQuery{Limit: 7, Newest: newest})
		if err != nil || len(entries) != 7 || strings.Contains(entries[6].Subject, "hidden") {
			t.Errorf("newest %t: %d entries, %v", newest, len(entries), err)
		}
	}
	if _, err := view.Row(as("team"), "run", "hidden/r00"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a hidden row: %v", err)
	}
	if _, err := view.Row(as("team"), "run", "shop/r01"); err != nil {
		t.Errorf("a row of one's own: %v", err)
	}
	if _, err := view.Entry(as("team"), 1); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a hidden entry: %v", err)
	}
	// What a forge is told is seen by who may see the forge.
	for _, subject := range []string{"post/hidden%2Flab/r/mr/1/m", "post/shop%2Flab/r/mr/1/m"} {
		err := l.Write(t.Context(), ledger.Anyone(subject), func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "user:ada", Kind: "post.asked", Subject: subject, Body: struct{}{}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := view.Entries(as("forges"), ledger.EntryQuery{}); err != nil || len(entries) != 1 || !strings.Contains(entries[0].Subject, "shop") {
		t.Errorf("posts of one's own forge: %v, %v", entries, err)
	}
}
