package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ParseTree reads one JSON value, with positions in the given bytes and the default [Limits].
func ParseTree(raw []byte) (*Tree, error) {
	limits := Limits{}.withDefaults()
	if len(raw) > 16*limits.Bytes {
		return nil, fmt.Errorf("read json: more than %d bytes", 16*limits.Bytes)
	}
	limits.Nodes *= 16 // our own JSON, not a user's file
	p := &parser{src: newSource("", raw), limits: limits}
	trees, err := p.jsonDocuments()
	if err != nil {
		return nil, fmt.Errorf("read json: %w", err)
	}
	if len(trees) != 1 {
		return nil, fmt.Errorf("read json: want one value, got %d", len(trees))
	}
	return trees[0], nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Tree) UnmarshalJSON(raw []byte) error {
	parsed, err := ParseTree(bytes.Clone(raw))
	if err != nil {
		return err
	}
	*t = *parsed
	return nil
}

func (p *parser) jsonDocuments() ([]*Tree, error) {
	decoder := json.NewDecoder(bytes.NewReader(p.src.data))
	decoder.UseNumber()
	var trees []*Tree
	for {
		tree, err := p.json(decoder, 1)
		if errors.Is(err, io.EOF) {
			return trees, nil
		}
		if err != nil {
			return trees, err
		}
		trees = append(trees, tree)
	}
}

// start is where the next token begins: the decoder has only read up to the end of the last one.
func (p *parser) start(d *json.Decoder) (line, column int32) {
	i := int(d.InputOffset())
	for i < len(p.src.data) && bytes.IndexByte([]byte(" \t\r\n:,"), p.src.data[i]) >= 0 {
		i++
	}
	return p.src.at(i)
}

func (p *parser) json(d *json.Decoder, depth int) (*Tree, error) {
	line, column := p.start(d)
	if err := p.count(line, column, depth); err != nil {
		return nil, err
	}
	token, err := d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) && depth > 1 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	t := &Tree{line: line, column: column, src: p.src}
	switch v := token.(type) {
	case nil:
	case bool:
		t.kind, t.number = KindBool, strconv.FormatBool(v)
		t.text = t.number
	case json.Number:
		t.kind, t.text, t.number = KindNumber, v.String(), v.String()
	case string:
		t.kind, t.text = KindString, v
	case json.Delim:
		if v == '[' {
			t.kind = KindList
			err = p.jsonList(t, d, depth)
		} else {
			t.kind = KindMap
			err = p.jsonMap(t, d, depth)
		}
	}
	return t, err
}

func (p *parser) jsonList(t *Tree, d *json.Decoder, depth int) error {
	for d.More() {
		item, err := p.json(d, depth+1)
		if err != nil {
			return err
		}
		t.items = append(t.items, item)
	}
	return endToken(d)
}

func (p *parser) jsonMap(t *Tree, d *json.Decoder, depth int) error {
	seen := map[string]int32{}
	for d.More() {
		line, column := p.start(d)
		token, err := d.Token()
		if err != nil {
			return endError(err)
		}
		key, ok := token.(string)
		if !ok {
			return p.fail(line, column, "a key must be a string")
		}
		f := field{key: key, line: line, column: column}
		if err := p.once(f, seen); err != nil {
			return err
		}
		value, err := p.below(key, func() (*Tree, error) { return p.json(d, depth+1) })
		if err != nil {
			return err
		}
		f.value = value
		t.fields = append(t.fields, f)
	}
	if len(seen) < len(t.fields) {
		t.fields = lastOfEach(t.fields)
	}
	return endToken(d)
}

func endToken(d *json.Decoder) error {
	_, err := d.Token()
	return endError(err)
}

func endError(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
