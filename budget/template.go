package budget

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"
)

// tick is the function that is called in each body of a loop; nobody can write its name.
const tick = "tiphys_tick"

// LongestTemplate is the most bytes of a template's text: the library calls itself for each if that lies in another.
const LongestTemplate = 256 << 10

// Template is a Go template that is executed within a budget.
type Template struct {
	parsed *template.Template
	sprigs Sprigs
	used   map[string]bool
}

// ParseTemplate reads a Go template with sprig's functions and others. Options are those of text/template.
func ParseTemplate(text string, sprigs Sprigs, others map[string]any, options ...string) (*Template, error) {
	functions := template.FuncMap{tick: func() string { return "" }}
	for _, name := range sprigs.Names() {
		functions[name] = sprigs.Raw(name)
	}
	for name, f := range others {
		functions[name] = f
	}
	if len(text) > LongestTemplate {
		return nil, fmt.Errorf("%w: a template of more than %d bytes", ErrExceeded, LongestTemplate)
	}
	parsed, err := template.New("template").Option(options...).Funcs(functions).Parse(text)
	if err != nil {
		return nil, err
	}
	t := &Template{parsed: parsed, sprigs: sprigs, used: map[string]bool{}}
	step, err := template.New("tick").Funcs(functions).Parse("{{" + tick + "}}")
	if err != nil {
		return nil, err
	}
	for _, each := range parsed.Templates() {
		if each.Tree != nil && each.Root != nil {
			t.count(each.Root, step.Root.Nodes[0])
			each.Root.Nodes = append([]parse.Node{step.Root.Nodes[0].Copy()}, each.Root.Nodes...)
		}
	}
	return t, nil
}

// count puts a step into each loop, and notes which functions are called.
func (t *Template) count(node parse.Node, step parse.Node) {
	branch := func(b *parse.BranchNode) {
		t.pipe(b.Pipe)
		t.count(b.List, step)
		if b.ElseList != nil {
			t.count(b.ElseList, step)
		}
	}
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, item := range n.Nodes {
			t.count(item, step)
		}
	case *parse.ActionNode:
		t.pipe(n.Pipe)
	case *parse.TemplateNode:
		t.pipe(n.Pipe)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
		n.List.Nodes = append([]parse.Node{step.Copy()}, n.List.Nodes...)
	}
}

func (t *Template) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	for _, c := range p.Cmds {
		for _, arg := range c.Args {
			t.argument(arg)
		}
	}
}

func (t *Template) argument(node parse.Node) {
	switch n := node.(type) {
	case *parse.IdentifierNode:
		t.used[n.Ident] = true
	case *parse.PipeNode:
		t.pipe(n)
	case *parse.ChainNode:
		t.argument(n.Node)
	}
}

// Execute gives the template's text over a value, of at most so many bytes. Others are functions that take the place of those
// that it was parsed with.
func (t *Template) Execute(b *Budget, most int, value any, others map[string]any) (string, error) {
	functions := template.FuncMap{
		tick:       func() (string, error) { return "", b.Step(0) },
		"printf":   func(format string, args ...any) (string, error) { return b.printf(format, args) },
		"print":    b.writes(fmt.Sprint, 1),
		"println":  b.writes(fmt.Sprintln, 1),
		"html":     b.writes(template.HTMLEscaper, 5),
		"js":       b.writes(template.JSEscaper, 6),
		"urlquery": b.writes(template.URLQueryEscaper, 3),
	}
	for name := range t.used {
		if f := t.sprigs.Within(b, name); f != nil {
			functions[name] = f
		}
	}
	for name, f := range others {
		functions[name] = f
	}
	run, err := t.parsed.Clone()
	if err != nil {
		return "", err
	}
	out := limited{most: most}
	if err := run.Funcs(functions).Execute(&out, value); err != nil {
		return "", err
	}
	return out.String(), nil
}

// writes is one of the functions that write all their arguments, each byte of which becomes at most so many.
func (b *Budget) writes(write func(...any) string, grown int64) func(...any) (string, error) {
	return func(args ...any) (string, error) {
		size := Sizes(args)
		if err := b.Step(size); err != nil {
			return "", err
		}
		if err := b.TakeText(Repeated(size, grown)); err != nil {
			return "", err
		}
		return write(args...), nil
	}
}

// widest is the most that a number or text may be padded to by printf, in characters.
const widest = 1000

// printf is fmt.Sprintf without widths that make much out of nothing.
func (b *Budget) printf(format string, args []any) (string, error) {
	for i := 0; i < len(format); i++ {
		n := 0
		for ; i < len(format) && format[i] >= '0' && format[i] <= '9' && n <= widest; i++ {
			n = n*10 + int(format[i]-'0')
		}
		if n > widest || i < len(format) && format[i] == '*' {
			return "", fmt.Errorf("printf: %w: a width of more than %d, or one that is computed", ErrExceeded, widest)
		}
	}
	if err := b.Call(args...); err != nil {
		return "", fmt.Errorf("printf: %w", err)
	}
	var largest int64
	for _, a := range args {
		largest = max(largest, Size(a, Bytes))
	}
	if strings.ContainsAny(format, "qxXv#+") {
		largest *= 4 // what is escaped
	}
	// Each verb writes an argument, or pads to its width.
	verbs := int64(strings.Count(format, "%"))
	if err := b.TakeText(Repeated(verbs, largest+16) + int64(len(format))); err != nil {
		return "", fmt.Errorf("printf: %w", err)
	}
	return fmt.Sprintf(format, args...), nil
}

// limited stops a template that writes too much.
type limited struct {
	bytes.Buffer
	most int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.most {
		return 0, fmt.Errorf("%w: the result is longer than %d bytes", ErrExceeded, l.most)
	}
	return l.Buffer.Write(p)
}
