package manifest

// MergeTrees lays one tree over another: maps are merged key by key, lists whose items all have a name are merged by
// name (what is only in the lower one comes last), and of anything else the upper one stands. It is how Argo lays
// a Workflow over its WorkflowTemplate and that over the controller's defaults. Positions are kept.
func MergeTrees(over, under *Tree) *Tree {
	switch {
	case over.Kind() == KindNull:
		return under
	case under == nil || over.kind != under.kind:
		return over
	case over.kind == KindMap:
		merged := *over
		merged.fields = make([]field, 0, len(over.fields)+len(under.fields))
		for _, f := range over.fields {
			if below := under.Get(f.key); below != nil {
				f.value = MergeTrees(f.value, below)
			}
			merged.fields = append(merged.fields, f)
		}
		for _, f := range under.fields {
			if over.Get(f.key) == nil {
				merged.fields = append(merged.fields, f)
			}
		}
		return &merged
	case over.kind == KindList && named(over) && named(under):
		return mergeNamed(over, under)
	}
	return over
}

func named(t *Tree) bool {
	for _, item := range t.items {
		if item.Get("name").Kind() != KindString {
			return false
		}
	}
	return true
}

func mergeNamed(over, under *Tree) *Tree {
	merged := *over
	merged.items = nil
	below := make(map[string]*Tree, len(under.items))
	for _, item := range under.items {
		below[item.Get("name").text] = item
	}
	seen := map[string]bool{}
	for _, item := range over.items {
		name := item.Get("name").text
		seen[name] = true
		if lower := below[name]; lower != nil {
			item = MergeTrees(item, lower)
		}
		merged.items = append(merged.items, item)
	}
	for _, item := range under.items {
		if !seen[item.Get("name").text] {
			merged.items = append(merged.items, item)
		}
	}
	return &merged
}

// Without gives a map without some of its keys.
func (t *Tree) Without(keys ...string) *Tree {
	if t.Kind() != KindMap {
		return t
	}
	drop := make(map[string]bool, len(keys))
	for _, k := range keys {
		drop[k] = true
	}
	kept := *t
	kept.fields = nil
	for _, f := range t.fields {
		if !drop[f.key] {
			kept.fields = append(kept.fields, f)
		}
	}
	return &kept
}

// Walk calls visit for the node and all below it, with their paths below the given one. Where visit is false,
// what is below is left out.
func (t *Tree) Walk(path string, visit func(path string, node *Tree) bool) {
	if t == nil || !visit(path, t) {
		return
	}
	for i, item := range t.items {
		item.Walk(IndexPath(path, i), visit)
	}
	for i := range t.fields {
		t.fields[i].value.Walk(JoinPath(path, t.fields[i].key), visit)
	}
}

// Positions gives the position of every node by its path.
func (t *Tree) Positions() map[string]Position {
	positions := map[string]Position{}
	t.Walk("", func(path string, node *Tree) bool {
		positions[path] = node.Here()
		return true
	})
	return positions
}

// TemplateTypes are the fields of a template of which exactly one is set.
func TemplateTypes() []string {
	return []string{"container", "script", "steps", "dag", "suspend", "resource", "http", "containerSet", "data", "plugin"}
}

// ApplyTemplateDefaults lays a template over templateDefaults. A default for another type of template has no part in it.
func ApplyTemplateDefaults(template, defaults *Tree) *Tree {
	var others []string
	for _, kind := range TemplateTypes() {
		if template.Get(kind) == nil {
			others = append(others, kind)
		}
	}
	return MergeTrees(template, defaults.Without(append(others, "name")...))
}
