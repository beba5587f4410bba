package manifest_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/manifest"
)

// Field names and meanings: argo-cd 3.6, Application, AppProject and ApplicationSet specifications.
func TestApplicationValidate(t *testing.T) {
	for text, want := range map[string]string{
		"{metadata: {name: a}, spec: {destination: {name: in-cluster}, source: {repoURL: x, path: .}}}":                                                                    "",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: ., helm: {values: y}}}}":                                                     "spec.source.helm: Helm is not supported yet",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, chart: y}}}":                                                                       "spec.source.chart: Helm charts are not supported yet",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: ., plugin: {name: y}}}}":                                                     "spec.source.plugin: config management plugins",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: ., directory: {jsonnet: {tlas: [{value: y}]}}}}}":                            "spec.source.directory.jsonnet.tlas[0].name: a variable needs a name",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: ., directory: {jsonnet: {libs: [a/../../b]}}}}}":                             "spec.source.directory.jsonnet.libs[0]: path",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, sources: [{repoURL: x, path: .}, {repoURL: x, path: ../y}]}}":                                           "spec.sources[1].path: path",
		"{metadata: {name: a}, spec: {source: {repoURL: x, path: .}, destination: {server: s, name: n}}}":                                                                  "spec.destination: a destination has",
		"{metadata: {name: a}, spec: {destination: {namespace: n}}}":                                                                                                       "spec.source: an Application needs a source",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}}, operation: {sync: {prune: true, syncStrategy: {hook: {force: true}}}}}": "",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}}, operation: {initiatedBy: {username: x}}}":                               "operation.sync: an operation is a sync",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}}, operation: {sync: {dryRun: true}}}":                                     "operation.sync.dryRun: dryRun is not supported",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}}, operation: {sync: {revision: v1}}}":                                     "operation.sync.revision: revision is not",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}}, operation: {sync: {syncStrategy: {apply: {}}}}}":                        "operation.sync.syncStrategy.apply",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, ignoreDifferences: [{kind: X, jsonPointers: [spec]}]}}":                  "spec.ignoreDifferences[0].jsonPointers[0]",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: ., directory: {recurse: true}, kustomize: {namePrefix: y}}}}":                "spec.source: a source is a directory or",
		// What protects has to be right; what does not is a warning.
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {syncOptions: [Prune=no]}}}":                            "spec.syncPolicy.syncOptions[0]: the sync option Prune has the values true, false, confirm",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {syncOptions: [Delete=False]}}}":                        "spec.syncPolicy.syncOptions[0]: the sync option Delete has the values true, false, confirm",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {syncOptions: [PrunePropagationPolicy=orphan]}}}":       "spec.syncPolicy.syncOptions[0]: PrunePropagationPolicy=orphan is not supported",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {syncOptions: [PrunePropagationPolicy=background]}}}":   "",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {syncOptions: [Delete=confirm, Prune=confirm]}}}":       "",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {syncOptions: [Replace]}}}":                             "spec.syncPolicy.syncOptions[0]: the sync option Replace has the values",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {syncOptions: [Prone=false]}}}":                         "spec.syncPolicy.syncOptions[0]: unknown sync option",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}}, operation: {sync: {syncOptions: [Prune=never]}}}":                  "operation.sync.syncOptions[0]: the sync option Prune",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {managedNamespaceMetadata: {labels: {a: b}}}}}":         "spec.syncPolicy.managedNamespaceMetadata: managedNamespaceMetadata has no effect",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {retry: {limit: 3, backoff: {duration: soon}}}}}":       `spec.syncPolicy.retry.backoff.duration: "soon" is no duration`,
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {retry: {limit: 3, backoff: {maxDuration: '-1s'}}}}}":   `spec.syncPolicy.retry.backoff.maxDuration: "-1s" is no duration`,
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, syncPolicy: {retry: {limit: 3, backoff: {duration: '30'}}}}}":       "",
		"{metadata: {name: a}, spec: {destination: {namespace: n}, source: {repoURL: x, path: .}, ignoreDifferences: [{kind: X, jqPathExpressions: ['.a | keys']}]}}": "spec.ignoreDifferences[0].jqPathExpressions[0]: \".a | keys\" is no path that is understood here",
		// A slip of the pen that would move all that there is, and prune it where it was.
		"{metadata: {name: a}, spec: {source: {repoURL: x, path: .}}}":                                         "spec.destination: the destination is empty",
		"{metadata: {name: a}, spec: {source: {repoURL: x, path: .}, destination: {namespace: '{{x}}'}}}":      `spec.destination.namespace: "{{x}}" is no name of a namespace`,
		"{metadata: {name: a}, spec: {source: {repoURL: x, path: .}, destination: {namespace: 'a/b'}}}":        `spec.destination.namespace: "a/b"`,
		"{metadata: {name: a}, spec: {source: {repoURL: x, path: .}, destination: {namespace: -a}}}":           `spec.destination.namespace: "-a"`,
		"{metadata: {name: a}, spec: {source: {repoURL: x, path: .}, destination: {namespace: mr-1}}}":         "",
		"{metadata: {name: a}, spec: {source: {repoURL: x, path: .}, destination: {server: s, namespace: a}}}": "",
	} {
		var a manifest.Application
		if err := yaml.UnmarshalStrict([]byte(text), &a); err != nil {
			t.Fatal(text, err)
		}
		found := a.Validate()
		if want == "" {
			if len(found) != 0 {
				t.Errorf("%s: %v", text, found)
			}
			continue
		}
		if len(found) == 0 || !strings.HasPrefix(found[0].Path+": "+found[0].Message, want) {
			t.Errorf("%s: got %v, want %q", text, found, want)
		}
	}
}

func TestApplicationSetValidate(t *testing.T) {
	head := "{metadata: {name: s}, spec: {template: {metadata: {name: x}, spec: {}}, "
	for text, want := range map[string]string{
		"generators: [{list: {elements: [{a: b}]}}]}}":                               "",
		"generators: [{pullRequest: {gitlab: {project: g/p, labels: [x]}}}]}}":       "",
		"generators: [{matrix: {}}]}}":                                               "the matrix generator is not supported yet",
		"generators: [{git: {repoURL: x}}]}}":                                        "the git generator is not supported yet",
		"generators: [{pullRequest: {bitbucketServer: {}}}]}}":                       "pull requests of bitbucketServer",
		"generators: [{pullRequest: {}}]}}":                                          "names exactly one forge",
		"generators: [{pullRequest: {tiphys: {}, filters: [{branchMatch: '('}]}}]}}": "not a regular expression",
		"generators: [{list: {elements: [{a: b}]}}], templatePatch: x}}":             "templatePatch is not supported",
		"generators: []}}": "needs a generator",
		// An empty list is meant; one that is not there is a slip of the pen, and would delete every Application of the set.
		"generators: [{list: {elements: []}}]}}":    "",
		"generators: [{list: {elements: null}}]}}":  "a list generator has elements",
		"generators: [{list: {}}]}}":                "a list generator has elements",
		"generators: [{list: {elementsYaml: x}}]}}": "",
	} {
		var s manifest.ApplicationSet
		if err := yaml.UnmarshalStrict([]byte(head+text), &s); err != nil {
			t.Fatal(text, err)
		}
		found := s.Validate()
		if (want == "") != (len(found) == 0) || (want != "" && !strings.Contains(found[0].Message, want)) {
			t.Errorf("%s: got %v, want %q", text, found, want)
		}
	}
}
