package main

import (
	"bytes"
	"io"
	"sort"
	"strings"
)

const maskedText = "******"

// masker takes values out of a stream. What may be the beginning of a value is held back until more comes.
type masker struct {
	out    io.Writer
	values [][]byte // the longest first
	held   []byte
}

// newMasker gives a writer that takes values out of what passes to out; Close writes what is held back.
func newMasker(out io.Writer, values []string) io.WriteCloser {
	m := &masker{out: out}
	for _, v := range values {
		if v != "" {
			m.values = append(m.values, []byte(v))
		}
	}
	sort.Slice(m.values, func(i, j int) bool { return len(m.values[i]) > len(m.values[j]) })
	return m
}

// Write takes the values out of p.
func (m *masker) Write(p []byte) (int, error) {
	if len(m.values) == 0 {
		return m.out.Write(p)
	}
	m.held = append(m.held, p...)
	text, rest := m.replace(m.held)
	m.held = append([]byte(nil), rest...)
	if len(text) > 0 {
		if _, err := m.out.Write(text); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (m *masker) replace(data []byte) (text, rest []byte) {
	for len(data) > 0 {
		at, size := len(data), 0
		for _, v := range m.values {
			if i := bytes.Index(data, v); i >= 0 && i < at {
				at, size = i, len(v)
			}
		}
		if size == 0 {
			break
		}
		text = append(append(text, data[:at]...), maskedText...)
		data = data[at+size:]
	}
	keep := 0
	for _, v := range m.values {
		for n := min(len(v)-1, len(data)); n > keep; n-- {
			if bytes.Equal(data[len(data)-n:], v[:n]) {
				keep = n
			}
		}
	}
	return append(text, data[:len(data)-keep]...), data[len(data)-keep:]
}

// Close writes what was held back.
func (m *masker) Close() error {
	_, err := m.out.Write(m.held)
	m.held = nil
	return err
}

func maskText(values []string, text string) string {
	var b strings.Builder
	m := newMasker(&b, values)
	_, _ = m.Write([]byte(text))
	_ = m.Close()
	return b.String()
}
