package preview

import (
	"fmt"
	"strconv"

	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// maxFaults is how many elements that make no Application are named, and maxFault how much is said of each, in bytes.
const (
	maxFaults = 20
	maxFault  = 500
)

// expansion makes Applications of a set's elements. An element that makes none costs only itself.
type expansion struct {
	in       Input
	previous map[string]manifest.Application
	wanted   map[string]manifest.Application
	faults   []string
	more     int
	first    error
	// kept are Applications of before that stay as they are, by name, and "#" and the number of a merge request for what that made.
	kept map[string]bool
	// all says that it is not known which Application an element with a fault made, so that all of them stay.
	all bool
}

func (x *expansion) applications() error {
	if err := manifest.FirstError(x.in.Set.Validate()); err != nil {
		return err
	}
	for i, generator := range x.in.Set.Spec.Generators {
		var reply Reply
		if i < len(x.in.Replies) {
			reply = x.in.Replies[i]
		}
		list, err := Params(generator, reply, x.in.Set.Spec.GoTemplate, x.in.Set.Spec.GoTemplateOptions)
		if err != nil {
			return err
		}
		requests, err := kept(generator, reply)
		if err != nil {
			return err
		}
		for j, params := range list {
			if generator.PullRequest == nil {
				x.element(params, fmt.Sprintf("element %d of generator %d", j+1, i+1), nil)
				continue
			}
			r := requestOf(requests, params, j)
			x.element(params, fmt.Sprintf("merge request %d", r.Number), &r)
		}
	}
	if len(x.wanted) == 0 && x.first != nil {
		return x.first
	}
	if x.more > 0 {
		x.faults = append(x.faults, fmt.Sprintf("and %d more", x.more))
	}
	return nil
}

// element makes the Application of one element; r is its merge request, if it has one.
func (x *expansion) element(params map[string]any, what string, r *event.PullRequest) {
	a, err := render(x.in.Set, params)
	if err != nil {
		x.fault(what, err)
		switch {
		case r != nil:
			x.kept["#"+strconv.Itoa(r.Number)] = true
		case a.Name != "":
			x.kept[a.Name] = true
		default:
			x.all = true
		}
		return
	}
	if r != nil {
		pin(&a, x.in, *r, x.previous[a.Name])
	}
	other, twice := x.wanted[a.Name]
	if twice {
		if x.owns(a) && !x.owns(other) {
			x.wanted[a.Name] = a // who made it before goes on
			what = "merge request " + other.Annotations[promote.AnnotationMR]
		}
		x.fault(what, fmt.Errorf("two parameter sets give the name %q; put what tells them apart into template.metadata.name", a.Name))
		return
	}
	x.wanted[a.Name] = a
}

// owns tells whether an Application of a merge request is the one that is there under its name.
func (x *expansion) owns(a manifest.Application) bool {
	old, there := x.previous[a.Name]
	return there && old.Annotations[promote.AnnotationMR] == a.Annotations[promote.AnnotationMR]
}

func (x *expansion) fault(what string, err error) {
	if x.first == nil {
		x.first = err
	}
	if len(x.faults) >= maxFaults {
		x.more++
		return
	}
	x.faults = append(x.faults, what+": "+failure.Clip(err.Error(), maxFault))
}

// keeps tells whether an Application of before stays because its element has a fault.
func (x *expansion) keeps(a manifest.Application) bool {
	return x.all || x.kept[a.Name] || x.kept["#"+a.Annotations[promote.AnnotationMR]]
}
