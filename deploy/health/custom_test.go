package health_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/script"
)

// certificate is a script as an operator writes it, on the lines of Argo CD's documents ("Custom Health Checks").
const certificate = `
hs = {status = "Progressing", message = "waiting for the certificate"}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for i, condition in ipairs(obj.status.conditions) do
    if condition.type == "Ready" then
      hs.message = condition.message
      if condition.status == "True" then hs.status = "Healthy" else hs.status = "Degraded" end
    end
  end
end
return hs
`

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

const (
	cert  = "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: x}, status: {conditions: [{type: Ready, status: 'False', message: no issuer}]}}"
	claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: x}, status: {phase: Bound}}"
	site  = "{apiVersion: s3.aws.example.org/v1, kind: Bucket, metadata: {name: x}, spec: {replicas: 3}}"
	going = "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: x, deletionTimestamp: '2026-01-01T00:00:00Z'}}"
)

// Argo CD's documents, "Resource Health", and util/lua: where a rule is found, which one counts, and what becomes of what it
// returns.
func TestRulesOfTheOperator(t *testing.T) {
	key := func(kind string) string { return "resource.customizations.health." + kind }
	yes := `return {status = "Healthy", message = "by rule"}`
	for _, c := range []struct {
		what, object string
		data         map[string]string
		want         deploy.Health
		known        bool
	}{
		{"no rule, no kind of our own", cert, nil, deploy.Health{}, false},
		{"a kind", cert, map[string]string{key("cert-manager.io_Certificate"): certificate}, deploy.Health{Status: "Degraded", Message: "no issuer"}, true},
		{"all at once", cert, map[string]string{"resource.customizations": "cert-manager.io/Certificate:\n  health.lua: |\n" + indent(certificate)}, deploy.Health{Status: "Degraded", Message: "no issuer"}, true},
		{"a kind counts more than all at once", cert, map[string]string{"resource.customizations": "cert-manager.io/Certificate: {health.lua: 'return nil'}", key("cert-manager.io_Certificate"): yes},
			deploy.Health{Status: "Healthy", Message: "by rule"}, true},
		{"the core group", claim, map[string]string{key("PersistentVolumeClaim"): `return {status = "Suspended"}`}, deploy.Health{Status: "Suspended"}, true},
		{"another kind's", claim, map[string]string{key("cert-manager.io_Certificate"): certificate}, deploy.Health{Status: "Healthy"}, true},
		{"a wildcard", site, map[string]string{"resource.customizations": "'*.aws.example.org/*': {health.lua: 'return {status = \"Healthy\", message = \"by rule\"}'}"},
			deploy.Health{Status: "Healthy", Message: "by rule"}, true},
		{"a name counts more than a wildcard", site, map[string]string{"resource.customizations": "'*.aws.example.org/*': {health.lua: 'return nil'}\ns3.aws.example.org/Bucket: {health.lua: 'return {status = \"Missing\"}'}"},
			deploy.Health{Status: "Missing"}, true},
		{"numbers are numbers", site, map[string]string{key("s3.aws.example.org_Bucket"): `if obj.spec.replicas + 1 == 4 then return {status = "Healthy"} end`}, deploy.Health{Status: "Healthy"}, true},
		{"nothing", site, map[string]string{key("s3.aws.example.org_Bucket"): `return nil`}, deploy.Health{}, false},
		{"an empty table", site, map[string]string{key("s3.aws.example.org_Bucket"): `return {}`}, deploy.Health{}, false},
		{"no status of Argo CD's", site, map[string]string{key("s3.aws.example.org_Bucket"): `return {status = "Fine"}`}, deploy.Health{Status: "Unknown", Message: "Lua returned an invalid health status"}, true},
		{"nothing, of a kind with a built-in rule", claim, map[string]string{key("PersistentVolumeClaim"): `return nil`}, deploy.Health{Status: "Healthy"}, true},
		{"an empty table, of a kind with a built-in rule", claim, map[string]string{key("PersistentVolumeClaim"): `return {}`}, deploy.Health{}, false},
		{"a message for the deletion", going, map[string]string{key("cert-manager.io_Certificate"): `return {status = "Degraded", message = "m", deletionMessage = "cannot go"}`}, deploy.Health{Status: "Degraded", Message: "cannot go"}, true},
		{"a message for the deletion of what stays", cert, map[string]string{key("cert-manager.io_Certificate"): `return {status = "Degraded", message = "m", deletionMessage = "cannot go"}`}, deploy.Health{Status: "Degraded", Message: "m"}, true},
		{"no message for the deletion", going, map[string]string{key("cert-manager.io_Certificate"): `return nil`}, deploy.Health{Status: "Progressing", Message: "Pending deletion"}, true},
		{"what is being deleted", going, map[string]string{key("cert-manager.io_Certificate"): yes}, deploy.Health{Status: "Progressing", Message: "Pending deletion"}, true},
	} {
		rules, problems := health.NewRules(c.data)
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.what, problems)
		}
		if got, known := judged(t, rules, parse(t, c.object)); got != c.want || known != c.known {
			t.Errorf("%s: %+v (%t), want %+v (%t)", c.what, got, known, c.want, c.known)
		}
	}
}

// judged has an object's question answered in this process.
func judged(t testing.TB, rules health.Rules, o *unstructured.Unstructured) (deploy.Health, bool) {
	t.Helper()
	q, ok, err := rules.Ask(o)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return rules.Of(o)
	}
	v := q.Answer(script.Interpreter{}.Health(t.Context(), q.Program, q.Object))
	return rules.With(map[[sha256.Size]byte]health.Verdict{q.Digest: v}, "").Of(o)
}

// An object that no program has judged is Unknown, and the reason is said: it is never Degraded, and no verdict on another object counts.
func TestWhatWasNotAsked(t *testing.T) {
	rules, _ := health.NewRules(map[string]string{"resource.customizations.health.cert-manager.io_Certificate": certificate})
	o := parse(t, cert)
	want := deploy.Health{Status: "Unknown", Message: "the health script of Certificate was not run: no process"}
	if got, known := rules.With(nil, "no process").Of(o); !known || got != want {
		t.Errorf("%+v", got)
	}
	q, ok, err := rules.Ask(o)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	rules = rules.With(map[[sha256.Size]byte]health.Verdict{q.Digest: {Known: true, Health: deploy.Health{Status: "Healthy"}}}, "no process")
	o.SetLabels(map[string]string{"a": "b"})
	if got, _ := rules.Of(o); got != want {
		t.Errorf("%+v", got)
	}
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
}

// A rule reaches nothing and ends: what goes wrong is the object's health, with the reason.
func TestRulesAreConfined(t *testing.T) {
	for script, want := range map[string]string{
		`return os.execute("true")`:                                "non-function object",
		`return io.open("/etc/passwd")`:                            "non-table object(nil)",
		`return require("os")`:                                     "non-function",
		`return dofile("/etc/passwd")`:                             "non-function",
		`return load("return 1")()`:                                "non-function",
		`while true do end`:                                        "took more steps",
		`s = "x" for i = 1, 64 do s = s .. s end return s`:         "bytes of text",
		`return ("x"):rep(1e9)`:                                    "bytes of text",
		`function f() return f() + 1 end return f()`:               "stack overflow",
		`t = {} for i = 1, 1e9 do t[i] = i end`:                    "larger than 100000",
		`error("on purpose")`:                                      "on purpose",
		`this is no lua`:                                           "parse error",
		`return obj.status.phase`:                                  "nil",
		`obj.metadata.name = "y" return {status = obj.spec.x.y.z}`: "nil",
	} {
		rules, _ := health.NewRules(map[string]string{"resource.customizations.health.s3.aws.example.org_Bucket": script})
		o := parse(t, site)
		got, known := judged(t, rules, o)
		if !known || got.Status != "Unknown" || !strings.Contains(got.Message, want) || !strings.Contains(got.Message, "Bucket") {
			t.Errorf("%s: %+v, want Unknown because of %q", script, got, want)
		}
		if o.GetName() != "x" {
			t.Errorf("%s changed the object", script)
		}
	}
	if _, problems := health.NewRules(map[string]string{"resource.customizations": "[no, map]"}); len(problems) != 1 {
		t.Errorf("what cannot be read is told: %v", problems)
	}
	if _, problems := health.NewRules(map[string]string{"resource.customizations": "'a[/b': {health.lua: x}"}); len(problems) != 1 {
		t.Errorf("what is no pattern is told: %v", problems)
	}
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{certificate, "return {status = 1}", "return obj", "return {{}}", "goto x ::x::", "return function() end"} {
		f.Add(s)
	}
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "x/v1", "kind": "Y", "metadata": map[string]any{"name": "x"}}}
	f.Fuzz(func(t *testing.T, text string) {
		rules, _ := health.NewRules(map[string]string{"resource.customizations.health.x_Y": text})
		_, _ = judged(t, rules, o)
	})
}
