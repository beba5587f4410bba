package schema

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// read gives an object of YAML.
func read(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	o := &unstructured.Unstructured{}
	if err == nil {
		err = o.UnmarshalJSON(raw)
	}
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return o
}

// TestTable judges the objects of testdata/table.txtar. The name of each says what comes of it: "taken/NAME", or "refused/NAME PATH" with the path of a field that
// must be named. The values are those of Kubernetes 1.36's API reference (the rules of each field) and of kubectl --validate=strict (unknown and wrong fields).
// An object begins with the short words of the reader below.
func TestTable(t *testing.T) {
	data, err := os.ReadFile("testdata/table.txtar")
	if err != nil {
		t.Fatal(err)
	}
	rows := txtar.Parse(data).Files
	if len(rows) < 100 {
		t.Fatalf("only %d rows", len(rows))
	}
	for _, row := range rows {
		name, path, _ := strings.Cut(row.Name, " ")
		t.Run(name, func(t *testing.T) {
			problems, _ := new(Checker).Check(read(t, string(row.Data)))
			var paths []string
			for _, p := range problems {
				paths = append(paths, p.Path)
				if !p.Fatal || p.Message == "" {
					t.Errorf("problem %+v", p)
				}
			}
			switch {
			case strings.HasPrefix(name, "taken/"):
				if len(problems) > 0 {
					t.Errorf("refused: %+v", problems)
				}
			case len(problems) == 0:
				t.Errorf("taken; want a problem at %s", path)
			default:
				for _, p := range paths {
					if p == path {
						return
					}
				}
				t.Errorf("problems %+v, none at %q", problems, path)
			}
		})
	}
}
