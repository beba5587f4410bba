package expression

import (
	"fmt"
	"slices"
	"strings"
)

// The results of a task that depends may ask for.
var dependsResults = [...]string{"Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed"}

// Depends is a parsed depends.
type Depends struct {
	root  dependsNode
	tasks []string
}

// dependsNode is an operator ("&&", "||", "!") or, with a task, an operand.
type dependsNode struct {
	operator string
	operands []dependsNode
	task     string
	// results are joined by "or".
	results []string
}

// DependsError is a fault in a depends.
type DependsError struct {
	// Column counts bytes from 1.
	Column  int
	Message string
}

// Error implements error.
func (e *DependsError) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Message) }

// ParseDepends parses Argo's depends: task names, each with a result or without (which means Succeeded, Skipped or
// Daemoned), joined by &&, || and !, with parentheses. The error is a [*DependsError].
func ParseDepends(text string) (*Depends, error) {
	p := &dependsParser{text: text}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(text) {
		return nil, p.fail("unexpected %q", text[p.at:])
	}
	d := &Depends{root: root}
	d.root.collect(&d.tasks)
	return d, nil
}

// DependsOn makes what `dependencies` means: all of the tasks, each Succeeded, Skipped or Daemoned, or Failed or
// Errored where its continueOn says so.
func DependsOn(tasks []string, continueOn func(task string) (failed, errored bool)) *Depends {
	d := &Depends{root: dependsNode{operator: "&&"}}
	for _, task := range tasks {
		results := []string{"Succeeded", "Skipped", "Daemoned"}
		if continueOn != nil {
			failed, errored := continueOn(task)
			if failed {
				results = append(results, "Failed")
			}
			if errored {
				results = append(results, "Errored")
			}
		}
		d.root.operands = append(d.root.operands, dependsNode{task: task, results: results})
	}
	d.root.collect(&d.tasks)
	return d
}

// Tasks are the tasks that are named, each once, in order.
func (d *Depends) Tasks() []string { return d.tasks }

// Results are the results asked of a task, by task: what a task's aggregate results are wanted for.
func (d *Depends) Results(task string) []string {
	var all []string
	d.root.each(func(n *dependsNode) {
		if n.task == task {
			all = append(all, n.results...)
		}
	})
	slices.Sort(all)
	return slices.Compact(all)
}

// Eval asks for the results of tasks and gives the whole.
func (d *Depends) Eval(is func(task, result string) bool) bool { return d.root.eval(is) }

func (n *dependsNode) each(f func(*dependsNode)) {
	f(n)
	for i := range n.operands {
		n.operands[i].each(f)
	}
}

func (n *dependsNode) collect(tasks *[]string) {
	seen := map[string]bool{}
	n.each(func(n *dependsNode) {
		if n.task != "" && !seen[n.task] {
			seen[n.task] = true
			*tasks = append(*tasks, n.task)
		}
	})
}

func (n *dependsNode) eval(is func(task, result string) bool) bool {
	holds := func(o dependsNode) bool { return o.eval(is) }
	switch n.operator {
	case "&&":
		return !slices.ContainsFunc(n.operands, func(o dependsNode) bool { return !holds(o) })
	case "||":
		return slices.ContainsFunc(n.operands, holds)
	case "!":
		return !holds(n.operands[0])
	}
	return slices.ContainsFunc(n.results, func(r string) bool { return is(n.task, r) })
}

type dependsParser struct {
	text string
	at   int
}

func (p *dependsParser) fail(format string, args ...any) error {
	return &DependsError{Column: p.at + 1, Message: fmt.Sprintf(format, args...)}
}

func (p *dependsParser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// takes an operator in either spelling.
func (p *dependsParser) takes(symbol, word string) bool {
	p.space()
	rest := p.text[p.at:]
	if strings.HasPrefix(rest, symbol) {
		p.at += len(symbol)
		return true
	}
	if strings.HasPrefix(rest, word) && (len(rest) == len(word) || !taskRune(rest[len(word)]) && rest[len(word)] != '.') {
		p.at += len(word)
		return true
	}
	return false
}

func (p *dependsParser) or(depth int) (dependsNode, error) {
	return p.chain("||", "or", depth, p.and)
}

func (p *dependsParser) and(depth int) (dependsNode, error) {
	return p.chain("&&", "and", depth, p.operand)
}

func (p *dependsParser) chain(symbol, word string, depth int, next func(int) (dependsNode, error)) (dependsNode, error) {
	first, err := next(depth)
	if err != nil {
		return first, err
	}
	list := []dependsNode{first}
	for p.takes(symbol, word) {
		n, err := next(depth)
		if err != nil {
			return n, err
		}
		list = append(list, n)
	}
	if len(list) == 1 {
		return first, nil
	}
	return dependsNode{operator: symbol, operands: list}, nil
}

func (p *dependsParser) operand(depth int) (dependsNode, error) {
	if depth > 100 {
		return dependsNode{}, p.fail("nested more than 100 levels deep")
	}
	switch {
	case p.takes("!", "not"):
		n, err := p.operand(depth + 1)
		return dependsNode{operator: "!", operands: []dependsNode{n}}, err
	case p.at < len(p.text) && p.text[p.at] == '(':
		p.at++
		n, err := p.or(depth + 1)
		if err != nil {
			return n, err
		}
		if p.space(); p.at >= len(p.text) || p.text[p.at] != ')' {
			return n, p.fail("a ) is missing")
		}
		p.at++
		return n, nil
	}
	return p.task()
}

func taskRune(c byte) bool {
	return c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *dependsParser) word() string {
	start := p.at
	for p.at < len(p.text) && taskRune(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

func (p *dependsParser) task() (dependsNode, error) {
	name := p.word()
	if name == "" {
		if p.at == len(p.text) {
			return dependsNode{}, p.fail("a task name is missing at the end")
		}
		return dependsNode{}, p.fail("want a task name, got %q", p.text[p.at:p.at+1])
	}
	n := dependsNode{task: name, results: []string{"Succeeded", "Skipped", "Daemoned"}}
	if p.at >= len(p.text) || p.text[p.at] != '.' {
		return n, nil
	}
	p.at++
	begin := p.at
	result := p.word()
	if !slices.Contains(dependsResults[:], result) {
		p.at = begin
		return n, p.fail("task result '%s' for task '%s' is invalid, want one of %s", result, name, strings.Join(dependsResults[:], ", "))
	}
	n.results = []string{result}
	return n, nil
}
