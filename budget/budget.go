// Package budget bounds what a small program inside a manifest may use: an expression, a template. It is pure.
//
// A budget counts steps and the bytes of text and lists that an evaluation makes, from its beginning to its end and whether they
// are still held or not. Steps are weighed by the size of what they look through, so that a budget is a limit of time as well, and
// the same program over the same values ends at the same place on every machine.
package budget

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// Limits of one evaluation, where nothing else is said.
const (
	// Steps are calls and passes through the body of a loop. One that looks through much counts once for each 256 bytes of it.
	Steps = 1_000_000
	// Bytes are all that an evaluation makes. A list counts 16 for each item.
	Bytes = 64 << 20
	// Text is the most bytes of one text.
	Text = 4 << 20
	// weighed is what is looked through in one step, in bytes.
	weighed = 256
	// itemSize is what an item of a list or a map takes beside what it holds, in bytes.
	itemSize = 16
	// deepest bounds how deep a value is looked into.
	deepest = 200
)

// ErrExceeded is wrapped by every error of a budget.
var ErrExceeded = failure.New(failure.TooLarge, "it takes more than it may")

// Budget is what is left for one evaluation. It belongs to one goroutine. A nil Budget has no limits.
type Budget struct {
	steps, bytes        int64
	mostSteps, mostText int64
}

// New gives the usual budget.
func New() *Budget { return Of(Steps, Bytes) }

// Of gives a budget of so many steps and bytes.
func Of(steps, bytes int64) *Budget {
	return &Budget{steps: steps, bytes: bytes, mostSteps: steps, mostText: min(bytes, Text)}
}

// Step takes a step that looks through so many bytes; fewer than none are too many to count.
func (b *Budget) Step(looked int64) error {
	if b == nil {
		return nil
	}
	if b.steps -= 1 + looked/weighed; b.steps < 0 || looked < 0 {
		b.steps = -1
		return fmt.Errorf("%w: more than %d steps", ErrExceeded, b.mostSteps)
	}
	return nil
}

// Spent is the error of a budget that was exceeded, for who must not take the failure of a part for an answer.
func (b *Budget) Spent() error {
	switch {
	case b == nil:
		return nil
	case b.steps < 0:
		return b.Step(0)
	case b.bytes < 0:
		return b.Take(0)
	}
	return nil
}

// Take takes so many bytes for what is made next. It is asked before that is made.
func (b *Budget) Take(bytes int64) error {
	if b == nil {
		return nil
	}
	if bytes < 0 || bytes > b.bytes {
		b.bytes = -1
		return fmt.Errorf("%w: more than %d bytes in all", ErrExceeded, Bytes)
	}
	b.bytes -= bytes
	return nil
}

// TakeText is Take for one text, which may not be longer than [Text].
func (b *Budget) TakeText(bytes int64) error {
	if b != nil && (bytes < 0 || bytes > b.mostText) {
		return fmt.Errorf("%w: a text of more than %d bytes", ErrExceeded, b.mostText)
	}
	return b.Take(bytes)
}

// Repeated is the length of a text or list that is repeated, or made of so many parts; -1 if it is too much to count.
func Repeated(length, times int64) int64 {
	if length < 0 || times < 0 || length > 0 && times > (1<<40)/length {
		return -1
	}
	return length * times
}

// Size is about how many bytes a value's text has, as JSON or otherwise, counted no further than a little beyond most. What is
// held twice counts twice, as it is written twice.
func Size(value any, most int64) int64 {
	s := sizer{most: most}
	s.add(reflect.ValueOf(value), 0)
	return s.size
}

var timeType = reflect.TypeFor[time.Time]()

// Sizes is the Size of several values together, counted no further than a little beyond [Bytes].
func Sizes(values []any) int64 {
	s := sizer{most: Bytes}
	for _, v := range values {
		s.add(reflect.ValueOf(v), 0)
	}
	return s.size
}

type sizer struct{ size, most int64 }

func (s *sizer) add(v reflect.Value, depth int) {
	if s.size > s.most {
		return
	}
	if depth > deepest {
		s.size = s.most + 1
		return
	}
	s.size += itemSize
	if v.IsValid() && v.Type() == timeType {
		s.size += 2 * itemSize
		return
	}
	switch v.Kind() {
	case reflect.String:
		s.size += int64(v.Len())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			s.size += int64(v.Len())
			return
		}
		for i := 0; i < v.Len() && s.size <= s.most; i++ {
			s.add(v.Index(i), depth+1)
		}
	case reflect.Map:
		for r := v.MapRange(); r.Next() && s.size <= s.most; {
			s.add(r.Key(), depth+1)
			s.add(r.Value(), depth+1)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			s.size -= itemSize
			s.add(v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			s.add(v.Field(i), depth+1)
		}
	default:
	}
}

// Call weighs the arguments of a function whose results are no larger than they are: it looks through them, and takes as much.
func (b *Budget) Call(args ...any) error {
	if b == nil {
		return nil
	}
	size := Sizes(args)
	if err := b.Step(size); err != nil {
		return err
	}
	return b.Take(size)
}

// Replace takes what replacing a text gives.
func (b *Budget) Replace(s, old, by string, times int) error {
	n := int64(strings.Count(s, old))
	if times >= 0 {
		n = min(n, int64(times))
	}
	if err := b.Step(int64(len(s))); err != nil {
		return err
	}
	grown := Repeated(int64(len(by)), n)
	if grown >= 0 {
		grown += int64(len(s))
	}
	return b.TakeText(grown)
}
