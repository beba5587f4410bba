package workflow

import (
	"maps"
	"strings"
)

// within gives the template of a steps or dag node as it is for that node: with the tags in the names of its steps replaced. Argo
// replaces the inputs in a whole template before it makes nodes (ProcessArgs in workflow/common/util.go), and the outputs of
// earlier steps in each group before that begins.
func (s *State) within(b *node) (*template, error) {
	tm, err := s.templateAt(b.Template)
	if err != nil || !tm.tagged {
		return tm, err
	}
	if own := s.cache.within[b.ID]; own != nil {
		return own, nil
	}
	own := tm.copied()
	s.cache.within[b.ID] = own
	made := s.madeNames(b)
	for _, st := range own.sites() {
		if name, ok := made[st.key]; ok {
			own.rename(st, name)
		}
	}
	for _, st := range own.sites() {
		// What names a later output stays as it is, and is looked at again when its group begins.
		_ = s.nameSite(b, own, st)
	}
	return own, nil
}

// nameSite replaces the tags in the name of a step or task, and in what a task depends on.
func (s *State) nameSite(b *node, tm *template, st *site) error {
	sc := &scope{s: s, now: s.run.CreatedAt, inputs: b.Inputs, self: b}
	if b.Type == NodeSteps {
		sc.boundary = b // the tasks of a DAG have their names from its beginning
	}
	name, err := substituteText(st.name, sc)
	if err != nil {
		return err
	}
	tm.rename(st, name)
	for i := range st.dependencies {
		if st.dependencies[i], err = substituteText(st.dependencies[i], sc); err != nil {
			return err
		}
	}
	st.depends, err = substituteText(st.depends, sc)
	return err
}

// madeNames are the names of the steps of a node that are there already, by their site.
func (s *State) madeNames(b *node) map[string]string {
	names := map[string]string{}
	for _, c := range s.childrenOf(b) {
		if c.Role == roleGroup && c.Type == NodeStepGroup {
			for _, k := range s.childrenOf(c) {
				names[k.Site] = k.Step
			}
			continue
		}
		if c.Site != "" {
			names[c.Site] = c.Step
		}
	}
	return names
}

// copied is a template with sites of its own.
func (tm *template) copied() *template {
	own := *tm
	own.byName, own.groups, own.tasks = maps.Clone(tm.byName), nil, nil
	again := func(st *site) *site {
		c := *st
		c.dependencies = append([]string(nil), st.dependencies...)
		if own.byName[st.name] == st {
			own.byName[st.name] = &c
		}
		return &c
	}
	for _, group := range tm.groups {
		var out []*site
		for _, st := range group {
			out = append(out, again(st))
		}
		own.groups = append(own.groups, out)
	}
	for _, st := range tm.tasks {
		own.tasks = append(own.tasks, again(st))
	}
	return &own
}

// sites are all steps or tasks of a template.
func (tm *template) sites() []*site {
	all := append([]*site(nil), tm.tasks...)
	for _, group := range tm.groups {
		all = append(all, group...)
	}
	return all
}

func (tm *template) rename(st *site, name string) {
	if name == st.name {
		return
	}
	if tm.byName[st.name] == st {
		delete(tm.byName, st.name)
	}
	st.name = name
	tm.byName[name] = st
}

// hasTags reports whether the name of a site, or what it depends on, is only known within a node.
func (st *site) hasTags() bool {
	return strings.Contains(st.name+st.depends+strings.Join(st.dependencies, ""), "{{")
}
