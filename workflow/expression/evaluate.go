package expression

import (
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
	"github.com/expr-lang/expr/vm/runtime"

	"github.com/tiphys/tiphys/budget"
)

// Bounds of one expression. expr-lang itself limits the memory of lists that an evaluation makes.
const (
	maxSource = 64 << 10 // bytes of an expression
	maxNodes  = 5000     // nodes of its syntax tree
	maxCached = 2000     // compiled expressions that are kept
)

// Evaluator evaluates expressions and replaces tags. It keeps compiled expressions, and belongs to one goroutine at
// a time: each run or check has its own.
type Evaluator struct {
	cache map[string]*program
	base  functions
}

// New makes an Evaluator.
func New() *Evaluator {
	return &Evaluator{cache: map[string]*program{}}
}

// program is a compiled expression with the names that it reads.
type program struct {
	run    *vm.Program
	chains []chain
	// builtins are the functions of expr-lang that it calls and that take from the budget.
	builtins map[string]*builtin.Function
	// patterns are the regular expressions that stand in it, compiled.
	patterns map[string]*budget.Pattern
	// sprigs are the functions of sprig that it calls; anySprig says that a name is computed.
	sprigs   []string
	anySprig bool
	err      error
}

// chain is a name that an expression reads: segments known before evaluation.
type chain struct {
	path []string
	// whole is set where what follows is computed: inputs.parameters[x].
	whole bool
}

func parses(code string) bool {
	if len(code) > maxSource {
		return false
	}
	_, err := parser.Parse(code)
	return err == nil
}

func (e *Evaluator) compile(code string) *program {
	if p := e.cache[code]; p != nil {
		return p
	}
	p := compile(code)
	if len(e.cache) >= maxCached {
		clear(e.cache)
	}
	e.cache[code] = p
	return p
}

func compile(code string) *program {
	if len(code) > maxSource {
		return &program{err: fmt.Errorf("expression is longer than %d bytes", maxSource)}
	}
	patterns, err := constantPatterns(code)
	if err != nil {
		return &program{err: firstLine(err)}
	}
	options := []expr.Option{
		expr.Optimize(false), expr.MaxNodes(maxNodes), expr.Patch(&bounds{seen: map[ast.Node]bool{}}),
		expr.DisableBuiltin("now"), expr.DisableBuiltin("replace"), expr.DisableBuiltin("join"), expr.DisableBuiltin("repeat"),
	}
	for _, f := range builtin.Builtins {
		if weighed(f.Name) {
			options = append(options, expr.DisableBuiltin(f.Name))
		}
	}
	run, err := expr.Compile(code, options...)
	if err != nil {
		return &program{err: firstLine(err)}
	}
	reader := &reader{chains: map[ast.Node]chain{}, local: map[string]bool{}}
	root := run.Node()
	ast.Walk(&root, reader)
	p := &program{run: run, chains: reader.found(), builtins: map[string]*builtin.Function{}, patterns: patterns}
	for _, c := range reader.chains {
		switch {
		case c.path[0] == "sprig" && len(c.path) > 1:
			p.sprigs = append(p.sprigs, c.path[1])
		case c.path[0] == "sprig":
			p.anySprig = true
		case weighed(c.path[0]):
			for _, f := range builtin.Builtins {
				if f.Name == c.path[0] {
					p.builtins[f.Name] = f
				}
			}
		}
	}
	return p
}

// bounds puts a counter into each loop's body and a limit into each addition of texts, so that no expression
// runs away. expr-lang offers no limit of time.
type bounds struct{ seen map[ast.Node]bool }

// Visit implements ast.Visitor.
func (b *bounds) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.PredicateNode:
		if !b.seen[n] {
			b.seen[n] = true
			n.Node = &ast.CallNode{Callee: &ast.IdentifierNode{Value: tickName}, Arguments: []ast.Node{n.Node}}
		}
	case *ast.BinaryNode:
		if b.seen[n] {
			return
		}
		switch n.Operator {
		case "==", "!=", "<", ">", "<=", ">=", "in", "contains", "startsWith", "endsWith":
			b.seen[n] = true
			n.Left = &ast.CallNode{Callee: &ast.IdentifierNode{Value: weighName}, Arguments: []ast.Node{n.Left}}
			if n.Operator == "in" {
				n.Right = &ast.CallNode{Callee: &ast.IdentifierNode{Value: weighName}, Arguments: []ast.Node{n.Right}}
			}
		case "matches":
			ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: matchName}, Arguments: []ast.Node{n.Left, n.Right}})
		case "+":
			ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: addName}, Arguments: []ast.Node{n.Left, n.Right}})
		}
	}
}

const (
	tickName = "tiphys_tick"
	addName  = "tiphys_add"
	// weighName weighs what is compared.
	weighName = "tiphys_weigh"
	// matchName looks for a regular expression.
	matchName = "tiphys_match"
)

// constantPatterns compiles the regular expressions that stand in an expression. expr-lang would compile them while it checks the
// expression, however large they are.
func constantPatterns(code string) (map[string]*budget.Pattern, error) {
	if !strings.Contains(code, "matches") {
		return nil, nil
	}
	tree, err := parser.Parse(code)
	if err != nil {
		return nil, nil //nolint:nilerr // compiling it tells, with the place
	}
	f := patternFinder{found: map[string]*budget.Pattern{}}
	ast.Walk(&tree.Node, &f)
	return f.found, f.err
}

// patternFinder compiles what stands to the right of "matches".
type patternFinder struct {
	found map[string]*budget.Pattern
	err   error
}

// Visit implements ast.Visitor.
func (f *patternFinder) Visit(node *ast.Node) {
	n, ok := (*node).(*ast.BinaryNode)
	if !ok || n.Operator != "matches" || f.err != nil {
		return
	}
	text, ok := n.Right.(*ast.StringNode)
	if !ok || f.found[text.Value] != nil {
		return
	}
	pattern, err := budget.ParsePattern(text.Value)
	if err != nil {
		f.err = fmt.Errorf("pattern at character %d: %w", n.Right.Location().From+1, err)
		return
	}
	f.found[text.Value] = pattern
}

// reader collects the names that an expression reads. A node is visited after its children.
type reader struct {
	chains map[ast.Node]chain
	local  map[string]bool
}

// Visit implements ast.Visitor.
func (r *reader) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		r.chains[n] = chain{path: []string{n.Value}}
	case *ast.VariableDeclaratorNode:
		r.local[n.Name] = true
	case *ast.ChainNode:
		if c, ok := r.chains[n.Node]; ok {
			delete(r.chains, n.Node)
			r.chains[n] = c
		}
	case *ast.MemberNode:
		c, ok := r.chains[n.Node]
		if !ok {
			return
		}
		if property, constant := n.Property.(*ast.StringNode); constant {
			delete(r.chains, n.Node)
			r.chains[n] = chain{path: append(append([]string(nil), c.path...), property.Value)}
			return
		}
		c.whole = true
		r.chains[n.Node] = c
	}
}

func (r *reader) found() []chain {
	var all []chain
	for _, c := range r.chains {
		if !r.local[c.path[0]] && !isFunction(c.path[0]) {
			all = append(all, c)
		}
	}
	sort.Slice(all, func(i, j int) bool {
		return strings.Join(all[i].path, ".") < strings.Join(all[j].path, ".")
	})
	return all
}

// Names gives the names that an expression reads, such as "inputs.parameters.x", for checking it before it is
// evaluated. A name whose end is computed ends in ".*".
func (e *Evaluator) Names(code string) ([]string, error) {
	p := e.compile(code)
	if p.err != nil {
		return nil, p.err
	}
	all := make([]string, len(p.chains))
	for i, c := range p.chains {
		all[i] = strings.Join(c.path, ".")
		if c.whole {
			all[i] += ".*"
		}
	}
	return all, nil
}

// evaluate gives the value, and the names that nothing resolves.
func (e *Evaluator) evaluate(code string, scope Scope, o Options) (value any, missing []string, err error) {
	p := e.compile(code)
	if p.err != nil {
		return nil, nil, p.err
	}
	if (len(p.sprigs) > 0 || p.anySprig || o.Bare) && e.base.sprigs.Names() == nil {
		e.base = newFunctions()
	}
	b := o.Budget
	if b == nil {
		b = budget.New()
	}
	env := e.base.environment(o, p, b)
	for _, c := range p.chains {
		if o.Bare && e.bare(env, c, scope, b) {
			continue
		}
		if !fill(env, c, scope) {
			missing = append(missing, strings.Join(c.path, "."))
		}
	}
	value, err = expr.Run(p.run, env)
	if err == nil && isCollection(value) {
		err = b.Take(budget.Repeated(budget.Size(value, budget.Bytes), 6)) // as a text
	}
	if err != nil {
		return nil, missing, firstLine(err)
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.IsNil() {
		value = nil
	}
	return value, missing, nil
}

// bare puts a function of sprig into the environment that is called by its own name.
func (e *Evaluator) bare(env map[string]any, c chain, scope Scope, b *budget.Budget) bool {
	if len(c.path) > 1 {
		return false
	}
	if _, known := scope.Lookup(c.path[0]); known {
		return false
	}
	f := e.base.sprigs.Within(b, c.path[0])
	if f != nil {
		env[c.path[0]] = f
	}
	return f != nil
}

// fill puts what a chain reads into the environment. Where it is not known, the maps around it are made, so that
// the name itself is nil: `tasks.a.outputs.parameters.x ?? "none"`.
func fill(env map[string]any, c chain, scope Scope) bool {
	name := strings.Join(c.path, ".")
	if below := group(scope, name); below != nil {
		setPath(env, c.path, below)
		return true
	}
	for n := len(c.path); n > 0; n-- {
		value, ok := scope.Lookup(strings.Join(c.path[:n], "."))
		if !ok || groupText(value, c, n) {
			continue
		}
		setPath(env, c.path[:n], value)
		if n == len(c.path) {
			return value != nil
		}
		return true
	}
	if c.whole {
		setPath(env, c.path, map[string]any{})
		return false
	}
	if len(c.path) > 1 {
		setPath(env, c.path[:len(c.path)-1], map[string]any{})
	}
	return false
}

// groupText reports whether a name is a text while the expression asks for something below it: workflow.labels is its labels as JSON,
// and a label that it does not have is none of that text, but nothing, for which ?? can stand in.
func groupText(value any, c chain, n int) bool {
	if _, text := value.(string); !text {
		return false
	}
	if n < len(c.path) {
		return true
	}
	last := c.path[n-1]
	return c.whole && (last == "labels" || last == "annotations" || last == "parameters")
}

// Eval evaluates an expression (fromExpression, valueFrom.expression, data). A name that nothing resolves is nil.
func (e *Evaluator) Eval(code string, scope Scope, o Options) (any, error) {
	value, missing, err := e.evaluate(code, scope, o)
	if err != nil {
		if len(missing) > 0 {
			err = fmt.Errorf("%w (%s is not known here)", err, strings.Join(missing, ", "))
		}
		return nil, fmt.Errorf("evaluate %q: %w", code, err)
	}
	return value, nil
}

// EvalBool evaluates a condition: retryStrategy.expression, a hook's expression, an HTTP successCondition.
func (e *Evaluator) EvalBool(code string, scope Scope, o Options) (bool, error) {
	value, err := e.Eval(code, scope, o)
	if err != nil {
		return false, err
	}
	b, ok := value.(bool)
	if !ok {
		return false, fmt.Errorf("evaluate %q: want true or false, got %s", code, describe(value))
	}
	return b, nil
}

func describe(value any) string {
	if value == nil {
		return "nothing"
	}
	text := Text(value)
	if len(text) > 60 {
		text = text[:60] + "…"
	}
	return fmt.Sprintf("%T %s", value, text)
}

// firstLine leaves out expr-lang's drawing of where the fault is, which takes several lines.
func firstLine(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(line)
}

func add(left *budget.Budget, a, b any) (any, error) {
	x, ok := a.(string)
	y, both := b.(string)
	if ok && both {
		if err := left.TakeText(int64(len(x) + len(y))); err != nil {
			return nil, err
		}
	}
	return safeAdd(a, b)
}

func safeAdd(a, b any) (result any, err error) {
	defer func() {
		// The library's operators panic on operands of the wrong kind; its machine turns that into an error.
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return runtime.Add(a, b), nil
}
