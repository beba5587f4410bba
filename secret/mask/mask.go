// Package mask takes secret values out of streams of text. It uses little of the standard library, because
// it is part of the steps' init program.
package mask

import (
	"io"
	"strings"
)

// Replacement is what is written in a secret's place.
const Replacement = "******"

// MinLength of a value or of a line of one, in bytes. Shorter ones are not masked: they would be found everywhere,
// and by their absence give themselves away.
const MinLength = 4

// Set is the values to mask, in all forms that they are looked for: as they are, line by line, JSON-escaped,
// URL-escaped, hexadecimal, and in base64 (standard and URL alphabet, at each of the three alignments, so also
// within a longer encoded text). It does not change and may be shared. Not found are values in base64 that is
// broken into lines, and values that were compressed or encrypted.
type Set struct {
	root  [256]int32 // next state from the start; 0 stays there
	nodes []node
}

// node is a state of an Aho-Corasick automaton. State 0 is the start.
type node struct {
	depth int32
	fail  int32
	// match is the length of the longest pattern that ends here, 0 for none.
	match int32
	// Most states have one way on, which is kept apart from the rest.
	only     byte
	onlyNext int32
	more     map[byte]int32
}

// New makes a set. Values that are too short, or nothing but white space or asterisks, are left out.
func New(values []string) *Set {
	s := &Set{nodes: make([]node, 1)}
	seen := map[string]bool{}
	for _, value := range values {
		for _, form := range forms(value) {
			if !seen[form] {
				seen[form] = true
				s.add(form)
			}
		}
	}
	s.link()
	return s
}

// Empty reports whether there is nothing to mask.
func (s *Set) Empty() bool { return len(s.nodes) == 1 }

func (s *Set) child(state int32, b byte) int32 {
	if state == 0 {
		return s.root[b]
	}
	n := &s.nodes[state]
	if n.onlyNext != 0 && n.only == b {
		return n.onlyNext
	}
	return n.more[b]
}

func (s *Set) add(pattern string) {
	var state int32
	for i := range len(pattern) {
		next := s.child(state, pattern[i])
		if next == 0 {
			next = int32(len(s.nodes)) //nolint:gosec // far fewer states than that
			s.nodes = append(s.nodes, node{depth: s.nodes[state].depth + 1})
			s.connect(state, pattern[i], next)
		}
		state = next
	}
	s.nodes[state].match = int32(len(pattern)) //nolint:gosec // patterns are short
}

func (s *Set) connect(state int32, b byte, next int32) {
	n := &s.nodes[state]
	switch {
	case state == 0:
		s.root[b] = next
	case n.onlyNext == 0:
		n.only, n.onlyNext = b, next
	default:
		if n.more == nil {
			n.more = map[byte]int32{}
		}
		n.more[b] = next
	}
}

// link sets where to go on when a pattern breaks off, state by state in order of depth.
func (s *Set) link() {
	var queue []int32
	for _, next := range s.root {
		if next != 0 {
			queue = append(queue, next)
		}
	}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		n := s.nodes[state]
		visit := func(b byte, next int32) {
			s.nodes[next].fail = s.step(n.fail, b)
			if inner := s.nodes[s.nodes[next].fail].match; s.nodes[next].match == 0 {
				s.nodes[next].match = inner
			}
			queue = append(queue, next)
		}
		if n.onlyNext != 0 {
			visit(n.only, n.onlyNext)
		}
		for b, next := range n.more {
			visit(b, next)
		}
	}
}

func (s *Set) step(state int32, b byte) int32 {
	for {
		if next := s.child(state, b); next != 0 || state == 0 {
			return next
		}
		state = s.nodes[state].fail
	}
}

// String masks a whole text.
func (s *Set) String(text string) string {
	if s.Empty() {
		return text
	}
	var b strings.Builder
	w := s.Writer(&b)
	_, _ = io.WriteString(w, text) // a strings.Builder does not fail
	_ = w.Close()
	return b.String()
}

// Writer masks what is written to it, across the borders of writes, and passes it on. It holds back only bytes that
// may be the beginning of a secret, never more than the longest form that is looked for (some KiB).
type Writer struct {
	set   *Set
	to    io.Writer
	state int32
	// held are the bytes not passed on yet; hidden of them, from the start of spans, are secret.
	held  []byte
	spans []span
	// masked is set where the last thing passed on was a replacement whose secret may go on.
	masked bool
	err    error
}

// span is a part of the held bytes.
type span struct{ from, to int }

// Writer starts a stream.
func (s *Set) Writer(to io.Writer) *Writer { return &Writer{set: s, to: to} }

// Write implements [io.Writer]. After an error of the underlying writer it always gives that error.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.set.Empty() {
		return w.to.Write(p)
	}
	for _, b := range p {
		w.held = append(w.held, b)
		if w.state == 0 && w.set.root[b] == 0 {
			continue
		}
		w.state = w.set.step(w.state, b)
		if match := int(w.set.nodes[w.state].match); match > 0 {
			w.hide(len(w.held)-match, len(w.held))
		}
	}
	return len(p), w.flush(len(w.held) - int(w.set.nodes[w.state].depth))
}

// hide marks a part as secret, joined with what it overlaps.
func (w *Writer) hide(from, to int) {
	for len(w.spans) > 0 && w.spans[len(w.spans)-1].to >= from {
		last := w.spans[len(w.spans)-1]
		from = min(from, last.from)
		w.spans = w.spans[:len(w.spans)-1]
	}
	w.spans = append(w.spans, span{max(from, 0), to})
}

// flush passes on the first n held bytes.
func (w *Writer) flush(n int) error {
	if n <= 0 {
		return w.err
	}
	out := make([]byte, 0, n+len(Replacement))
	at := 0
	rest := w.spans[:0]
	for _, s := range w.spans {
		if s.from >= n {
			rest = append(rest, span{s.from - n, s.to - n})
			continue
		}
		out = w.plain(out, w.held[at:s.from])
		if !w.masked {
			out = append(out, Replacement...)
			w.masked = true
		}
		at = min(s.to, n)
		if s.to > n {
			rest = append(rest, span{0, s.to - n})
		}
	}
	w.spans = rest
	out = w.plain(out, w.held[at:n])
	w.held = append(w.held[:0], w.held[n:]...)
	_, w.err = w.to.Write(out)
	return w.err
}

func (w *Writer) plain(out, text []byte) []byte {
	if len(text) > 0 {
		w.masked = false
	}
	return append(out, text...)
}

// Close passes on what is held back. It does not close the underlying writer.
func (w *Writer) Close() error {
	w.state = 0
	if w.err != nil {
		return w.err
	}
	return w.flush(len(w.held))
}
