package apps_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
)

// job is a hook with an image: ends:1 succeeds, fails:1 fails, and any other goes on.
func job(name, image, annotations string) string {
	return "{apiVersion: batch/v1, kind: Job, metadata: {name: " + name + ", annotations: {" + annotations + "}}, spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{name: c, image: '" + image + "'}]}}}}"
}

func config(name, options string) string {
	return "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + ", annotations: {argocd.argoproj.io/sync-options: '" + options + "'}}, data: {key: value}}"
}

const (
	preDelete  = "argocd.argoproj.io/hook: PreDelete"
	postDelete = "argocd.argoproj.io/hook: PostDelete"
)

func jobKey(name string) deploy.Key {
	return deploy.Key{Group: "batch", Kind: "Job", Namespace: "prod", Name: name}
}

// What is protected outlives the Application and is nobody's; another Application may have it next (argo-cd, docs/user-guide/sync-options.md, No
// Resource Deletion).
func TestDeleteFalse(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": config("kept", "Delete=false"), "b.yaml": config("gone", ""), "s.yaml": "{apiVersion: v1, kind: Namespace, metadata: {name: prod}}"})
	w.define(application(""))
	w.await("it is deployed", func() bool { return w.app("prod").Sync == plan.Synced })
	w.undefine("Application", "prod")
	w.await("it goes without it", func() bool { return w.app("prod").Name == "" && w.keysOf("") == "ConfigMap/kept Namespace/prod" })
	if got := w.owner("kept"); got != "" {
		t.Errorf("it belongs to %s", got)
	}
	w.define(at("second", "c1", ""))
	w.await("the next one has it", func() bool { return w.app("second").Sync == plan.Synced && w.owner("kept") == "default/second" })
}

// Delete=confirm waits for a person, and says so (docs/user-guide/sync-options.md, Resource Deletion With Confirmation).
func TestDeleteConfirm(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": config("asks", "Delete=confirm"), "b.yaml": config("other", "")})
	w.define(application(""))
	w.await("it is deployed", func() bool { return w.app("prod").Sync == plan.Synced })
	w.undefine("Application", "prod")
	asks := func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionDeletion), "confirmed it (Delete=confirm), because of ConfigMap asks")
	}
	w.await("it asks", asks)
	w.stop()
	w.start()
	w.witness("after a restart")
	w.await("it asks still", asks)
	if got := w.keysOf("default/prod"); got != "ConfigMap/asks ConfigMap/other" {
		t.Errorf("there is %s", got)
	}
	if err := w.c.Sync(t.Context(), "default/prod", deploy.SyncRequest{Actor: "user:ada"}); err == nil || !strings.Contains(err.Error(), "is being deleted") {
		t.Errorf("it is synced: %v", err)
	}
	if err := w.c.Sync(t.Context(), "default/prod", deploy.SyncRequest{Actor: "user:ada", Confirmed: true}); err != nil {
		t.Fatal(err)
	}
	w.await("it goes", func() bool { return w.app("prod").Name == "" && w.keysOf("") == "Namespace/prod" })
}

// Hooks of the deletion run around it, over restarts at each of its parts (docs/user-guide/sync-waves.md, PreDelete and PostDelete Hooks).
func TestHooksOfTheDeletion(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"a.yaml": deployment("web", "web:1"), "b.yaml": job("pre", "waits:1", preDelete), "c.yaml": job("post", "waits:2", postDelete+", argocd.argoproj.io/hook-delete-policy: HookSucceeded"),
		"d.yaml": strings.Replace(job("x", "ends:1", postDelete), "name: x", "generateName: last-", 1)}
	w.commit("c1", files)
	w.define(application(""))
	w.await("it is deployed without them", func() bool {
		return w.app("prod").Sync == plan.Synced && w.images() == "web:1" && len(w.app("prod").DeletionHooks) == 3
	})
	w.undefine("Application", "prod")
	w.await("the first hook runs", func() bool { return w.images() == "waits:1 web:1" })
	w.await("it says so", func() bool { return strings.Contains(w.app("prod").Message, "waits for the hook Job pre") })
	w.stop()
	w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:2")}) // what was begun goes on as it was begun
	w.start()
	w.witness("after a restart")
	if got := w.images(); got != "waits:1 web:1" {
		t.Errorf("it runs %q", got)
	}
	w.executor.end("waits:1")
	w.await("the objects go, then the second runs", func() bool { return w.images() == "waits:2" })
	if w.there(deploy.Key{Group: "apps", Kind: "Deployment", Namespace: "prod", Name: "web"}) || w.there(jobKey("pre")) {
		t.Error("objects are there still")
	}
	w.stop()
	w.start()
	w.witness("after another restart")
	w.executor.end("waits:2")
	w.await("it is gone", func() bool { return w.app("prod").Name == "" })
	if got := w.keysOf(""); !strings.HasPrefix(got, "Namespace/prod Job/last-c1-postdelete-") || strings.Count(got, " ") != 1 {
		t.Errorf("what is left is %s", got)
	}
	if got := w.keysOf("default/prod"); got != "" {
		t.Errorf("it is still the Application's: %s", got)
	}
}

// A hook that fails keeps the Application, which says why. A sync has the hooks run again, of what Git has then.
func TestFailingHookOfTheDeletion(t *testing.T) {
	for name, hook := range map[string]string{"PreDelete": preDelete, "PostDelete": postDelete} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1"), "b.yaml": job("hook", "fails:1", hook)})
			w.define(application(""))
			w.await("it is deployed", func() bool { return w.app("prod").Sync == plan.Synced && w.images() == "web:1" })
			w.undefine("Application", "prod")
			told := func() bool {
				m := w.app("prod").Conditions.Message(deploy.ConditionDeletion)
				return strings.Contains(m, "a hook failed, and what is left stays: Job hook: ") && strings.Contains(m, "sync the Application")
			}
			w.await("it says why", told)
			w.stop()
			w.start()
			w.witness("after a restart")
			w.await("it says so still", told)
			if got, want := w.images(), map[string]string{"PreDelete": "web:1"}[name]; got != want {
				t.Errorf("it runs %q", got)
			}
			w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:1"), "b.yaml": job("hook", "ends:1", hook)})
			if err := w.c.Sync(t.Context(), "default/prod", deploy.SyncRequest{Actor: "user:ada"}); err != nil {
				t.Fatal(err)
			}
			w.await("it goes", func() bool { return w.app("prod").Name == "" && w.images() == "" })
		})
	}
}

// A deletion whose hooks cannot be known says so, and goes on when they can, or without anything when the Application is declared again without its
// finalizer.
func TestHooksThatCannotBeKnown(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1"), "b.yaml": job("hook", "ends:1", preDelete)})
	w.define(application(""))
	w.await("it is deployed", func() bool { return w.app("prod").Sync == plan.Synced && w.images() == "web:1" })
	w.mu.Lock()
	head := w.heads["HEAD"]
	delete(w.heads, "HEAD")
	w.mu.Unlock()
	w.undefine("Application", "prod")
	w.await("it says why", func() bool {
		m := w.app("prod").Conditions.Message(deploy.ConditionDeletion)
		return strings.Contains(m, "its hooks cannot be run (Job hook): ") && strings.Contains(m, "no such revision") && strings.Contains(m, "declare it again without the resources finalizer")
	})
	if got := w.images(); got != "web:1" {
		t.Errorf("it runs %q", got)
	}
	w.define(strings.Replace(application(""), ", finalizers: [resources-finalizer.argocd.argoproj.io]", "", 1))
	w.await("it is a new one, and nothing is lost", func() bool {
		a := w.app("prod")
		return a.Name != "" && !a.Deleting && w.images() == "web:1" && len(a.Finalizers) == 0
	})
	w.mu.Lock()
	w.heads["HEAD"] = head
	w.mu.Unlock()
	w.c.Refresh("")
	w.await("it is in order again", func() bool { return w.app("prod").Sync == plan.Synced })
	w.undefine("Application", "prod")
	w.await("it goes, and its objects stay", func() bool { return w.app("prod").Name == "" })
	if got := w.images(); got != "web:1" {
		t.Errorf("it runs %q", got)
	}
}

// An Application without hooks goes though its repository is gone, and other forms of finalizers than Argo CD's delete nothing.
func TestFinalizers(t *testing.T) {
	for form, goes := range map[string]bool{"": true, "/background": true, "/foreground": true, "/orphan": false, "x": false} {
		t.Run("form "+form, func(t *testing.T) {
			w := newWorld(t)
			w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
			w.define(strings.Replace(application(""), "resources-finalizer.argocd.argoproj.io", "resources-finalizer.argocd.argoproj.io"+form, 1))
			w.await("it is deployed", func() bool { return w.app("prod").Sync == plan.Synced && w.images() == "web:1" })
			w.mu.Lock()
			delete(w.heads, "HEAD")
			w.mu.Unlock()
			w.undefine("Application", "prod")
			w.await("it is gone", func() bool { return w.app("prod").Name == "" })
			if (w.images() == "") != goes {
				t.Errorf("it runs %q", w.images())
			}
		})
	}
}

// A hook with generateName is checked and run, and what follows it is applied (gitops-engine/pkg/sync/sync_context.go).
func TestHookWithGenerateName(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": config("later", ""), "b.yaml": strings.Replace(job("x", "ends:1", "argocd.argoproj.io/hook: PreSync"), "name: x", "generateName: before-", 1)})
	w.define(application(""))
	w.await("it is synced", func() bool { return w.app("prod").Sync == plan.Synced && w.app("prod").Revision == "c1" })
	if got := w.keysOf("default/prod"); !strings.HasPrefix(got, "ConfigMap/later Job/before-c1-presync-") {
		t.Errorf("there is %s", got)
	}
}

// A Job that asks for it is made anew, without leave of the Application (docs/user-guide/sync-options.md, Force Sync).
func TestJobIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": job("once", "one:1", "argocd.argoproj.io/sync-options: 'Force=true,Replace=true'")})
	w.define(application(""))
	w.await("it runs", func() bool { return w.images() == "one:1" && w.app("prod").Sync == plan.Synced })
	first, err := w.target.Get(t.Context(), jobKey("once"))
	if err != nil {
		t.Fatal(err)
	}
	w.commit("c2", map[string]string{"a.yaml": job("once", "one:2", "argocd.argoproj.io/sync-options: 'Force=true,Replace=true'")})
	w.c.Refresh("")
	w.await("it is another", func() bool { return w.images() == "one:2" && w.app("prod").Revision == "c2" })
	if second, err := w.target.Get(t.Context(), jobKey("once")); err != nil || second.GetUID() == first.GetUID() {
		t.Errorf("%v", err)
	}
	// What another Application has is not taken that way.
	w.define(at("second", "c1", ""))
	w.await("another is told", func() bool {
		return strings.Contains(w.app("second").Conditions.Message(deploy.ConditionShared), `belongs to the application "default/prod"`)
	})
}

// With RespectIgnoreDifferences a sync leaves the fields alone that are not compared (docs/user-guide/sync-options.md, Respect ignore differences configs).
func TestRespectIgnoreDifferences(t *testing.T) {
	for option, want := range map[string]string{"RespectIgnoreDifferences=true": "theirs", "RespectIgnoreDifferences=false": "ours"} {
		t.Run(option, func(t *testing.T) {
			w := newWorld(t)
			data := func(other string) map[string]string {
				return map[string]string{"a.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {key: ours, other: '" + other + "'}}"}
			}
			w.commit("c1", data("1"))
			w.define(strings.Replace(application(""), "CreateNamespace=true]}", option+"]}\n  ignoreDifferences: [{kind: ConfigMap, jsonPointers: [/data/key]}]", 1))
			w.await("it is deployed", func() bool { return w.app("prod").Sync == plan.Synced })
			live := object("c", "theirs")
			live.Object["data"].(map[string]any)["other"] = "1"
			if _, err := w.target.Apply(t.Context(), live, deploy.ApplyOptions{Application: "default/prod"}); err != nil {
				t.Fatal(err)
			}
			w.looked("default/prod")
			if w.app("prod").Sync != plan.Synced {
				t.Error("it is compared")
			}
			w.commit("c2", data("2"))
			w.c.Refresh("")
			w.await("it is synced", func() bool { return w.app("prod").Sync == plan.Synced && w.app("prod").Revision == "c2" })
			o, err := w.target.Get(t.Context(), deploy.Key{Kind: "ConfigMap", Namespace: "prod", Name: "c"})
			if err != nil {
				t.Fatal(err)
			}
			if got := o.Object["data"].(map[string]any)["key"]; got != want {
				t.Errorf("it is %v", got)
			}
		})
	}
}
