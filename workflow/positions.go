package workflow

import (
	"fmt"

	"github.com/tiphys/tiphys/manifest"
)

// Positions gives the places of a manifest's templates, steps and tasks by path, for Submit.Positions.
func Positions(t *manifest.Tree) map[string]manifest.Position {
	out := map[string]manifest.Position{}
	put := func(path string, x *manifest.Tree) {
		if x != nil {
			out[path] = x.Here()
		}
	}
	var template func(path string, tm *manifest.Tree)
	site := func(path string, st *manifest.Tree) {
		put(path, st)
		if inline := st.Get("inline"); inline != nil {
			template(path+".inline", inline)
		}
	}
	template = func(path string, tm *manifest.Tree) {
		put(path, tm)
		for g, group := range tm.Get("steps").Items() {
			if group.Kind() != manifest.KindList {
				site(fmt.Sprintf("%s.steps[%d]", path, g), group)
				continue
			}
			for i, st := range group.Items() {
				site(fmt.Sprintf("%s.steps[%d][%d]", path, g, i), st)
			}
		}
		for i, st := range tm.Get("dag").Get("tasks").Items() {
			site(fmt.Sprintf("%s.dag.tasks[%d]", path, i), st)
		}
	}
	for i, tm := range t.Get("spec").Get("templates").Items() {
		template(fmt.Sprintf("spec.templates[%d]", i), tm)
	}
	return out
}
