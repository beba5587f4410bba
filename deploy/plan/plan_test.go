package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/manifest"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func object(text string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		panic(err)
	}
	return o
}

// thing is a ConfigMap (no health) or a Job (health from its status), with annotations as "key=value".
func thing(kind, name string, annotations ...string) *unstructured.Unstructured {
	group := map[string]string{"Job": "batch/v1", "Deployment": "apps/v1", "Service": "v1", "Namespace": "v1", "ConfigMap": "v1"}[kind]
	o := object(fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: '%s', namespace: ns}}", group, kind, name))
	if kind == "Namespace" {
		o.SetNamespace("")
	}
	notes := map[string]string{}
	for _, a := range annotations {
		key, value, _ := strings.Cut(a, "=")
		notes["argocd.argoproj.io/"+key] = value
	}
	if len(notes) > 0 {
		o.SetAnnotations(notes)
	}
	return o
}

// world is a target that does what it is told at once; Jobs end when they are applied, failing where named.
type world struct {
	objects map[deploy.Key]*unstructured.Unstructured
	failing map[string]bool
	// stuck jobs never end.
	stuck map[string]bool
	log   []string
}

func (w *world) live() []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, o := range w.objects {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

func (w *world) do(a plan.Action) error {
	if a.Release {
		w.log = append(w.log, "~"+a.Key.Name)
		delete(w.objects, a.Key)
		return nil
	}
	if a.Delete {
		w.log = append(w.log, "-"+a.Key.Name)
		delete(w.objects, a.Key)
		return nil
	}
	w.log = append(w.log, "+"+a.Key.Name)
	o := a.Object.DeepCopy()
	if o.GetKind() == "Job" && !w.stuck[o.GetName()] {
		condition := "Complete"
		if w.failing[o.GetName()] {
			condition = "Failed"
		}
		_ = unstructured.SetNestedSlice(o.Object, []any{map[string]any{"type": condition, "status": "True", "message": "end"}}, "status", "conditions")
	} else if w.failing[o.GetName()] {
		return errors.New("refused")
	}
	w.objects[a.Key] = o
	return nil
}

func run(w *world, in plan.Input) plan.Operation {
	in.Operation, in.Now = plan.Begin("0123456789abcdef", start), start
	if in.Newest == "" {
		in.Newest = in.Operation.Revision
	}
	for range 200 {
		in.Live = w.live()
		s := plan.Next(in)
		in.Operation = s.Operation
		if s.Operation.Done() {
			return s.Operation
		}
		w.carryOut(&in, s)
	}
	in.Operation.Phase = "never ended"
	return in.Operation
}

// carryOut does what a step asks for, and moves the time on to the next.
func (w *world) carryOut(in *plan.Input, s plan.Step) {
	for _, a := range s.Actions {
		err := w.do(a)
		in.Operation.Record(a, err, in.Now)
		if err != nil {
			break
		}
	}
	in.Now = in.Now.Add(time.Second)
	if len(s.Actions) == 0 && in.Now.Before(s.Wake) {
		in.Now = s.Wake
	}
}

// The order is that of gitops-engine's syncTasks.Less and sync_context.go, as argo-cd 3.6 documents it.
func TestSync(t *testing.T) {
	for name, c := range map[string]struct {
		desired, live  []*unstructured.Unstructured
		options        plan.Options
		failing, stuck string
		newest         string
		log            string
		phase          string
	}{
		"kinds in order": {
			desired: []*unstructured.Unstructured{thing("Deployment", "d"), thing("Service", "s"), thing("ConfigMap", "c"), thing("Namespace", "ns")},
			log:     "+ns +c +s +d", phase: plan.Succeeded},
		"waves and phases": {
			desired: []*unstructured.Unstructured{thing("Job", "after", "hook=PostSync"), thing("ConfigMap", "late", "sync-wave=2"),
				thing("ConfigMap", "early", "sync-wave=-1"), thing("Job", "before", "hook=PreSync"), thing("Job", "never", "hook=Skip"), thing("Job", "rescue", "hook=SyncFail")},
			log: "+before +early +late +after", phase: plan.Succeeded},
		"failed hook": {
			desired: []*unstructured.Unstructured{thing("Job", "before", "hook=PreSync"), thing("ConfigMap", "c"), thing("Job", "rescue", "hook=SyncFail")},
			failing: "before", log: "+before +rescue", phase: plan.Failed},
		"failed object stops": {
			desired: []*unstructured.Unstructured{thing("ConfigMap", "a"), thing("ConfigMap", "b"), thing("ConfigMap", "c")},
			failing: "b", log: "+a +b", phase: plan.Failed},
		"old hook goes first": {
			desired: []*unstructured.Unstructured{thing("Job", "h", "hook=PreSync")},
			live:    []*unstructured.Unstructured{thing("Job", "h", "hook=PreSync")},
			log:     "-h +h", phase: plan.Succeeded},
		"hook deleted when it succeeded": {
			desired: []*unstructured.Unstructured{thing("Job", "h", "hook=PreSync", "hook-delete-policy=HookSucceeded"), thing("ConfigMap", "c")},
			log:     "+h -h +c", phase: plan.Succeeded},
		"hook kept when it failed": {
			desired: []*unstructured.Unstructured{thing("Job", "h", "hook=PreSync", "hook-delete-policy=HookSucceeded")},
			failing: "h", log: "+h", phase: plan.Failed},
		"hook that never ends": {
			desired: []*unstructured.Unstructured{thing("Job", "h", "hook=PreSync"), thing("ConfigMap", "c")},
			stuck:   "h", log: "+h", phase: plan.Failed},
		"no pruning unless asked": {
			desired: []*unstructured.Unstructured{thing("ConfigMap", "a")}, live: []*unstructured.Unstructured{thing("ConfigMap", "b")},
			log: "+a", phase: plan.Succeeded},
		"prune waves reversed, before applies": {
			desired: []*unstructured.Unstructured{thing("ConfigMap", "a", "sync-wave=0")},
			live:    []*unstructured.Unstructured{thing("ConfigMap", "w0"), thing("ConfigMap", "w1", "sync-wave=1"), thing("ConfigMap", "w2", "sync-wave=2")},
			options: plan.Options{Prune: true}, log: "-w2 +a -w1 -w0", phase: plan.Succeeded},
		"prune last": {
			desired: []*unstructured.Unstructured{thing("ConfigMap", "a", "sync-wave=5")},
			live:    []*unstructured.Unstructured{thing("ConfigMap", "old")},
			options: plan.Options{Prune: true, PruneLast: true}, log: "+a -old", phase: plan.Succeeded},
		"prune exceptions": {
			desired: []*unstructured.Unstructured{thing("ConfigMap", "a")},
			live: []*unstructured.Unstructured{thing("ConfigMap", "kept", "sync-options=Prune=false"), thing("ConfigMap", "asks", "sync-options=Prune=confirm"),
				thing("ConfigMap", "approved", "sync-options=Prune=confirm", "deletion-approved=2026"), thing("ConfigMap", "gone")},
			options: plan.Options{Prune: true}, log: "-approved -gone +a", phase: plan.Succeeded},
		"brake": {
			live:    []*unstructured.Unstructured{thing("ConfigMap", "a")},
			options: plan.Options{Prune: true, Automated: true}, phase: plan.Failed},
		"brake released": {
			live:    []*unstructured.Unstructured{thing("ConfigMap", "a")},
			options: plan.Options{Prune: true, Automated: true, AllowEmpty: true}, log: "-a", phase: plan.Succeeded},
		"selective: no hooks": {
			desired: []*unstructured.Unstructured{thing("Job", "h", "hook=PreSync"), thing("ConfigMap", "a"), thing("ConfigMap", "b")},
			options: plan.Options{Resources: []manifest.SyncResource{{Kind: "ConfigMap", Name: "b"}}}, log: "+b", phase: plan.Succeeded},
		"superseded": {
			desired: []*unstructured.Unstructured{thing("ConfigMap", "a")}, newest: "fedcba", phase: plan.Superseded},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{objects: map[deploy.Key]*unstructured.Unstructured{}, failing: map[string]bool{c.failing: true}, stuck: map[string]bool{c.stuck: true}}
			for _, o := range c.live {
				w.objects[deploy.KeyOf(o)] = o
			}
			op := run(w, plan.Input{Desired: c.desired, Options: c.options, Newest: c.newest})
			if diff := cmp.Diff(c.log, strings.Join(w.log, " ")); diff != "" || op.Phase != c.phase {
				t.Errorf("%s (%s), want %s\n%s", op.Phase, op.Message, c.phase, diff)
			}
		})
	}
}

func TestNewestCommitWaitsForAHook(t *testing.T) {
	hook := thing("Job", "h", "hook=PreSync")
	op := plan.Begin("a", start)
	in := plan.Input{Desired: []*unstructured.Unstructured{hook}, Operation: op, Newest: "a", Now: start}
	s := plan.Next(in)
	s.Operation.Record(s.Actions[0], nil, start)
	in.Operation, in.Newest, in.Live = s.Operation, "b", []*unstructured.Unstructured{hook}
	if s = plan.Next(in); s.Operation.Phase != plan.Running {
		t.Fatalf("the hook is running, got %s", s.Operation.Phase)
	}
	done := hook.DeepCopy()
	_ = unstructured.SetNestedSlice(done.Object, []any{map[string]any{"type": "Complete", "status": "True"}}, "status", "conditions")
	in.Live = []*unstructured.Unstructured{done}
	if s = plan.Next(in); s.Operation.Phase != plan.Superseded {
		t.Fatalf("the hook has ended, got %s", s.Operation.Phase)
	}
}

func TestHookNames(t *testing.T) {
	hook := thing("Job", "x", "hook=PreSync")
	unstructured.RemoveNestedField(hook.Object, "metadata", "name")
	hook.SetGenerateName("migrate-")
	tasks := plan.Tasks(plan.Input{Desired: []*unstructured.Unstructured{hook}, Operation: plan.Begin("0123456789", start)})
	if want := fmt.Sprintf("migrate-0123456-presync-%d", start.Unix()); tasks[0].Key.Name != want {
		t.Errorf("got %s, want %s", tasks[0].Key.Name, want)
	}
}

// Whatever the objects: a sync ends, applies nothing twice, keeps the order of phases and waves, and on success what
// is live is what is desired.
func TestEverySyncEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{objects: map[deploy.Key]*unstructured.Unstructured{}, failing: map[string]bool{}, stuck: map[string]bool{}}
		draw := func(prefix string) []*unstructured.Unstructured {
			var all []*unstructured.Unstructured
			for i := range rapid.IntRange(0, 8).Draw(t, prefix) {
				kind := rapid.SampledFrom([]string{"ConfigMap", "Job", "Service"}).Draw(t, "kind")
				notes := []string{fmt.Sprintf("sync-wave=%d", rapid.IntRange(-2, 2).Draw(t, "wave"))}
				if hook := rapid.SampledFrom([]string{"", "", "PreSync", "Sync", "PostSync", "SyncFail"}).Draw(t, "hook"); hook != "" && kind == "Job" {
					notes = append(notes, "hook="+hook)
				}
				o := thing(kind, fmt.Sprintf("%s%d", prefix, i), notes...)
				w.failing[o.GetName()] = rapid.IntRange(0, 9).Draw(t, "fails") == 0
				w.stuck[o.GetName()] = rapid.IntRange(0, 9).Draw(t, "stuck") == 0
				all = append(all, o)
			}
			return all
		}
		desired := draw("d")
		for _, o := range draw("l") {
			w.objects[deploy.KeyOf(o)] = o
		}
		in := plan.Input{Desired: desired, Options: plan.Options{Prune: true, AllowEmpty: true}, Live: w.live()}
		position := map[string]int{}
		for i, task := range plan.Tasks(in) {
			position[task.Key.Name] = i
		}
		op := run(w, in)
		if !op.Done() || op.FinishedAt.IsZero() {
			t.Fatalf("did not end: %+v", op)
		}
		seen := map[string]bool{}
		for _, entry := range w.log {
			if seen[entry] {
				t.Fatalf("%s twice in %v", entry, w.log)
			}
			seen[entry] = true
		}
		if op.Phase != plan.Succeeded {
			return
		}
		for _, o := range desired {
			if !plan.IsHook(o) && w.objects[deploy.KeyOf(o)] == nil {
				t.Fatalf("%s is missing after success", o.GetName())
			}
		}
		for _, o := range w.live() {
			if strings.HasPrefix(o.GetName(), "l") && !plan.IsHook(o) {
				t.Fatalf("%s was not pruned", o.GetName())
			}
		}
	})
}

func TestDifferences(t *testing.T) {
	base := "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, labels: {a: b}}, spec: {replicas: 1, template: {spec: {containers: [{name: c, resources: {limits: {cpu: '1'}}}]}}}}"
	for name, c := range map[string]struct {
		live string
		v    plan.Views
		want []string
	}{
		"same, with defaults and status": {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, uid: u, generation: 4, labels: {a: b, x: y}}, spec: {replicas: 1, paused: false, template: {spec: {containers: [{name: c, imagePullPolicy: Always, resources: {limits: {cpu: 1000m}}}]}}}, status: {replicas: 9}}", plan.Views{}, nil},
		"drift":                          {strings.Replace(base, "replicas: 1", "replicas: 3", 1), plan.Views{}, []string{"spec.replicas"}},
		"drift ignored":                  {strings.Replace(base, "replicas: 1", "replicas: 3", 1), plan.Views{Ignore: []manifest.IgnoreDifference{{Group: "apps", Kind: "Dep*", JSONPointers: []string{"/spec/replicas"}}}}, nil},
		"jq ignored":                     {strings.Replace(base, "replicas: 1", "replicas: 3", 1), plan.Views{Ignore: []manifest.IgnoreDifference{{Group: "*", Kind: "*", JQPathExpressions: []string{".spec.replicas"}}}}, nil},
		"container added":                {strings.Replace(base, "[{name: c,", "[{name: z}, {name: c,", 1), plan.Views{}, []string{"spec.template.spec.containers"}},
		"predicted is complete":          {strings.Replace(base, "replicas: 1", "replicas: 1, paused: true", 1), plan.Views{Predicted: true}, []string{"spec.paused"}},
		"removed from Git": {strings.Replace(base, "replicas: 1", "replicas: 1, paused: true", 1),
			plan.Views{Last: map[deploy.Key]*unstructured.Unstructured{{Group: "apps", Kind: "Deployment", Name: "d"}: object(strings.Replace(base, "replicas: 1", "paused: true", 1))}}, []string{"spec.paused"}},
		"label differs by text, not by number": {strings.Replace(base, "a: b", "a: '1.0'", 1), plan.Views{}, []string{"metadata.labels.a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.v.Differences(object(base), object(c.live))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	pod := thing("ConfigMap", "child")
	pod.SetOwnerReferences([]metav1.OwnerReference{{Kind: "X"}})
	got := plan.Compare([]*unstructured.Unstructured{thing("ConfigMap", "a"), thing("ConfigMap", "b"), thing("Job", "h", "hook=Sync")},
		[]*unstructured.Unstructured{thing("ConfigMap", "a"), thing("ConfigMap", "old"), pod, thing("Job", "h", "hook=Sync")}, plan.Views{})
	want := plan.Comparison{Status: plan.OutOfSync, Resources: []plan.Resource{
		{Key: deploy.Key{Kind: "ConfigMap", Namespace: "ns", Name: "a"}, Status: plan.Synced},
		{Key: deploy.Key{Kind: "ConfigMap", Namespace: "ns", Name: "b"}, Status: plan.OutOfSync, Differences: []string{""}},
		{Key: deploy.Key{Kind: "ConfigMap", Namespace: "ns", Name: "old"}, Status: plan.OutOfSync, RequiresPruning: true},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAuto(t *testing.T) {
	on := &manifest.SyncPolicy{Automated: &manifest.AutomatedSync{}}
	heal := &manifest.SyncPolicy{Automated: &manifest.AutomatedSync{SelfHeal: true}}
	out := plan.Comparison{Status: plan.OutOfSync, Resources: []plan.Resource{{Status: plan.OutOfSync}}}
	ended := func(revision, phase string) plan.Operation {
		return plan.Operation{Revision: revision, Phase: phase, FinishedAt: start}
	}
	for name, c := range map[string]struct {
		in   plan.AutoInput
		sync bool
	}{
		"off":               {plan.AutoInput{Comparison: out}, false},
		"first":             {plan.AutoInput{Policy: on, Comparison: out, Revision: "a"}, true},
		"in sync":           {plan.AutoInput{Policy: on, Comparison: plan.Comparison{Status: plan.Synced}}, false},
		"once per revision": {plan.AutoInput{Policy: on, Comparison: out, Revision: "a", Last: ended("a", plan.Succeeded), Now: start.Add(time.Hour)}, false},
		"next revision":     {plan.AutoInput{Policy: on, Comparison: out, Revision: "b", Last: ended("a", plan.Failed)}, true},
		"heal too early":    {plan.AutoInput{Policy: heal, Comparison: out, Revision: "a", Last: ended("a", plan.Succeeded), Now: start.Add(4 * time.Second)}, false},
		"heal":              {plan.AutoInput{Policy: heal, Comparison: out, Revision: "a", Last: ended("a", plan.Succeeded), Now: start.Add(5 * time.Second)}, true},
		"retry":             {plan.AutoInput{Policy: on, Comparison: out, Revision: "a", Last: ended("a", plan.Failed), Retries: 1, Now: start.Add(10 * time.Second)}, true},
		"retry too early":   {plan.AutoInput{Policy: on, Comparison: out, Revision: "a", Last: ended("a", plan.Failed), Retries: 1, Now: start.Add(9 * time.Second)}, false},
		"retries used up":   {plan.AutoInput{Policy: on, Comparison: out, Revision: "a", Last: ended("a", plan.Failed), Retries: 5, Now: start.Add(time.Hour)}, false},
		"prunes only":       {plan.AutoInput{Policy: on, Revision: "b", Comparison: plan.Comparison{Status: plan.OutOfSync, Resources: []plan.Resource{{Status: plan.OutOfSync, RequiresPruning: true}}}}, false},
	} {
		if got := plan.Auto(c.in); got.Sync != c.sync {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
