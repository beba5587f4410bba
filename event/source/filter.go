package source

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// Filter is an EventSource's filter expression: expr-lang, with Argo's functions and sprig's under their own names, within the
// budget of any expression. It may be used by several goroutines.
type Filter struct {
	text string
	// own is what compiled the filter, and others are for those who come while it is busy: what a pool keeps is forgotten by each collection.
	busy   sync.Mutex
	own    *expression.Evaluator
	others sync.Pool
}

// CompileFilter reads a filter; nil where there is none.
func CompileFilter(f *manifest.EventSourceFilter) (*Filter, error) {
	if f == nil || strings.TrimSpace(f.Expression) == "" {
		return nil, nil
	}
	own := expression.New()
	if _, err := own.Names(f.Expression); err != nil {
		return nil, fmt.Errorf("compile filter: %w", err)
	}
	return &Filter{text: f.Expression, own: own, others: sync.Pool{New: func() any { return expression.New() }}}, nil
}

// evaluator is one that nobody else uses until it is given back.
func (f *Filter) evaluator() (e *expression.Evaluator, back func()) {
	if f.busy.TryLock() {
		return f.own, f.busy.Unlock
	}
	e, _ = f.others.Get().(*expression.Evaluator)
	return e, func() { f.others.Put(e) }
}

// Leaves says why the filter leaves an event out; empty if it does not.
func (f *Filter) Leaves(data json.RawMessage) string {
	switch pass, err := f.Pass(data); {
	case err != nil:
		return fmt.Sprintf("the event source's filter failed: %v", err)
	case !pass:
		return fmt.Sprintf("the event source's filter is not true for this event: %s", f.text)
	}
	return ""
}

// Pass evaluates the filter over the data's top-level keys, with "-" as "_". Without a filter everything passes.
func (f *Filter) Pass(data json.RawMessage) (ok bool, err error) {
	if f == nil {
		return true, nil
	}
	defer func() {
		// A function of the library may panic on a value that it does not expect.
		if r := recover(); r != nil {
			ok, err = false, fmt.Errorf("evaluate filter: %v", r)
		}
	}()
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		return false, fmt.Errorf("evaluate filter: %w", err)
	}
	named := make(expression.Values, len(tree))
	for key, value := range tree {
		named[strings.ReplaceAll(key, "-", "_")] = value
	}
	evaluator, back := f.evaluator()
	defer back()
	// A name is looked up whole: the keys below it are the value's.
	scope := expression.Func(named.Lookup)
	pass, err := evaluator.EvalBool(f.text, scope, expression.Options{Bare: true, Budget: budget.New()})
	if err != nil {
		return false, fmt.Errorf("evaluate filter: %w", err)
	}
	return pass, nil
}
