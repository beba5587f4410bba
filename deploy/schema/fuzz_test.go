package schema

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// FuzzCheck has any tree judged: nothing panics, what is named is bounded, and what was taken can be completed and is then taken again.
func FuzzCheck(f *testing.F) {
	data, err := os.ReadFile("testdata/table.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, row := range txtar.Parse(data).Files {
		raw, err := yaml.YAMLToJSON(row.Data)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		o := &unstructured.Unstructured{}
		if o.UnmarshalJSON(raw) != nil {
			return
		}
		start := time.Now()
		problems, readable := new(Checker).Check(o)
		if len(problems) > maxProblems {
			t.Errorf("%d problems", len(problems))
		}
		for _, p := range problems {
			if len(p.Path) > 2*maxShown || len(p.Message) > 4*maxShown {
				t.Errorf("a long problem: %.100q %.100q", p.Path, p.Message)
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s for %d bytes", took, len(raw))
		}
		if len(problems) > 0 || !readable {
			return
		}
		full, err := Complete(o)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := new(Checker).Check(full); len(again) > 0 {
			t.Errorf("completed it is refused: %+v", again)
		}
		if problems := new(Checker).CheckChange(full, full); len(problems) > 0 {
			t.Errorf("it cannot stay as it is: %+v", problems)
		}
	})
}

// TestLarge has objects judged that are as large as a manifest can be: deep, wide, long. Each takes a moment.
func TestLarge(t *testing.T) {
	containers := strings.Repeat(`{"name":"a","image":"b","env":[{"name":"A","value":"b"}],"unknown":1},`, 10_000) + `{"name":"z","image":"b"}`
	for name, text := range map[string]string{
		"deep":       `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":` + strings.Repeat(`{"a":`, 5000) + `1` + strings.Repeat(`}`, 5000) + `}`,
		"deep lists": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":` + strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000) + `}}`,
		"wide":       `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[` + containers + `]}}`,
		"long":       `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`,
		"long name":  `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + strings.Repeat("x", 3<<20) + `"}}`,
		"long key":   `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"` + strings.Repeat("x", 3<<20) + `":{}}`,
		"long kind":  `{"apiVersion":"v1","kind":"` + strings.Repeat("x", 3<<20) + `","metadata":{"name":"a b"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := &unstructured.Unstructured{}
			if err := o.UnmarshalJSON([]byte(text)); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			problems, _ := new(Checker).Check(o)
			if took := time.Since(start); len(problems) == 0 || took > 10*time.Second {
				t.Errorf("%d problems after %s", len(problems), took)
			}
			for _, p := range problems {
				if len(p.Message) > 4*maxShown || len(p.Path) > 2*maxShown {
					t.Errorf("a problem of %d and %d bytes", len(p.Path), len(p.Message))
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	o := read(b, deployment)
	c := new(Checker)
	for b.Loop() {
		if problems, _ := c.Check(o); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: registry.localhost/web:v1
        ports: [{containerPort: 80, name: http}]
        env: [{name: A, value: b}]
        readinessProbe: {httpGet: {port: http}}
        resources: {limits: {memory: 64Mi}}
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, configMap: {name: data}}]
`
