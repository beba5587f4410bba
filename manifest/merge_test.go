package manifest

import "testing"

func TestMergeTrees(t *testing.T) {
	over, _ := ParseTree([]byte(`{"a":1,"m":{"x":1},"l":[{"name":"p","v":1},{"name":"q"}],"s":[1],"n":null}`))
	under, _ := ParseTree([]byte(`{"a":2,"b":3,"m":{"x":2,"y":2},"l":[{"name":"r"},{"name":"p","v":2,"w":2}],"s":[2],"n":4}`))
	want := `{"a":1,"m":{"x":1,"y":2},"l":[{"name":"p","v":1,"w":2},{"name":"q"},{"name":"r"}],"s":[1],"n":4,"b":3}`
	if got := string(MergeTrees(over, under).JSON()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	tpl, _ := ParseTree([]byte(`{"name":"t","script":{"source":"x"}}`))
	defaults, _ := ParseTree([]byte(`{"name":"d","script":{"image":"i"},"container":{"image":"c"},"timeout":"1s"}`))
	want = `{"name":"t","script":{"source":"x","image":"i"},"timeout":"1s"}`
	if got := string(ApplyTemplateDefaults(tpl, defaults).JSON()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p := tpl.Positions()["script.source"]; p.Column != 32 {
		t.Errorf("position %v", p)
	}
}
