package manifest

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// DecodeOptions choose how a tree becomes a Go value. The zero value is for a manifest as users write it.
type DecodeOptions struct {
	// Strict makes unknown fields errors instead of warnings.
	Strict bool
	// Substituted is for a tree whose tags have been replaced. Then a string is taken where a number, boolean,
	// list or map is wanted, if its text is one, and a number or boolean where a string is wanted. Without it a
	// value of the wrong type is an error.
	Substituted bool
	// Tagged is for a part of a workflow whose tags have not been replaced: a string with a tag ("{{") is passed over where
	// another type is wanted, and the field keeps its zero value. Within a [WorkflowSpec] or a [Template] it is so
	// anyway. Everywhere else nobody would replace the tag, so that it is a value of the wrong type.
	Tagged bool
	// Hidden keeps values out of the diagnostics: those of a Secret.
	Hidden bool
}

// Into decodes the object into a Go value (a pointer to one of this package's kinds, or to a Kubernetes type).
// Field names are case sensitive. Unknown fields are warnings.
func (o Object) Into(v any) []Diagnostic { return o.IntoWith(v, DecodeOptions{}) }

// IntoWith is [Object.Into] with options.
func (o Object) IntoWith(v any, options DecodeOptions) []Diagnostic {
	return DecodeTree(o.Tree, v, options)
}

// DecodeTree decodes a part of a manifest into the value that v points to.
func DecodeTree(t *Tree, v any, options DecodeOptions) []Diagnostic {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return []Diagnostic{{Severity: SeverityError, Message: fmt.Sprintf("decode manifest: want a pointer, got %T", v)}}
	}
	d := &typed{options: options, tagged: options.Tagged, structs: map[reflect.Type]*structInfo{}}
	d.decode(t, target.Elem(), "")
	return d.diagnostics
}

// DecodeValue decodes a value whose tags have been replaced: what expression.Substitute gives back, or
// [Tree.Value]. Unknown fields are passed over: they were warned of when the manifest came in.
func DecodeValue(value, v any) error {
	t, err := NewTree(value)
	if err != nil {
		return err
	}
	return FirstError(DecodeTree(t, v, DecodeOptions{Substituted: true}))
}

// typed is one decoding.
type typed struct {
	options DecodeOptions
	// tagged says that tags may stand where the decoding is now.
	tagged      bool
	structs     map[reflect.Type]*structInfo
	diagnostics []Diagnostic
}

type structInfo struct {
	fields map[string][]int
	tree   []int // index of a field `Tree *Tree` that keeps the source
}

func (d *typed) info(t reflect.Type) *structInfo {
	if s := d.structs[t]; s != nil {
		return s
	}
	s := &structInfo{fields: map[string][]int{}}
	s.add(t, nil)
	d.structs[t] = s
	return s
}

func (s *structInfo) add(t reflect.Type, prefix []int) {
	var embedded [][]int
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), prefix...), i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Tag.Get("json") == "-":
			if f.Type == reflect.TypeFor[*Tree]() && f.Name == "Tree" {
				s.tree = index
			}
		case f.Anonymous && name == "":
			embedded = append(embedded, index)
		case f.IsExported():
			if name == "" {
				name = f.Name
			}
			if _, taken := s.fields[name]; !taken {
				s.fields[name] = index
			}
		}
	}
	// The outer struct's own fields win, as in encoding/json.
	for _, index := range embedded {
		s.add(t.Field(index[len(index)-1]).Type, index)
	}
}

func mismatch(t *Tree, path, want string) Diagnostic {
	got := t.Kind().String()
	if t.Kind() != KindMap && t.Kind() != KindList {
		got += " " + strconv.Quote(t.Text())
	}
	hint := ""
	if want == "string" && t.Kind() != KindMap && t.Kind() != KindList {
		hint = "put it in quotes"
	}
	return Diagnostic{Position: t.Here(), Severity: SeverityError, Path: path,
		Message: fmt.Sprintf(".%s: expected %s, got %s", path, want, got), Hint: hint}
}

func (d *typed) refuse(t *Tree, path, want string) {
	diag := mismatch(t, path, want)
	if d.options.Hidden {
		diag.Message = fmt.Sprintf(".%s: expected %s, got a %s that is none", path, want, t.Kind())
	}
	if hasTag(t) {
		diag.Hint = "write the value itself: tags are replaced in workflows, not here"
	}
	d.diagnostics = append(d.diagnostics, diag)
}

func hasTag(t *Tree) bool { return t.kind == KindString && strings.Contains(t.text, "{{") }

// waits tells whether a value of the wrong type is to be passed over until its tags are replaced.
func (d *typed) waits(t *Tree) bool {
	return d.tagged && !d.options.Substituted && hasTag(t)
}

// decode reports whether the value was set.
func (d *typed) decode(t *Tree, v reflect.Value, path string) bool {
	if t.Kind() == KindNull {
		v.SetZero()
		return false
	}
	if v.Kind() == reflect.Pointer {
		if v.Type() == reflect.TypeFor[*Tree]() {
			v.Set(reflect.ValueOf(t))
			return true
		}
		fresh := reflect.New(v.Type().Elem())
		if !d.decode(t, fresh.Elem(), path) {
			return false
		}
		v.Set(fresh)
		return true
	}
	if done, set := d.special(t, v, path); done {
		return set
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.structure(t, v, path)
	case reflect.Map:
		return d.mapping(t, v, path)
	case reflect.Slice:
		return d.list(t, v, path)
	case reflect.Interface:
		v.Set(reflect.ValueOf(t.Unstructured()))
		return true
	case reflect.String:
		return d.text(t, v, path)
	case reflect.Bool:
		return d.boolean(t, v, path)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return d.integer(t, v, path)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return d.unsigned(t, v, path)
	case reflect.Float32, reflect.Float64:
		return d.float(t, v, path)
	}
	d.refuse(t, path, v.Kind().String())
	return false
}

// special decodes types that have a form of their own.
func (d *typed) special(t *Tree, v reflect.Value, path string) (done, set bool) {
	switch to := v.Addr().Interface().(type) {
	case *Tree:
		*to = *t
		return true, true
	case *AnyString:
		*to = AnyString(t.literal())
		return true, true
	case *WithItems:
		*to = withItems(t)
		return true, true
	case *ParallelSteps:
		if t.kind == KindMap {
			t = &Tree{kind: KindList, line: t.line, column: t.column, src: t.src, items: []*Tree{t}}
			return true, d.list(t, v, path)
		}
		return false, false
	case json.Unmarshaler:
		err := d.readable(t, v)
		if err == nil {
			err = to.UnmarshalJSON(t.JSON())
		}
		if err != nil {
			if !d.waits(t) {
				diag := Diagnostic{Position: t.Here(), Severity: SeverityError, Path: path,
					Message: fmt.Sprintf(".%s: %.200q is not valid: %v", path, t.Text(), err)}
				if d.options.Hidden {
					diag.Message = fmt.Sprintf(".%s: it is not valid", path)
				}
				if hasTag(t) {
					diag.Hint = "write the value itself: tags are replaced in workflows, not here"
				}
				d.diagnostics = append(d.diagnostics, diag)
			}
			v.SetZero()
			return true, false
		}
		return true, true
	}
	return false, false
}

// readable refuses a quantity that must not be read.
func (d *typed) readable(t *Tree, v reflect.Value) error {
	if v.Type() != reflect.TypeFor[resource.Quantity]() {
		return nil
	}
	return QuantityError(t.Text())
}

func (d *typed) structure(t *Tree, v reflect.Value, path string) bool {
	if t = d.whole(t, KindMap); t.kind != KindMap {
		if !d.waits(t) {
			d.refuse(t, path, "map")
		}
		return false
	}
	if t := v.Type(); t == reflect.TypeFor[WorkflowSpec]() || t == reflect.TypeFor[Template]() {
		defer func(outside bool) { d.tagged = outside }(d.tagged)
		d.tagged = true
	}
	info := d.info(v.Type())
	for i := range t.fields {
		f := &t.fields[i]
		at := JoinPath(path, f.key)
		index, known := info.fields[f.key]
		if !known {
			name := d.unknown(f, t, v.Type(), info, at)
			if name == "" || t.Get(name) != nil {
				continue
			}
			// Argo's clients read names in any case, so manifests with such names exist and must do the same here.
			index = info.fields[name]
		}
		d.decode(f.value, v.FieldByIndex(index), at)
	}
	if info.tree != nil {
		v.FieldByIndex(info.tree).Set(reflect.ValueOf(t))
	}
	return true
}

// unknown reports a field and gives the known name that differs in case only.
func (d *typed) unknown(f *field, t *Tree, in reflect.Type, info *structInfo, path string) (meant string) {
	diag := Diagnostic{Severity: SeverityWarning, Path: path, Message: fmt.Sprintf("unknown field %q", path), Unknown: PassedOver}
	diag.Position = Position{Line: int(f.line), Column: int(f.column)}
	if t.src != nil {
		diag.Position.File = t.src.file
	}
	if why := legacyField(in.Name(), f.key); why != "" {
		diag.Message, diag.Unknown = fmt.Sprintf("field %q has no effect: %s", path, why), NotUnknown
		d.diagnostics = append(d.diagnostics, diag)
		return ""
	}
	for name := range info.fields {
		if strings.EqualFold(name, f.key) {
			meant = name
			diag.Hint, diag.Unknown = fmt.Sprintf("it is read as %q", name), ReadAsAnother
		}
	}
	if d.options.Strict {
		diag.Severity = SeverityError
	}
	d.diagnostics = append(d.diagnostics, diag)
	return meant
}

// legacyField says why a field of old Argo manifests is read over.
func legacyField(in, key string) string {
	if in != "WorkflowSpec" && in != "Template" {
		return ""
	}
	switch key {
	case "containerRuntimeExecutor":
		return "Argo removed it in 3.4"
	case "ttlSecondsAfterFinished":
		return "Argo removed it in 3.0; use ttlStrategy"
	case "resubmitPendingPods":
		return "Argo removed it; pods that could not be started are always tried again"
	}
	return ""
}

func (d *typed) mapping(t *Tree, v reflect.Value, path string) bool {
	if t = d.whole(t, KindMap); t.kind != KindMap || v.Type().Key().Kind() != reflect.String {
		if !d.waits(t) {
			d.refuse(t, path, "map")
		}
		return false
	}
	m := reflect.MakeMapWithSize(v.Type(), len(t.fields))
	for i := range t.fields {
		value := reflect.New(v.Type().Elem()).Elem()
		d.decode(t.fields[i].value, value, JoinPath(path, t.fields[i].key))
		m.SetMapIndex(reflect.ValueOf(t.fields[i].key).Convert(v.Type().Key()), value)
	}
	v.Set(m)
	return true
}

func (d *typed) list(t *Tree, v reflect.Value, path string) bool {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if err := json.Unmarshal(t.JSON(), v.Addr().Interface()); err != nil {
			if !d.waits(t) {
				d.refuse(t, path, "base64 text")
			}
			return false
		}
		return true
	}
	if t = d.whole(t, KindList); t.kind != KindList {
		if !d.waits(t) {
			d.refuse(t, path, "list")
		}
		return false
	}
	s := reflect.MakeSlice(v.Type(), len(t.items), len(t.items))
	for i, item := range t.items {
		d.decode(item, s.Index(i), IndexPath(path, i))
	}
	v.Set(s)
	return true
}

// whole gives the list or map that a replaced tag left as JSON text.
func (d *typed) whole(t *Tree, want Kind) *Tree {
	if !d.options.Substituted || t.kind != KindString {
		return t
	}
	if parsed, err := ParseTree([]byte(strings.TrimSpace(t.text))); err == nil && parsed.kind == want {
		return parsed
	}
	return t
}

func (d *typed) text(t *Tree, v reflect.Value, path string) bool {
	scalarText := t.kind == KindNumber || t.kind == KindBool
	if t.kind != KindString && (!d.options.Substituted || !scalarText) {
		d.refuse(t, path, "string")
		return false
	}
	v.SetString(t.literal())
	return true
}

// literal is a scalar's text as JSON has it, which is how definitions are kept: 0x10 is 16, True is true.
func (t *Tree) literal() string {
	if t.kind == KindNumber || t.kind == KindBool {
		return t.number
	}
	return t.Text()
}

func (d *typed) boolean(t *Tree, v reflect.Value, path string) bool {
	literal := t.number
	if t.kind == KindString {
		literal = ""
		// YAML 1.1, which Argo reads, has these booleans as well; we keep them as text elsewhere. Quotes make no difference, because
		// a definition is kept as JSON, where the text has quotes in any case.
		switch strings.ToLower(t.text) {
		case "yes", "on":
			literal = "true"
		case "no", "off":
			literal = "false"
		case "true", "false":
			literal = map[bool]string{true: strings.ToLower(t.text)}[d.options.Substituted]
		}
	}
	if t.kind != KindBool && t.kind != KindString || literal == "" {
		if !d.waits(t) {
			d.refuse(t, path, "boolean")
		}
		return false
	}
	v.SetBool(literal == "true")
	return true
}

// numeral is the number's literal, also from text where tags were replaced.
func (d *typed) numeral(t *Tree) string {
	switch {
	case t.kind == KindNumber:
		return t.number
	case t.kind == KindString && d.options.Substituted:
		return strings.TrimSpace(t.text)
	}
	return ""
}

func (d *typed) integer(t *Tree, v reflect.Value, path string) bool {
	literal := d.numeral(t)
	n, err := strconv.ParseInt(literal, 10, 64)
	if err != nil {
		// 1e3 and 3.0 are whole numbers too.
		f, ferr := strconv.ParseFloat(literal, 64)
		if ferr == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			n, err = int64(f), nil
		}
	}
	if err != nil || v.OverflowInt(n) {
		if !d.waits(t) {
			d.refuse(t, path, "whole number")
		}
		return false
	}
	v.SetInt(n)
	return true
}

func (d *typed) unsigned(t *Tree, v reflect.Value, path string) bool {
	n, err := strconv.ParseUint(d.numeral(t), 10, 64)
	if err != nil || v.OverflowUint(n) {
		if !d.waits(t) {
			d.refuse(t, path, "whole number of 0 or more")
		}
		return false
	}
	v.SetUint(n)
	return true
}

func (d *typed) float(t *Tree, v reflect.Value, path string) bool {
	f, err := strconv.ParseFloat(d.numeral(t), 64)
	if err != nil {
		if !d.waits(t) {
			d.refuse(t, path, "number")
		}
		return false
	}
	v.SetFloat(f)
	return true
}

// Unstructured gives the node as Kubernetes' unstructured objects want it: like [Tree.Value], with int64 or
// float64 for numbers.
func (t *Tree) Unstructured() any {
	switch t.Kind() {
	case KindNumber:
		if n, err := strconv.ParseInt(t.number, 10, 64); err == nil {
			return n
		}
		f, _ := strconv.ParseFloat(t.number, 64)
		return f
	case KindList:
		list := make([]any, len(t.items))
		for i, item := range t.items {
			list[i] = item.Unstructured()
		}
		return list
	case KindMap:
		m := make(map[string]any, len(t.fields))
		for i := range t.fields {
			m[t.fields[i].key] = t.fields[i].value.Unstructured()
		}
		return m
	}
	return t.Value()
}
