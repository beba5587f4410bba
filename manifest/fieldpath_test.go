package manifest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/manifest"
)

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"X","x":` + text + `}`)); err != nil {
		t.Fatal(err)
	}
	return u.Object["x"].(map[string]any)
}

// Paths as jq reads them (its manual, "Basic filters"), and as argo-cd's docs/user-guide/diffing.md uses them.
func TestJQPath(t *testing.T) {
	const whole = `{"a":{"b":[{"name":"x","v":1,"on":true,"sub":{"k":"z"}},{"name":"y","v":2}],"c/d":3},"m":{"p":{"q":1},"r":{"q":2}}}`
	for expression, want := range map[string]string{
		`.a`:                                    `{"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.a.b[0]`:                               `{"a":{"b":[{"name":"y","v":2}],"c/d":3},"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.a["c/d"]`:                             `{"a":{"b":[{"name":"x","v":1,"on":true,"sub":{"k":"z"}},{"name":"y","v":2}]},"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.["a"]."c/d"`:                          `{"a":{"b":[{"name":"x","v":1,"on":true,"sub":{"k":"z"}},{"name":"y","v":2}]},"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.a.b[].v`:                              `{"a":{"b":[{"name":"x","on":true,"sub":{"k":"z"}},{"name":"y"}],"c/d":3},"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.a.b[]?.v?`:                            `{"a":{"b":[{"name":"x","on":true,"sub":{"k":"z"}},{"name":"y"}],"c/d":3},"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.m[].q`:                                `{"a":{"b":[{"name":"x","v":1,"on":true,"sub":{"k":"z"}},{"name":"y","v":2}],"c/d":3},"m":{"p":{},"r":{}}}`,
		`.m[] | select(.q == 2)`:                `{"a":{"b":[{"name":"x","v":1,"on":true,"sub":{"k":"z"}},{"name":"y","v":2}],"c/d":3},"m":{"p":{"q":1}}}`,
		`.a.b[] | select( .sub.k == "z" ) | .v`: `{"a":{"b":[{"name":"x","on":true,"sub":{"k":"z"}},{"name":"y","v":2}],"c/d":3},"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.a.b[]|select(.on==true)`:              `{"a":{"b":[{"name":"y","v":2}],"c/d":3},"m":{"p":{"q":1},"r":{"q":2}}}`,
		`.nothing.of[].it`:                      whole,
		`.a.b[7].v`:                             whole,
	} {
		path, err := manifest.JQPath(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		got := tree(t, whole)
		path.Remove(got)
		if diff := cmp.Diff(tree(t, want), got); diff != "" {
			t.Errorf("%s: %s", expression, diff)
		}
	}
	for _, expression := range []string{"", " ", "..", ".a |", ".a[", ".a[-1]", ".a[1:2]", ".a | keys", "a", ".a, .b", ".a[] | select(.b)", ".a[] | select(.b != 1)",
		`.a[] | select(.b == "x" or .c == 1)`, ".a | select(.b == 1)", `."\(.b)"`, "." + strings.Repeat("a", 2000), "input", ".a.b = 1", `.a["b]`} {
		if path, err := manifest.JQPath(expression); err == nil {
			t.Errorf("%q is taken: %v", expression, path)
		}
	}
}

// What RespectIgnoreDifferences needs: the fields as they are in another tree.
func TestFieldPathCopy(t *testing.T) {
	for name, c := range map[string]struct{ path, tree, from, want string }{
		"a value":                {"/a/b", `{"a":{"b":1,"c":2}}`, `{"a":{"b":5,"c":6}}`, `{"a":{"b":5,"c":2}}`},
		"one that is not there":  {"/a/b", `{"a":{"b":1,"c":2}}`, `{"a":{"c":6}}`, `{"a":{"c":2}}`},
		"one that is only there": {"/a/b", `{"a":{"c":2}}`, `{"a":{"b":5,"c":6}}`, `{"a":{"b":5,"c":2}}`},
		"in what is only there":  {"/a/b", `{}`, `{"a":{"b":5}}`, `{"a":{"b":5}}`},
		"of elements by name":    {".l[].v", `{"l":[{"name":"x","v":1},{"name":"y","v":2}]}`, `{"l":[{"name":"y","v":9},{"name":"x","v":8}]}`, `{"l":[{"name":"x","v":8},{"name":"y","v":9}]}`},
		"of an element by place": {"/l/1", `{"l":[1,2]}`, `{"l":[8,9]}`, `{"l":[1,9]}`},
		"of another shape":       {"/a/b/c", `{"a":{"b":1}}`, `{"a":[1]}`, `{"a":{"b":1}}`},
		"a new element":          {".l[].v", `{"l":[{"name":"z","v":1}]}`, `{"l":[{"name":"y","v":9}]}`, `{"l":[{"name":"z","v":1}]}`},
	} {
		path := manifest.PointerPath(c.path)
		if strings.HasPrefix(c.path, ".") {
			var err error
			if path, err = manifest.JQPath(c.path); err != nil {
				t.Fatal(err)
			}
		}
		got := tree(t, c.tree)
		path.Copy(got, tree(t, c.from))
		if diff := cmp.Diff(tree(t, c.want), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func FuzzJQPath(f *testing.F) {
	for _, seed := range []string{".a.b[0]", `.a[] | select(.n == "x") | .v`, `."a"["b"]?`, ".a[].b"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, expression string) {
		path, err := manifest.JQPath(expression)
		if err != nil {
			return
		}
		object := map[string]any{"a": map[string]any{"b": []any{map[string]any{"n": "x", "v": int64(1)}, "s"}}, "n": nil}
		path.Copy(object, map[string]any{"a": []any{"y"}, "n": map[string]any{}})
		path.Remove(object)
	})
}
