package runs_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// as has every run act for one and the same.
type as claims.Record

func (a as) Settle(context.Context, claims.Made) (claims.Record, error) {
	return claims.Record(a), nil
}

func decoded(t *testing.T, text string) manifest.Object {
	t.Helper()
	objects, diags := manifest.Decode("ci.yaml", []byte(text))
	if manifest.Failed(diags) {
		t.Fatal(diags)
	}
	return objects[0]
}

// What a pod would be refused for is said at the submission, where it stands in the manifest; what cannot be seen there is refused
// when the pod is made, on its node. Nothing of a workflow gets round it.
func TestPodsBeyondTheirRights(t *testing.T) {
	const begin = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: NAME}\nspec:\n  entrypoint: main\n"
	const fine = "  templates:\n  - name: main\n    container: {image: x, command: [c]}\n"
	const hostPath = `{"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}`
	for _, c := range []struct {
		what, spec string
		early      string // the place and field at the submission; empty if it shows later
		late       string // what the node says
	}{
		{what: "nothing", spec: fine},
		{what: "volumes of the run", spec: "  volumes:\n  - {name: v, hostPath: {path: /}}\n" + fine, early: "ci.yaml:7:25: spec.volumes[0].hostPath: hostPath volumes"},
		{what: "host network", spec: "  hostNetwork: true\n" + fine, early: "ci.yaml:6:16: spec.hostNetwork: host namespaces"},
		{what: "security context of the run", spec: "  securityContext: {seccompProfile: {type: Unconfined}}\n" + fine, early: "ci.yaml:6:37: spec.securityContext.seccompProfile: seccompProfile"},
		{what: "service account", spec: "  serviceAccountName: deployer\n" + fine, early: `ci.yaml:6:23: spec.serviceAccountName: the service account "deployer"`},
		{what: "security context of a template", spec: fine + "    securityContext: {sysctls: [{name: kernel.core_pattern, value: x}]}\n", early: "ci.yaml:9:32: spec.templates[0].securityContext.sysctls: "},
		{what: "container", spec: "  templates:\n  - name: main\n    container: {image: x, command: [c], securityContext: {privileged: true}}\n",
			early: "ci.yaml:8:71: spec.templates[0].container.securityContext.privileged: privileged"},
		{what: "script", spec: "  templates:\n  - name: main\n    script: {image: x, command: [c], source: s, ports: [{containerPort: 80, hostPort: 80}]}\n",
			early: "spec.templates[0].script.ports[0].hostPort: hostPort"},
		{what: "sidecar", spec: fine + "    sidecars: [{name: s, image: x, securityContext: {capabilities: {add: [NET_ADMIN]}}}]\n",
			early: "ci.yaml:9:74: spec.templates[0].sidecars[0].securityContext.capabilities.add: "},
		{what: "init container", spec: fine + "    initContainers: [{name: s, image: x, securityContext: {privileged: true}}]\n", early: "spec.templates[0].initContainers[0].securityContext.privileged: "},
		{what: "container set", spec: "  templates:\n  - name: main\n    containerSet: {containers: [{name: a, image: x}, {name: main, image: x, securityContext: {privileged: true}}]}\n",
			early: "spec.templates[0].containerSet.containers[1].securityContext.privileged: "},
		{what: "inline template", spec: "  templates:\n  - name: main\n    steps: [[{name: s, inline: {container: {image: x, command: [c], securityContext: {privileged: true}}}}]]\n",
			early: "spec.templates[0].steps[0][0].inline.container.securityContext.privileged: "},
		{what: "Secret", spec: "  templates:\n  - name: main\n    container: {image: x, command: [c], envFrom: [{secretRef: {name: key}}]}\n",
			early: `ci.yaml:8:70: spec.templates[0].container.envFrom[0].secretRef.name: the Secret "key"`},
		{what: "Secret of an artifact", spec: fine + "    inputs: {artifacts: [{name: a, path: /a, git: {repo: r, passwordSecret: {name: key, key: k}}}]}\n",
			early: `spec.templates[0].inputs.artifacts[0].git.passwordSecret.name: the Secret "key"`},
		{what: "Secret of a header", spec: "  templates:\n  - name: main\n    http: {url: 'http://127.0.0.1:1', headers: [{name: h, valueFrom: {secretKeyRef: {name: key, key: k}}}]}\n",
			early: `spec.templates[0].http.headers[0].valueFrom.secretKeyRef.name: the Secret "key"`},
		{what: "claim", spec: "  volumes: [{name: v, persistentVolumeClaim: {claimName: cache}}]\n" + fine, early: `spec.volumes[0].persistentVolumeClaim.claimName: the PersistentVolumeClaim "cache"`},

		{what: "patch of the run", spec: "  podSpecPatch: '" + hostPath + "'\n" + fine, late: "spec.volumes[0].hostPath: hostPath volumes"},
		{what: "patch of the template", spec: fine + "    podSpecPatch: '" + hostPath + "'\n", late: "spec.volumes[0].hostPath: hostPath volumes"},
		{what: "patch to the host's network", spec: fine + "    podSpecPatch: '{\"hostNetwork\": true}'\n", late: "spec.hostNetwork: host namespaces"},
		{what: "template defaults", spec: "  templateDefaults: {securityContext: {seccompProfile: {type: Unconfined}}}\n" + fine, late: "spec.securityContext.seccompProfile: "},
		{what: "a tag", spec: "  arguments: {parameters: [{name: s, value: key}]}\n  templates:\n  - name: main\n    inputs: {parameters: [{name: s, value: '{{workflow.parameters.s}}'}]}\n" +
			"    container: {image: x, command: [c], envFrom: [{secretRef: {name: '{{inputs.parameters.s}}'}}]}\n", late: `envFrom[0].secretRef.name: the Secret "key"`},
		{what: "a tag in a volume", spec: "  arguments: {parameters: [{name: s, value: cache}]}\n  volumes: [{name: v, persistentVolumeClaim: {claimName: '{{workflow.parameters.s}}'}}]\n" +
			"  templates:\n  - name: main\n    container: {image: x, command: [c], volumeMounts: [{name: v, mountPath: /v}]}\n",
			late: `the PersistentVolumeClaim "cache"`},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{}}}})
			defer d.close()
			d.reopen(func(o *runs.Options) {
				o.Claims = as{Kind: podpolicy.Repository, Hands: []claims.Hand{{Name: "harbour"}}, MergeRequest: 7}
			})
			name := strings.NewReplacer(" ", "-", "'", "").Replace(strings.ToLower(c.what))
			s := runs.Submission{Object: decoded(t, strings.Replace(begin, "NAME", name, 1)+c.spec)}
			if err := d.runs.Lint(t.Context(), s); (err != nil) != (c.early != "") || err != nil && !strings.Contains(err.Error(), c.early) {
				t.Errorf("lint: %v, want %q", err, c.early)
			}
			_, err := d.runs.Submit(t.Context(), s)
			if c.early != "" {
				if err == nil || !strings.Contains(err.Error(), c.early) || !strings.Contains(err.Error(), "to: {repositories: [harbour], mergeRequests: true}") {
					t.Errorf("%v, want %q and the grant", err, c.early)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.late == "" {
				return // a pod that is allowed
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			run, err := d.runs.Wait(ctx, "default", name)
			if err != nil {
				t.Fatal(err)
			}
			if run.Phase != workflow.Error || !strings.Contains(run.Message, c.late) || !strings.Contains(run.Message, "to: {repositories: [harbour], mergeRequests: true}") {
				t.Errorf("%s %q, want %q and the grant", run.Phase, run.Message, c.late)
			}
			if got := d.exec.Started(); len(got) > 0 {
				t.Errorf("%d pods were started", len(got))
			}
		})
	}
}
