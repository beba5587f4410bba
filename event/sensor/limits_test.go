package sensor_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
)

const limits = `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s}
spec:
  replicas: 2
  template: {serviceAccountName: argo}
  dependencies:
  - {name: a, eventSourceName: b, eventName: c, filters: {data: [{path: body.x, type: string, value: [main]}]}}
  triggers:
  - template:
      name: t
      http: {url: http://a.test}
    retryStrategy: {steps: 3, duration: 1s, factor: 2, jitter: 0.5}
    rateLimit: {unit: Minute, requestsPerUnit: 1}
    policy: {}
    atLeastOnce: true
    dlqTrigger: {atLeastOnce: true, template: {name: d, log: {intervalSeconds: 1}}}
`

// TestCheckDefinition breaks a good Sensor in one place each. What is refused is what docs/compatibility.md lists; the
// words on TLS are those of argo-events (common.GetTLSConfig).
func TestCheckDefinition(t *testing.T) {
	const noEffect = " has no effect (docs/compatibility.md lists what has)"
	good := []string{"warning 5:13: spec.replicas" + noEffect, "warning 17:80: spec.triggers[0].dlqTrigger.template.log.intervalSeconds" + noEffect}
	for _, c := range []struct{ old, by, want string }{
		{"", "", ""},
		{"value: [main]", "value: ['(']", "8:103: a string is compared as a regular expression, and this is none: error parsing regexp: missing closing ): `(` (put a backslash before what is meant literally)"},
		{"eventName: c, ", "eventName: c, transform: {jq: '{a: [.b'}, ", "8:65: this is no jq program: line 1, column 8: unexpected EOF (try it with jq on one of the source's events)"},
		{"eventName: c, ", "eventName: c, transform: {jq: '. | foo'}, ", "8:65: this is no jq program: line 1, column 5: function not defined: foo/0"},
		{"name: t", "name: t\n      conditions: a && z", "12:19: "},
		{"http: {url", "slack: {a", "12:14: trigger type \"slack\" is understood but not run by this version (use http, or a step of a workflow)"},
		{"http: {url: http://a.test}", "k8s: {operation: delete, source: {inline: x}}", "12:24: operation \"delete\" of a k8s trigger is not run here"},
		{"http: {url: http://a.test}", "argoWorkflow: {operation: stop, source: {inline: x}}", "12:33: operation \"stop\" of an argoWorkflow trigger is not run here"},
		{"http: {url: http://a.test}", "argoWorkflow: {args: [-p], source: {inline: x}}", "12:28: args of the argo command are not read here"},
		{"http: {url: http://a.test}", "argoWorkflow: {source: {s3: {a: b}}}", "12:35: a trigger's object cannot be taken from s3"},
		{"http: {url: http://a.test}", "argoWorkflow: {source: {git: {url: x, creds: {username: {name: a, key: b}}}}}", "12:52: a trigger's object is fetched without a password or key: creds cannot be used"},
		{"http://a.test}", "http://a.test, timeout: 91}", "12:43: timeout must be between 0 and 90 seconds, got 91"},
		{"http://a.test}", "http://a.test, tls: {}}", "12:39: invalid tls config, please configure either caCertSecret, or clientCertSecret and clientKeySecret, or both"},
		{"http://a.test}", "http://a.test, tls: {clientKeySecret: {name: a, key: b}}}", "12:39: invalid tls config, both clientCertSecret and clientKeySecret need to be configured"},
		{"http://a.test}", "http://a.test, secureHeaders: [{name: A}]}", "12:50: a secure header needs a name and one of secretKeyRef and configMapKeyRef"},
		{"policy: {}", "policy: {k8s: {labels: {a: b}}}", "15:19: policy.k8s is not followed here"},
		{"policy: {}\n    atLeastOnce: true\n    dlqTrigger: {atLeastOnce: true, ", "atLeastOnce: true\n    dlqTrigger: {atLeastOnce: true, policy: {status: {allow: [200]}}, ", "16:54: policy.status belongs to http triggers"},
		{"requestsPerUnit: 1", "requestsPerUnit: 0", "14:16: rateLimit.requestsPerUnit must be positive"},
		{"duration: 1s", "duration: soon", "13:41: \"soon\" is not a duration"},
		{"factor: 2", "factor: x", "13:53: \"x\" is not a number"},
		{"jitter: 0.5", "jitter: -1", "13:64: \"-1\" is not a number"},
		{"{name: d, log: {intervalSeconds: 1}}", "{name: d, email: {}}", "17:64: trigger type \"email\""},
	} {
		objects, diagnostics := manifest.Decode("", []byte(strings.Replace(limits, c.old, c.by, 1)))
		if err := manifest.FirstError(diagnostics); err != nil {
			t.Fatal(err)
		}
		var warnings, errors []string
		for _, d := range sensor.CheckDefinition(objects[0]) {
			text := strings.TrimPrefix(d.Error(), ":")
			if d.Severity == manifest.SeverityError {
				errors = append(errors, text)
			} else {
				warnings = append(warnings, "warning "+strings.Replace(text, " on this machine", "", 1))
			}
		}
		if c.want == "" {
			if diff := cmp.Diff(good, warnings); diff != "" || len(errors) > 0 {
				t.Errorf("the good one: %s%v", diff, errors)
			}
			continue
		}
		if len(errors) != 1 || !strings.HasPrefix(errors[0], c.want) {
			t.Errorf("with %q: got %q, want one error that begins %q", c.by, errors, c.want)
		}
	}
}
