package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// placeKey is the field in which the sdk says where in the program an object was made. It never reaches a manifest.
const placeKey = "//"

// Made is what a program made, as text with a line for each value, so that a fault in it has a line.
type Made struct {
	// Text is JSON, keys in the order of their bytes, several objects parted by [Separator]; or whatever else a program printed.
	Text []byte

	places []placed
}

// placed is where the program made what stands in a range of lines.
type placed struct {
	first, last int
	at          string
}

// At tells where in the program the innermost object was made that a line of the text belongs to: file, line and column, 0 if it is not
// known. ok is false if nothing is known.
func (m Made) At(line int) (file string, at [2]int, ok bool) {
	best := placed{last: 1 << 30}
	for _, p := range m.places {
		if p.first <= line && line <= p.last && p.last-p.first <= best.last-best.first {
			best = p
		}
	}
	file = best.at
	for i := 1; i >= 0; i-- {
		colon := strings.LastIndexByte(file, ':')
		n, err := strconv.Atoi(file[colon+1:])
		if colon < 0 || err != nil {
			break
		}
		at[i], file = n, file[:colon]
	}
	if at[0] == 0 { // file:line
		at = [2]int{at[1], 0}
	}
	return file, at, best.at != ""
}

// arrange writes objects as text.
func arrange(objects []any) (Made, error) {
	w := &arranger{line: 1}
	for i, o := range objects {
		if i > 0 {
			w.text.WriteString(Separator)
			w.line++
		}
		if err := w.value(o, 0); err != nil {
			return Made{}, err
		}
		w.newline(0)
	}
	return Made{Text: w.text.Bytes(), places: w.places}, nil
}

type arranger struct {
	text   bytes.Buffer
	line   int
	places []placed
}

func (w *arranger) newline(depth int) {
	w.text.WriteByte('\n')
	w.text.WriteString(strings.Repeat("  ", depth))
	w.line++
}

func (w *arranger) value(v any, depth int) error {
	switch v := v.(type) {
	case map[string]any:
		first := w.line
		keys := slices.Sorted(maps.Keys(v))
		at, known := v[placeKey].(string)
		if known {
			keys = slices.DeleteFunc(keys, func(k string) bool { return k == placeKey })
		}
		err := w.list('{', '}', len(keys), depth, func(i int) error {
			if err := w.scalar(keys[i]); err != nil {
				return err
			}
			w.text.WriteString(": ")
			return w.value(v[keys[i]], depth+1)
		})
		if known {
			w.places = append(w.places, placed{first: first, last: w.line, at: at})
		}
		return err
	case []any:
		return w.list('[', ']', len(v), depth, func(i int) error { return w.value(v[i], depth+1) })
	}
	return w.scalar(v)
}

func (w *arranger) list(open, end byte, n, depth int, each func(int) error) error {
	w.text.WriteByte(open)
	for i := range n {
		if i > 0 {
			w.text.WriteByte(',')
		}
		w.newline(depth + 1)
		if err := each(i); err != nil {
			return err
		}
	}
	if n > 0 {
		w.newline(depth)
	}
	w.text.WriteByte(end)
	return nil
}

func (w *arranger) scalar(v any) error {
	e := json.NewEncoder(&w.text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	w.text.Truncate(w.text.Len() - 1) // the encoder ends lines
	return nil
}

// bare takes the places out of a value.
func bare(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if _, known := v[placeKey].(string); known {
			delete(v, placeKey)
		}
		for _, e := range v {
			bare(e)
		}
	case []any:
		for _, e := range v {
			bare(e)
		}
	}
	return v
}

// arranged is what a program printed: JSON is written anew, anything else stays as it is.
func arranged(printed []byte) Made {
	var objects []any
	for part := range strings.SplitSeq("\n"+string(printed), "\n"+Separator) {
		d := json.NewDecoder(strings.NewReader(part))
		d.UseNumber()
		for {
			var v any
			err := d.Decode(&v)
			if errors.Is(err, io.EOF) {
				break
			}
			if _, object := v.(map[string]any); err != nil || !object {
				return Made{Text: printed}
			}
			objects = append(objects, v)
		}
	}
	made, err := arrange(objects)
	if err != nil || len(objects) == 0 {
		return Made{Text: printed}
	}
	return made
}
