package budget

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"github.com/Masterminds/sprig/v3"
)

// sprigs are the functions of sprig that programs inside manifests may call: those whose result follows from their arguments
// alone, and which take a time that follows from their arguments' size. What reads the machine (env, getHostByName), draws
// chance, makes keys or hashes passwords is not among them.
const sprigs = `
	hello date date_in_zone date_modify dateInZone dateModify duration durationRound htmlDate htmlDateInZone
	must_date_modify mustDateModify mustToDate toDate unixEpoch
	abbrev abbrevboth trunc trim upper lower title untitle substr repeat trimall trimAll trimSuffix trimPrefix nospace initials
	swapcase snakecase camelcase kebabcase wrap wrapWith contains hasPrefix hasSuffix quote squote cat indent nindent replace plural
	sha1sum sha256sum sha512sum adler32sum toString atoi int64 int float64 toDecimal split splitList splitn toStrings until untilStep
	add1 add sub div mod mul add1f addf subf divf mulf biggest max min maxf minf ceil floor round join sortAlpha
	default empty coalesce all any compact mustCompact fromJson toJson toPrettyJson toRawJson mustFromJson mustToJson
	mustToPrettyJson mustToRawJson ternary deepCopy mustDeepCopy typeOf typeIs typeIsLike kindOf kindIs deepEqual
	base dir clean ext isAbs osBase osClean osDir osExt osIsAbs b64enc b64dec b32enc b32dec
	tuple list dict get set unset hasKey pluck keys pick omit merge mergeOverwrite mustMerge mustMergeOverwrite values
	append push mustAppend mustPush prepend mustPrepend first mustFirst rest mustRest last mustLast initial mustInitial
	reverse mustReverse uniq mustUniq without mustWithout has mustHas slice mustSlice concat dig chunk mustChunk
	semver semverCompare fail regexMatch mustRegexMatch regexFindAll mustRegexFindAll regexFind mustRegexFind
	regexReplaceAll mustRegexReplaceAll regexReplaceAllLiteral mustRegexReplaceAllLiteral regexSplit mustRegexSplit
	regexQuoteMeta urlParse urlJoin`

// Sprigs are sprig's functions that programs may call, by name.
type Sprigs struct {
	functions map[string]any
	names     []string
}

// NewSprigs gathers them. It is done once for many evaluations.
func NewSprigs() Sprigs {
	all := sprig.GenericFuncMap()
	s := Sprigs{functions: map[string]any{}}
	for _, name := range strings.Fields(sprigs) {
		if f, ok := all[name]; ok {
			s.functions[name] = f
			s.names = append(s.names, name)
		}
	}
	sort.Strings(s.names)
	return s
}

// Names are their names, in order.
func (s Sprigs) Names() []string { return s.names }

// Raw gives a function as it is, to find out whether there is one; nil if there is none.
func (s Sprigs) Raw(name string) any { return s.functions[name] }

// Within gives a function that takes what it needs from a budget; nil if there is none of that name.
func (s Sprigs) Within(b *Budget, name string) any {
	f, ok := s.functions[name]
	if !ok {
		return nil
	}
	switch name {
	case "repeat":
		return func(count int, text string) (string, error) {
			if err := b.TakeText(Repeated(int64(len(text)), int64(max(count, 0)))); err != nil {
				return "", fmt.Errorf("repeat: %w", err)
			}
			return strings.Repeat(text, max(count, 0)), nil
		}
	case "indent":
		return func(spaces int, text string) (string, error) { return b.indent("", spaces, text) }
	case "nindent":
		return func(spaces int, text string) (string, error) { return b.indent("\n", spaces, text) }
	case "replace":
		return func(old, by, text string) (string, error) {
			if err := b.Replace(text, old, by, -1); err != nil {
				return "", fmt.Errorf("replace: %w", err)
			}
			return strings.ReplaceAll(text, old, by), nil
		}
	case "until":
		return func(n int) ([]int, error) {
			if n < 0 {
				return b.Sequence(0, n, -1)
			}
			return b.Sequence(0, n, 1)
		}
	case "untilStep":
		return b.Sequence
	}
	return b.wrap(name, f)
}

func (b *Budget) indent(before string, spaces int, text string) (string, error) {
	lines := int64(strings.Count(text, "\n") + 1)
	grown := Repeated(lines, int64(max(spaces, 0)))
	if grown >= 0 {
		grown += int64(len(text))
	}
	if err := b.TakeText(grown); err != nil {
		return "", fmt.Errorf("indent: %w", err)
	}
	pad := strings.Repeat(" ", max(spaces, 0))
	return before + pad + strings.ReplaceAll(text, "\n", "\n"+pad), nil
}

// Sequence is sprig's untilStep: the numbers from start to before stop.
func (b *Budget) Sequence(start, stop, step int) ([]int, error) {
	if step == 0 || (stop > start) != (step > 0) {
		return []int{}, nil
	}
	distance, stride := uint64(stop-start), uint64(step) //nolint:gosec // both have the same sign
	if step < 0 {
		distance, stride = uint64(start-stop), uint64(-step) //nolint:gosec // both are positive
	}
	n := distance / stride
	if n > Bytes/itemSize {
		return nil, fmt.Errorf("until: %w: more than %d numbers", ErrExceeded, Bytes/itemSize)
	}
	if err := b.Take(int64(n+1) * itemSize); err != nil { //nolint:gosec // it is small
		return nil, fmt.Errorf("until: %w", err)
	}
	out := make([]int, 0, n+1)
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, i)
	}
	return out, nil
}

// quadratic tells how much a function looks through that is not quick: comparing every item with every other, or copying a text
// for each of its words.
func quadratic(name string, size int64) int64 {
	switch name {
	case "uniq", "mustUniq", "without", "mustWithout":
		return Repeated(size/itemSize, size)
	case "wrap", "wrapWith":
		return Repeated(size/8, size)
	}
	return 0
}

// Growth is how many times larger than its arguments a function's result can be: of sprig's functions, and of those of expressions.
func Growth(name string) int64 {
	switch name {
	case "toPrettyJson", "mustToPrettyJson": // two spaces for each level in each line, of which there is one for an item
		return 6 + 2*deepest/itemSize
	case "fromJson", "mustFromJson", "fromJSON", "split", "splitAfter", "splitList", "splitn", "regexFindAll", "mustRegexFindAll", "regexSplit", "mustRegexSplit", "toStrings":
		return itemSize
	case "toJson", "toJSON", "string", "toBase64", "toRawJson", "mustToJson", "mustToRawJson", "quote", "squote":
		return 6 // a control character is \u0000 in JSON, and a text may be quoted
	case "wrap", "wrapWith", "snakecase", "kebabcase", "b64enc", "b32enc", "regexQuoteMeta":
		return 2
	}
	return 1
}

var errorType = reflect.TypeFor[error]()

// wrap gives a function of the same arguments that weighs them first and its result afterwards.
func (b *Budget) wrap(name string, f any) any {
	fn := reflect.ValueOf(f)
	t := fn.Type()
	fails := t.NumOut() == 2
	in := make([]reflect.Type, t.NumIn())
	for i := range in {
		in[i] = t.In(i)
	}
	wrapped := reflect.FuncOf(in, []reflect.Type{t.Out(0), errorType}, t.IsVariadic())
	refuse := func(err error) []reflect.Value {
		return []reflect.Value{reflect.Zero(t.Out(0)), reflect.ValueOf(fmt.Errorf("%s: %w", name, err))}
	}
	return reflect.MakeFunc(wrapped, func(args []reflect.Value) (out []reflect.Value) {
		defer func() {
			if r := recover(); r != nil {
				out = refuse(fmt.Errorf("%v", r))
			}
		}()
		if err := b.weigh(name, args); err != nil {
			return refuse(err)
		}
		if t.IsVariadic() {
			out = fn.CallSlice(args)
		} else {
			out = fn.Call(args)
		}
		if fails {
			if err, _ := out[1].Interface().(error); err != nil {
				return refuse(err)
			}
		} else {
			out = append(out, reflect.Zero(errorType))
		}
		if err := b.Take(Size(out[0].Interface(), Bytes)); err != nil {
			return refuse(err)
		}
		return out
	}).Interface()
}

// replaced bounds what replacing by a pattern gives: the replacement for each match, and what it names of the text.
func replaced(args []any) (int64, error) {
	pattern, _ := args[0].(string)
	text, _ := args[1].(string)
	by, _ := args[2].(string)
	p, err := regexp.Compile(pattern)
	if err != nil {
		return 0, err
	}
	matches := int64(len(p.FindAllStringIndex(text, -1)))
	grown := Repeated(matches, int64(len(by))) + max(0, Repeated(int64(strings.Count(by, "$")), int64(len(text))))
	if grown < 0 || grown > Text {
		return 0, fmt.Errorf("%w: %w", ErrExceeded, errReplaced)
	}
	return grown, nil
}

// errReplaced says that a pattern's replacement could make too much.
// weighPattern takes what compiling a pattern and looking for it in a text cost.
func (b *Budget) weighPattern(args []any) error {
	pattern, _ := args[0].(string)
	text, _ := args[1].(string)
	size, err := patternSize(pattern)
	if err != nil {
		return err
	}
	if err := b.Take(Repeated(size, stateSize)); err != nil {
		return err
	}
	return b.Step(Repeated(size, stateSize) + max(0, Repeated(int64(len(text))+1, size)))
}

var errReplaced = errors.New("the replacement is too long for so many matches")

func (b *Budget) weigh(name string, args []reflect.Value) error {
	values := make([]any, len(args))
	for i, a := range args {
		values[i] = a.Interface()
	}
	size := Sizes(values)
	if size > Bytes {
		return b.Take(-1)
	}
	if looked := quadratic(name, size); looked != 0 {
		if err := b.Step(looked); err != nil {
			return err
		}
	}
	if strings.Contains(name, "egex") && len(values) >= 2 {
		if err := b.weighPattern(values); err != nil {
			return err
		}
	}
	if strings.Contains(name, "egexReplaceAll") && len(values) == 3 {
		grown, err := replaced(values)
		if err != nil {
			return err
		}
		size += grown
	}
	if name == "join" && len(values) == 2 {
		if separator, ok := values[0].(string); ok {
			size += max(0, Repeated(int64(len(separator)), Size(values[1], Bytes)/itemSize))
		}
	}
	if strings.HasPrefix(name, "wrap") && len(values) == 3 {
		if separator, ok := values[1].(string); ok {
			size += max(0, Repeated(int64(len(separator)), size))
		}
	}
	if err := b.Step(size); err != nil {
		return err
	}
	return b.Take(Repeated(size, Growth(name)))
}
