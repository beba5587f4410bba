package sensor

import (
	"fmt"
	"strings"
)

// condition is a boolean expression over dependency names: && || and parentheses. Unlike Argo, which replaces
// "-" by "_" to parse it, dep-1 and dep_1 are two names.
type condition struct {
	text string
	// waits is Argo's rule: only a condition with an "&" consults what was saved.
	waits bool
	root  *conditionNode
	names []string
}

// conditionNode is a name, or an operator ('&' or '|') over its operands.
type conditionNode struct {
	name     string
	operator byte
	operands []*conditionNode
}

// maxConditionDepth bounds nested parentheses.
const maxConditionDepth = 100

func parseCondition(text string, known []string) (*condition, error) {
	if strings.TrimSpace(text) == "" {
		text = strings.Join(known, " && ")
	}
	p := &conditionParser{rest: text, known: map[string]bool{}}
	for _, name := range known {
		p.known[name] = true
	}
	root, err := p.or(0)
	if err == nil && p.space() != "" {
		err = fmt.Errorf("unexpected %q", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("condition %q: %w", text, err)
	}
	c := &condition{text: text, waits: strings.Contains(text, "&"), root: root}
	root.collect(&c.names)
	return c, nil
}

type conditionParser struct {
	rest  string
	known map[string]bool
}

func (p *conditionParser) space() string {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	return p.rest
}

func (p *conditionParser) take(token string) bool {
	if !strings.HasPrefix(p.space(), token) {
		return false
	}
	p.rest = p.rest[len(token):]
	return true
}

func (p *conditionParser) or(depth int) (*conditionNode, error) {
	return p.chain("||", depth, func() (*conditionNode, error) {
		return p.chain("&&", depth, func() (*conditionNode, error) { return p.operand(depth) })
	})
}

func (p *conditionParser) chain(operator string, depth int, operand func() (*conditionNode, error)) (*conditionNode, error) {
	if depth > maxConditionDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxConditionDepth)
	}
	first, err := operand()
	if err != nil {
		return nil, err
	}
	node := &conditionNode{operator: operator[0], operands: []*conditionNode{first}}
	for p.take(operator) {
		next, err := operand()
		if err != nil {
			return nil, err
		}
		node.operands = append(node.operands, next)
	}
	if len(node.operands) == 1 {
		return first, nil
	}
	return node, nil
}

func (p *conditionParser) operand(depth int) (*conditionNode, error) {
	if p.take("(") {
		inner, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			return nil, fmt.Errorf("a parenthesis is not closed")
		}
		return inner, nil
	}
	end := strings.IndexAny(p.space(), " \t\r\n()&|")
	if end < 0 {
		end = len(p.rest)
	}
	name := p.rest[:end]
	switch {
	case name == "" && p.rest == "":
		return nil, fmt.Errorf("a dependency name is missing at the end")
	case name == "":
		return nil, fmt.Errorf("a dependency name is missing before %q", p.rest)
	case !p.known[name]:
		return nil, fmt.Errorf("%q is not a dependency of the sensor", name)
	}
	p.rest = p.rest[end:]
	return &conditionNode{name: name}, nil
}

func (n *conditionNode) collect(names *[]string) {
	if n.operator == 0 {
		for _, have := range *names {
			if have == n.name {
				return
			}
		}
		*names = append(*names, n.name)
	}
	for _, o := range n.operands {
		o.collect(names)
	}
}

func (n *conditionNode) holds(have func(string) bool) bool {
	if n.operator == 0 {
		return have(n.name)
	}
	for _, o := range n.operands {
		if o.holds(have) != (n.operator == '&') {
			return n.operator == '|'
		}
	}
	return n.operator == '&'
}
