package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/manifest"
)

// noted is a thing with annotations by their whole names, "key=value".
func noted(kind, name string, annotations ...string) *unstructured.Unstructured {
	o, notes := thing(kind, name), map[string]string{}
	for _, a := range annotations {
		key, value, _ := strings.Cut(a, "=")
		notes[key] = value
	}
	o.SetAnnotations(notes)
	return o
}

// Rules of hooks and pruning, each with its source in argo-cd 3.6.
func TestRules(t *testing.T) {
	list := func(o ...*unstructured.Unstructured) []*unstructured.Unstructured { return o }
	for name, c := range map[string]struct {
		desired, live []*unstructured.Unstructured
		options       plan.Options
		failing       string
		log           string
		phase         string
	}{
		// gitops-engine/pkg/sync/hook/delete_policy.go: without a policy that is known it is BeforeHookCreation.
		"an unknown delete policy is the default": {
			desired: list(thing("Job", "h", "hook=PreSync", "hook-delete-policy=Sometimes")), live: list(thing("Job", "h", "hook=PreSync")),
			log: "-h +h", phase: plan.Succeeded},
		// gitops-engine/pkg/sync/hook/helm: Helm's policies have Argo CD's meaning.
		"Helm's hook-succeeded": {
			desired: list(noted("Job", "h", "helm.sh/hook=pre-install", "helm.sh/hook-delete-policy=hook-succeeded"), thing("ConfigMap", "c")),
			log:     "+h -h +c", phase: plan.Succeeded},
		"Helm's hook-failed": {
			desired: list(noted("Job", "h", "helm.sh/hook=post-upgrade", "helm.sh/hook-delete-policy=before-hook-creation,hook-failed"), thing("ConfigMap", "c")),
			failing: "h", log: "+c +h -h", phase: plan.Failed},
		"Argo CD's policy counts before Helm's": {
			desired: list(noted("Job", "h", "helm.sh/hook=pre-install", "helm.sh/hook-delete-policy=hook-succeeded", "argocd.argoproj.io/hook-delete-policy=HookFailed"), thing("ConfigMap", "c")),
			log:     "+h +c", phase: plan.Succeeded},
		// docs/user-guide/helm.md, Helm Hooks.
		"Helm's weights are waves": {
			desired: list(noted("Job", "b", "helm.sh/hook=pre-install", "helm.sh/hook-weight=1"), noted("Job", "z", "helm.sh/hook=pre-upgrade", "helm.sh/hook-weight=-1"), thing("ConfigMap", "c")),
			log:     "+z +b +c", phase: plan.Succeeded},
		"Helm's install and upgrade are one hook": {
			desired: list(noted("Job", "h", "helm.sh/hook=pre-install,pre-upgrade")), log: "+h", phase: plan.Succeeded},
		"Helm's tests are not run": {
			desired: list(noted("Job", "h", "helm.sh/hook=test"), thing("ConfigMap", "c")), log: "+c", phase: plan.Succeeded},
		"Helm's crd-install is no hook": {
			desired: list(noted("ConfigMap", "c", "helm.sh/hook=crd-install")), log: "+c", phase: plan.Succeeded},
		"hooks of a deletion are not run by a sync": {
			desired: list(thing("Job", "a", "hook=PreDelete"), thing("Job", "b", "hook=PostDelete"), noted("Job", "d", "helm.sh/hook=pre-delete"), thing("ConfigMap", "c")),
			log:     "+c", phase: plan.Succeeded},
		// gitops-engine/pkg/sync/hook/hook.go: what is to be skipped is no hook.
		"what was skipped is pruned when it is gone from Git": {
			desired: list(thing("ConfigMap", "c")), live: list(thing("ConfigMap", "s", "hook=Skip")),
			options: plan.Options{Prune: true}, log: "-s +c", phase: plan.Succeeded},
		"what is skipped stays": {
			desired: list(thing("ConfigMap", "s", "hook=Skip"), thing("ConfigMap", "c")), live: list(thing("ConfigMap", "s", "hook=Skip")),
			options: plan.Options{Prune: true}, log: "+c", phase: plan.Succeeded},
		"hooks are not pruned": {
			desired: list(thing("ConfigMap", "c")), live: list(thing("Job", "h", "hook=PreSync")),
			options: plan.Options{Prune: true}, log: "+c", phase: plan.Succeeded},
		"a hook of two phases runs twice": {
			desired: list(thing("Job", "h", "hook=PreSync,PostSync"), thing("ConfigMap", "c")), log: "+h +c -h +h", phase: plan.Succeeded},
		"a failed hook goes by HookFailed": {
			desired: list(thing("Job", "h", "hook=PreSync", "hook-delete-policy=HookFailed"), thing("ConfigMap", "c")), failing: "h", log: "+h -h", phase: plan.Failed},
		"what degrades stops the next wave": {
			desired: list(thing("Job", "a", "sync-wave=0"), thing("ConfigMap", "c", "sync-wave=1")), failing: "a", log: "+a", phase: plan.Failed},
		// controller/appcontroller.go autoSync: what would prune all managed objects is refused; hooks are none.
		"a hook alone is nothing": {
			desired: list(thing("Job", "h", "hook=PreSync")), live: list(thing("ConfigMap", "a")),
			options: plan.Options{Prune: true, Automated: true}, phase: plan.Failed},
		"what is skipped is something": {
			desired: list(thing("ConfigMap", "s", "hook=Skip")), live: list(thing("ConfigMap", "a")),
			options: plan.Options{Prune: true, Automated: true}, log: "-a", phase: plan.Succeeded},
		"a person may remove all": {
			live: list(thing("ConfigMap", "a")), options: plan.Options{Prune: true}, log: "-a", phase: plan.Succeeded},
		// docs/user-guide/sync-options.md, No Prune Resources, and helm's own annotation.
		"what Helm keeps is not pruned": {
			desired: list(thing("ConfigMap", "c")), live: list(noted("ConfigMap", "k", "helm.sh/resource-policy=keep")),
			options: plan.Options{Prune: true}, log: "+c", phase: plan.Succeeded},
		"Prune=false of the Application": {
			desired: list(thing("ConfigMap", "c")), live: list(thing("ConfigMap", "k")),
			options: plan.Options{Prune: true}.WithSyncOptions([]string{"Prune=false"}), log: "+c", phase: plan.Succeeded},
		"options in one annotation": {
			desired: list(thing("ConfigMap", "c", "sync-wave=3")), live: list(thing("ConfigMap", "k", "sync-options= PruneLast=true , Validate=false")),
			options: plan.Options{Prune: true}, log: "+c -k", phase: plan.Succeeded},
		"hooks run when only what differs is applied": {
			desired: list(thing("Job", "h", "hook=PreSync"), thing("ConfigMap", "c")),
			options: plan.Options{OutOfSyncOnly: true}, log: "+h", phase: plan.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{objects: map[deploy.Key]*unstructured.Unstructured{}, failing: map[string]bool{c.failing: true}, stuck: map[string]bool{}}
			for _, o := range c.live {
				w.objects[deploy.KeyOf(o)] = o
			}
			op := run(w, plan.Input{Desired: c.desired, Options: c.options, OutOfSync: map[deploy.Key]bool{}})
			if diff := cmp.Diff(c.log, strings.Join(w.log, " ")); diff != "" || op.Phase != c.phase {
				t.Errorf("%s (%s), want %s\n%s", op.Phase, op.Message, c.phase, diff)
			}
		})
	}
}

// What a manifest may say of itself: a Job or a Pod is made anew, since that takes nothing from anybody; anything else is for the Application
// to say (docs/user-guide/sync-options.md, Force Sync; the trust model of docs/security.md).
func TestForceOfAManifest(t *testing.T) {
	for name, c := range map[string]struct {
		kind    string
		options plan.Options
		force   bool
	}{
		"a Job":                             {"Job", plan.Options{}, true},
		"a Job of a preview":                {"Job", plan.Options{Preview: true}, true},
		"a ConfigMap":                       {"ConfigMap", plan.Options{}, false},
		"a Deployment":                      {"Deployment", plan.Options{}, false},
		"a Deployment with leave":           {"Deployment", plan.Options{Manifest: plan.Manifest{Force: true, Replace: true}}, true},
		"a Deployment as the Application's": {"Deployment", plan.Options{Force: true, Replace: true}, true},
	} {
		o := plan.OptionsOf(thing(c.kind, "x", "sync-options=Force=true,Replace=true"), c.options)
		if o.Force != c.force || o.Replace != c.force {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// Paths of ignoreDifferences (docs/user-guide/diffing.md).
func TestIgnoredPaths(t *testing.T) {
	base := "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, annotations: {a/b: x}}, spec: {template: {spec: {initContainers: [{name: i, image: 'i:1'}], containers: [{name: c, image: 'c:1'}, {name: d, image: 'd:1'}]}}}}"
	for name, c := range map[string]struct {
		from, to string
		ignore   manifest.IgnoreDifference
		differs  bool
	}{
		"an element by pointer":          {"'c:1'", "'c:2'", manifest.IgnoreDifference{JSONPointers: []string{"/spec/template/spec/containers/0"}}, false},
		"another element by pointer":     {"'c:1'", "'c:2'", manifest.IgnoreDifference{JSONPointers: []string{"/spec/template/spec/containers/1"}}, true},
		"an escaped name":                {"a/b: x", "a/b: y", manifest.IgnoreDifference{JSONPointers: []string{"/metadata/annotations/a~1b"}}, false},
		"a quoted name in jq":            {"a/b: x", "a/b: y", manifest.IgnoreDifference{JQPathExpressions: []string{`.metadata.annotations["a/b"]`}}, false},
		"a quoted name behind a point":   {"a/b: x", "a/b: y", manifest.IgnoreDifference{JQPathExpressions: []string{`.metadata.annotations."a/b"`}}, false},
		"all elements in jq":             {"'c:1'", "'c:2'", manifest.IgnoreDifference{JQPathExpressions: []string{".spec.template.spec.containers[].image"}}, false},
		"an element in jq":               {"'c:1'", "'c:2'", manifest.IgnoreDifference{JQPathExpressions: []string{".spec.template.spec.containers[0].image"}}, false},
		"another element in jq":          {"'c:1'", "'c:2'", manifest.IgnoreDifference{JQPathExpressions: []string{".spec.template.spec.containers[1].image"}}, true},
		"a selected element in jq":       {"'i:1'", "'i:2'", manifest.IgnoreDifference{JQPathExpressions: []string{`.spec.template.spec.initContainers[] | select(.name == "i")`}}, false},
		"a field of a selected one":      {"'d:1'", "'d:2'", manifest.IgnoreDifference{JQPathExpressions: []string{`.spec.template.spec.containers[]|select(.name=="d")|.image`}}, false},
		"another selected element in jq": {"'d:1'", "'d:2'", manifest.IgnoreDifference{JQPathExpressions: []string{`.spec.template.spec.containers[] | select(.name == "c").image`}}, true},
	} {
		c.ignore.Group, c.ignore.Kind = "apps", "Deployment"
		v := plan.Views{Predicted: true, Ignore: []manifest.IgnoreDifference{c.ignore}}
		if got := v.Differences(object(base), object(strings.Replace(base, c.from, c.to, 1))); (len(got) > 0) != c.differs {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// controller/appcontroller.go autoSync and pkg/apis/application/v1alpha1/types.go.
func TestAutoRules(t *testing.T) {
	off := false
	out := plan.Comparison{Status: plan.OutOfSync, Resources: []plan.Resource{{Status: plan.OutOfSync}}}
	failed := plan.Operation{Revision: "a", Phase: plan.Failed, FinishedAt: start}
	for name, c := range map[string]struct {
		policy  *manifest.SyncPolicy
		retries int64
		after   time.Duration
		sync    bool
	}{
		"enabled: false":               {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{Enabled: &off}}, 0, time.Hour, false},
		"a retry without a limit":      {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{}, Retry: &manifest.SyncRetry{Backoff: &manifest.SyncBackoff{}}}, 0, time.Hour, false},
		"a limit of -1":                {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{}, Retry: &manifest.SyncRetry{Limit: -1}}, 1000, 3 * time.Minute, true},
		"a duration of seconds":        {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{}, Retry: &manifest.SyncRetry{Limit: 3, Backoff: &manifest.SyncBackoff{Duration: "30"}}}, 0, 29 * time.Second, false},
		"a duration of seconds, later": {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{}, Retry: &manifest.SyncRetry{Limit: 3, Backoff: &manifest.SyncBackoff{Duration: "30"}}}, 0, 30 * time.Second, true},
		"no longer than maxDuration":   {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{}, Retry: &manifest.SyncRetry{Limit: 9, Backoff: &manifest.SyncBackoff{Duration: "10s", MaxDuration: "15s"}}}, 5, 15 * time.Second, true},
		"refresh changes no wait":      {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{}, Retry: &manifest.SyncRetry{Limit: 1, Refresh: true}}, 0, 5 * time.Second, true},
		"selfHeal is no retry":         {&manifest.SyncPolicy{Automated: &manifest.AutomatedSync{SelfHeal: true}, Retry: &manifest.SyncRetry{}}, 0, time.Hour, false},
	} {
		v := plan.Auto(plan.AutoInput{Policy: c.policy, Comparison: out, Revision: "a", Last: failed, Retries: c.retries, Now: start.Add(c.after)})
		if v.Sync != c.sync {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
