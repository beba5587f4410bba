package wire

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// samples are definitions with a field of each type that their kinds have: numbers, booleans, lists, maps, durations, quantities,
// choices.
var samples = map[string]string{
	"WorkflowTemplate": `
spec:
  entrypoint: main
  activeDeadlineSeconds: 60
  parallelism: 2
  suspend: false
  arguments: {parameters: [{name: a, value: "1"}]}
  templates:
  - name: main
    retryStrategy: {limit: 2, retryPolicy: OnFailure, backoff: {duration: 10s, factor: 2}}
    container: {image: i, command: [x], tty: true, env: [{name: a, value: b}], resources: {limits: {cpu: 1, memory: 1Gi}}}
`,
	"CronWorkflow": `
spec:
  schedules: ["@daily"]
  timezone: Europe/Berlin
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 10
  suspend: true
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 1
  stopStrategy: {expression: "cronworkflow.failed >= 3"}
  when: "{{= cronworkflow.lastScheduledTime == nil }}"
  workflowMetadata: {labels: {a: b}}
  workflowSpec:
    entrypoint: main
    templates: [{name: main, container: {image: i, command: [x]}}]
`,
	"EventSource": `
spec:
  webhook:
    one: {endpoint: /a, method: POST, maxPayloadSize: 5, filter: {expression: "body.a == 1"}, metadata: {a: b}}
  calendar:
    two: {interval: 10s, timezone: UTC, exclusionDates: ["EXDATE:20300101T000000Z"], persistence: {catchup: {enabled: true, maxDuration: 1h}}}
  github:
    three: {webhook: {endpoint: /g}, repositories: [{owner: o, names: [shop]}], events: [push], active: true, contentType: json}
  gitlab:
    four: {webhook: {endpoint: /l}, projects: ["1"], events: [PushEvents], enableSSLVerification: true, secretToken: {name: s, key: k}}
`,
	"Sensor": `
spec:
  dependencies:
  - name: a
    eventSourceName: in
    eventName: one
    filtersLogicalOperator: and
    filters: {data: [{path: body.a, type: number, comparator: ">=", value: ["1"]}], time: {start: "02:30:00", stop: "04:30:00"}}
  triggers:
  - template:
      name: t
      conditions: a
      http: {url: "https://forge.example/x", method: POST, timeout: 10, headers: {a: b}, payload: [{src: {dependencyName: a, dataKey: body.a}, dest: a}]}
    retryStrategy: {steps: 3, duration: 1s, factor: 2, jitter: 0.5}
    rateLimit: {unit: Second, requestsPerUnit: 5}
    atLeastOnce: true
    policy: {status: {allow: [200]}}
`,
	"Application": `
spec:
  project: default
  destination: {server: https://kubernetes.default.svc, namespace: shop}
  source: {repoURL: "https://forge.example/a.git", path: deploy, directory: {recurse: true}}
  syncPolicy:
    automated: {prune: true, selfHeal: true, allowEmpty: false}
    syncOptions: [CreateNamespace=true]
    retry: {limit: 5, backoff: {duration: 5s, factor: 2, maxDuration: 3m}}
    managedNamespaceMetadata: {labels: {a: b}}
  ignoreDifferences: [{group: apps, kind: Deployment, jsonPointers: [/spec/replicas]}]
  revisionHistoryLimit: 3
  info: [{name: a, value: b}]
`,
	"ApplicationSet": `
spec:
  goTemplate: true
  goTemplateOptions: [missingkey=error]
  generators:
  - pullRequest: {requeueAfterSeconds: 30, tiphys: {repo: shop, labels: [preview]}, filters: [{branchMatch: ".*"}]}
  - list: {elements: [{number: 1}]}
  syncPolicy: {applicationsSync: sync, preserveResourcesOnDeletion: false}
  template:
    metadata: {name: "mr-{{.number}}", labels: {a: b}, finalizers: [x/y]}
    spec: {source: {repoURL: "https://forge.example/a.git", path: "{{.path}}"}, destination: {namespace: "mr-{{.number}}"}, syncPolicy: {automated: {prune: "{{.prune}}"}}}
`,
	"AppProject": `
spec:
  description: d
  sourceRepos: ["*"]
  destinations: [{server: "*", namespace: "*"}]
  clusterResourceWhitelist: [{group: "*", kind: "*"}]
  permitOnlyProjectScopedClusters: true
`,
	"ConfigMap":             "data: {a: b}\nbinaryData: {c: aGVsbG8=}\nimmutable: true\n",
	"Secret":                "type: Opaque\ndata: {a: aGVsbG8=}\nstringData: {b: c}\nimmutable: false\n",
	"PersistentVolumeClaim": "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}, storageClassName: s}\n",
}

// scalars are what a person may write where something else was, as YAML.
var scalars = []string{
	`"{{x}}"`, `"{{inputs.parameters.x}}"`, `"{{= 1 + 1 }}"`, `x`, `""`, `~`, `yes`, `"yes"`, `no`, `on`, `true`, `"true"`, `0`, `-1`, `3.0`, `1e3`, `1.5`, `0x10`, `0644`,
	`0o17`, `1_000`, `"12"`, `99999999999999999999`, `.inf`, `10s`, `1Gi`, `[]`, `[a]`, `[1]`, `[[]]`, `[~]`, `{}`, `{a: b}`, `{a: 1}`, `2030-01-01`, `2030-01-01T00:00:00Z`, `"é\u0000"`,
}

const place = "\x02here"

// mutated puts a place into one of a tree's values and gives the path.
func mutated(t *rapid.T, v any, path string) (any, string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 || path != "" && rapid.IntRange(0, 4).Draw(t, "stop") == 0 {
			return place, path
		}
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		k := rapid.SampledFrom(keys).Draw(t, "key")
		v[k], path = mutated(t, v[k], path+"."+k)
		return v, path
	case []any:
		if len(v) == 0 || rapid.IntRange(0, 4).Draw(t, "stop") == 0 {
			return place, path
		}
		i := rapid.IntRange(0, len(v)-1).Draw(t, "item")
		v[i], path = mutated(t, v[i], fmt.Sprintf("%s[%d]", path, i))
		return v, path
	}
	return place, path
}

// TestOneDecoder: whatever a person writes into a field of a definition, if it is taken then a controller reads the value that
// was judged, through the ledger; and it is not taken if a controller could not read it.
func TestOneDecoder(t *testing.T) {
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off, Projections: []ledger.Projection{definitions.Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	box, err := secret.NewBox(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := Rules(nil)
	if err != nil {
		t.Fatal(err)
	}
	store := definitions.New(l, box, rules)
	both[manifest.WorkflowTemplate](t, store)
	both[manifest.CronWorkflow](t, store)
	both[manifest.EventSource](t, store)
	both[manifest.Sensor](t, store)
	both[manifest.Application](t, store)
	both[manifest.ApplicationSet](t, store)
	both[manifest.AppProject](t, store)
	both[corev1.ConfigMap](t, store)
	both[corev1.Secret](t, store)
	both[corev1.PersistentVolumeClaim](t, store)
}

func both[T manifest.Declared](t *testing.T, store *definitions.Store) {
	kind := manifest.KindName[T]()
	t.Run(kind, func(t *testing.T) {
		taken, refused := 0, 0
		var last error
		rapid.Check(t, func(r *rapid.T) {
			var tree map[string]any
			if err := yaml.Unmarshal([]byte(samples[kind]), &tree); err != nil {
				r.Fatal(err)
			}
			tree["apiVersion"], tree["kind"] = "v1", kind
			tree["metadata"] = map[string]any{"name": "d", "labels": map[string]any{"a": "b"}, "annotations": map[string]any{"a": "b"}}
			with, path := mutated(r, tree, "")
			value := rapid.SampledFrom(scalars).Draw(r, "value")
			if path == ".kind" || path == ".metadata" || path == ".metadata.name" || path == "" {
				return
			}
			raw, err := json.Marshal(with)
			if err != nil {
				r.Fatal(err)
			}
			text := "---\n" + strings.Replace(string(raw), `"\u0002here"`, value, 1)
			objects, diags := manifest.Decode("m.yaml", []byte(text))
			if manifest.Failed(diags) || len(objects) != 1 {
				return
			}
			ch, err := store.Apply(t.Context(), "user:ada", definitions.OriginAPI, objects)
			if err != nil {
				if !manifest.Failed(ch.Diagnostics) {
					r.Fatalf("%s = %s: %v", path, value, err)
				}
				refused++
				last = err
				return
			}
			taken++
			seen, err := definitions.Find[T](t.Context(), store, "default", "d")
			if err != nil || seen.State != definitions.Present {
				r.Fatalf("%s = %s was taken, and a controller sees it as %s: %v %v", path, value, seen.State, seen.Problem, err)
			}
			judged, _ := manifest.Read[T](objects[0])
			meta := any(&judged.Value).(metav1.Object)
			meta.SetNamespace("default")
			if diff := cmp.Diff(judged.Value, seen.Value, cmp.Comparer(sameTree), cmp.Comparer(sameRaw)); diff != "" {
				r.Fatalf("%s = %s was judged as one value and read as another: %s", path, value, diff)
			}
		})
		if taken == 0 || refused == 0 {
			t.Errorf("%d were taken and %d refused: the mutations show nothing; the last was %v", taken, refused, last)
		}
	})
}

// sameTree compares content: the places are others in the ledger.
func sameTree(a, b *manifest.Tree) bool { return string(a.JSON()) == string(b.JSON()) }

func sameRaw(a, b json.RawMessage) bool { return string(a) == string(b) }

// TestTagsWhereNobodyReplacesThem: each is refused with its place and what to do. Every one was taken once, and what a controller
// made of it destroyed or stopped something.
func TestTagsWhereNobodyReplacesThem(t *testing.T) {
	const head = "apiVersion: argoproj.io/v1alpha1\nkind: "
	rules, err := Rules(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"prune": {head + "Application\nmetadata: {name: a}\nspec:\n  source: {repoURL: u, path: p}\n  destination: {namespace: n}\n  syncPolicy:\n    automated:\n      prune: \"{{x}}\"\n",
			`m.yaml:9:14: .spec.syncPolicy.automated.prune: expected boolean, got string "{{x}}" (write the value itself: tags are replaced in workflows, not here)`},
		"maxPayloadSize": {head + "EventSource\nmetadata: {name: a}\nspec:\n  webhook:\n    one:\n      endpoint: /a\n      maxPayloadSize: \"{{x}}\"\n",
			`m.yaml:8:23: .spec.webhook.one.maxPayloadSize: expected whole number, got string "{{x}}" (write the value itself: tags are replaced in workflows, not here)`},
		"requeueAfterSeconds": {head + "ApplicationSet\nmetadata: {name: a}\nspec:\n  generators:\n  - pullRequest:\n      requeueAfterSeconds: \"{{x}}\"\n      tiphys: {repo: r}\n  template: {metadata: {name: n}, spec: {}}\n",
			`m.yaml:7:28: .spec.generators[0].pullRequest.requeueAfterSeconds: expected whole number, got string "{{x}}" (write the value itself: tags are replaced in workflows, not here)`},
		"suspend": {head + "CronWorkflow\nmetadata: {name: a}\nspec:\n  schedules: ['@daily']\n  suspend: \"{{x}}\"\n  workflowSpec: {entrypoint: m, templates: [{name: m, container: {image: i, tty: \"{{inputs.parameters.x}}\"}}]}\n",
			`m.yaml:6:12: .spec.suspend: expected boolean, got string "{{x}}" (write the value itself: tags are replaced in workflows, not here)`},
		"data":   {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: 1\n", `m.yaml:5:6: .data.a: expected string, got number "1" (put it in quotes)`},
		"secret": {"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  a: 1234\n", `m.yaml:5:6: .stringData.a: expected string, got a number that is none (put it in quotes)`},
		"base64": {"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  a: hunter2!\n", `m.yaml:5:6: .data.a: expected base64 text, got a string that is none`},
		"name":   {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a/../b}\n", `m.yaml:3:18: "a/../b" is not a name (use lower-case letters, digits, '-' and '.', and begin and end with a letter or digit)`},
	} {
		t.Run(name, func(t *testing.T) {
			objects, diags := manifest.Decode("m.yaml", []byte(c.text))
			if len(objects) != 1 || len(diags) > 0 {
				t.Fatal(diags)
			}
			if err := manifest.FirstError(rules.Check(objects[0])); err == nil || err.Error() != c.want {
				t.Errorf("said %v, want %s", err, c.want)
			}
		})
	}
}
