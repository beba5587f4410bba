package workflow

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// pieceNodes is how many nodes a piece has, but for the last one.
const pieceNodes = 256

// maxPiece bounds a piece that is read, in bytes.
const maxPiece = 1 << 30

// savedPiece says what is in a piece, so that nothing need be read of it to know.
type savedPiece struct {
	IDs   []string `json:"ids"` // of its nodes, in order of creation
	Bytes int      `json:"bytes"`
	// Live says that a pod of it has not ended.
	Live bool `json:"live,omitempty"`
}

// piece is a piece of the nodes of a state that was restored.
type piece struct {
	savedPiece
	from int    // the place of its first node in the order of creation
	body []byte // its nodes in CBOR (RFC 8949, read several times faster than JSON), compressed; nil once they are awake
}

// asleep is what nobody has asked for since the state was restored. Nothing of it has changed since it was kept.
type asleep struct {
	pieces []piece
	in     map[string]int // the piece of each node, of those that are not awake
	reader pieceReader
	err    error // why a piece could not be read
}

// node gives a node by its id, nil if there is none.
func (s *State) node(id string) *node {
	if n := s.nodes[id]; n != nil {
		return n
	}
	if k, ok := s.asleep.in[id]; ok {
		s.wake(&s.asleep.pieces[k])
		return s.nodes[id]
	}
	return nil
}

// all gives the nodes in order of creation, those that are gone, too. The slice is the state's own.
func (s *State) all() []*node {
	for k := range s.asleep.pieces {
		s.wake(&s.asleep.pieces[k])
	}
	if s.asleep.err != nil {
		return s.awake()
	}
	return s.order
}

// live gives at least those nodes whose pods have not ended, in order of creation.
func (s *State) live() []*node {
	for k := range s.asleep.pieces {
		if s.asleep.pieces[k].Live {
			s.wake(&s.asleep.pieces[k])
		}
	}
	return s.awake()
}

// awake gives those nodes that have been asked for or are new, in order of creation.
func (s *State) awake() []*node {
	out := make([]*node, 0, len(s.order))
	for _, n := range s.order {
		if n != nil {
			out = append(out, n)
		}
	}
	return out
}

// wake reads the nodes of a piece. What was kept is what is read, for its digest was compared, so an error is a fault of this program: it
// stays, and whoever asks the state for a decision gets it.
func (s *State) wake(p *piece) {
	if p.body == nil {
		return
	}
	body := p.body
	p.body = nil
	nodes, err := s.asleep.reader.read(body, p.IDs)
	if err != nil {
		s.asleep.err = fmt.Errorf("read the kept nodes of run %s/%s: %w", s.run.Namespace, s.run.Name, err)
		return
	}
	for i, n := range nodes {
		delete(s.asleep.in, n.ID)
		s.nodes[n.ID], s.order[p.from+i] = n, n
	}
}

// layDown takes pieces as they are, for later.
func (s *State) layDown(pieces []savedPiece, bodies []byte) error {
	count := 0
	for _, p := range pieces {
		count += len(p.IDs)
	}
	var err error
	if s.asleep.reader, err = newPieceReader(); err != nil {
		return err
	}
	s.order = make([]*node, count)
	s.asleep.pieces, s.asleep.in = make([]piece, 0, len(pieces)), make(map[string]int, count)
	from := 0
	for k, p := range pieces {
		if p.Bytes <= 0 || p.Bytes > len(bodies) {
			return fmt.Errorf("piece %d claims to have %d bytes, of %d", k, p.Bytes, len(bodies))
		}
		for _, id := range p.IDs {
			if _, twice := s.asleep.in[id]; twice || id == "" {
				return fmt.Errorf("node %q is there twice or has no id", id)
			}
			s.asleep.in[id] = k
		}
		s.asleep.pieces = append(s.asleep.pieces, piece{savedPiece: p, from: from, body: bodies[:p.Bytes:p.Bytes]})
		from, bodies = from+len(p.IDs), bodies[p.Bytes:]
	}
	if len(bodies) > 0 {
		return fmt.Errorf("%d bytes follow the last piece", len(bodies))
	}
	return nil
}

// pieces writes the nodes down. A piece that is asleep is taken as it is, if its nodes are still where a piece begins.
func (s *State) pieces() (saved []savedPiece, bodies []byte, err error) {
	w, err := newPieceWriter()
	if err != nil {
		return nil, nil, err
	}
	at := map[int]*piece{}
	for k := range s.asleep.pieces {
		if p := &s.asleep.pieces[k]; p.body != nil {
			at[p.from] = p
		}
	}
	for i := 0; i < len(s.order); i++ {
		if p := at[i]; p != nil && w.empty() && len(p.IDs) == pieceNodes {
			w.take(p)
			i += len(p.IDs) - 1
			continue
		} else if p != nil {
			s.wake(p)
		}
		if n := s.order[i]; n == nil {
			return nil, nil, s.asleep.err
		} else if !n.gone {
			if err := w.add(n); err != nil {
				return nil, nil, err
			}
		}
	}
	return w.end()
}

// pieceReader reads nodes as they were: strings that are not UTF-8 too, times to the nanosecond, and as many children as a node has.
type pieceReader struct {
	form cbor.DecMode
	z    *zstd.Decoder
}

func newPieceReader() (pieceReader, error) {
	const most = 1 << 27 // the library's own limits are for what comes from outside
	form, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid, MaxArrayElements: most, MaxMapPairs: most}.DecMode()
	if err != nil {
		return pieceReader{}, err
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPiece))
	return pieceReader{form, z}, err
}

// read gives the nodes of a piece, which have these ids.
func (r pieceReader) read(body []byte, ids []string) ([]*node, error) {
	raw, err := r.z.DecodeAll(body, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	nodes := make([]*node, len(ids))
	for i, id := range ids {
		var saved savedNode
		if raw, err = r.form.UnmarshalFirst(raw, &saved); err != nil {
			return nil, err
		}
		if nodes[i], err = saved.node(); err != nil {
			return nil, err
		}
		if nodes[i].ID != id {
			return nil, fmt.Errorf("node %q stands where %q should", nodes[i].ID, id)
		}
	}
	if len(raw) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last node", len(raw))
	}
	return nodes, nil
}

// pieceWriter collects nodes into pieces.
type pieceWriter struct {
	form   cbor.EncMode
	z      *zstd.Encoder
	now    savedPiece
	raw    bytes.Buffer // the nodes of now
	saved  []savedPiece
	bodies []byte
}

func newPieceWriter() (*pieceWriter, error) {
	form, err := cbor.EncOptions{Sort: cbor.SortBytewiseLexical, Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	return &pieceWriter{form: form, z: z}, err
}

func (w *pieceWriter) empty() bool { return len(w.now.IDs) == 0 }

func (w *pieceWriter) add(n *node) error {
	saved, err := n.saved()
	if err != nil {
		return err
	}
	raw, err := w.form.Marshal(saved)
	if err != nil {
		return err
	}
	w.raw.Write(raw)
	w.now.IDs = append(w.now.IDs, n.ID)
	w.now.Live = w.now.Live || n.live()
	if len(w.now.IDs) == pieceNodes {
		w.close()
	}
	return nil
}

// take adds a piece that is asleep.
func (w *pieceWriter) take(p *piece) {
	w.saved, w.bodies = append(w.saved, p.savedPiece), append(w.bodies, p.body...)
}

// close ends the piece that is being written.
func (w *pieceWriter) close() {
	before := len(w.bodies)
	w.bodies = w.z.EncodeAll(w.raw.Bytes(), w.bodies)
	w.now.Bytes = len(w.bodies) - before
	w.saved, w.now = append(w.saved, w.now), savedPiece{}
	w.raw.Reset()
}

func (w *pieceWriter) end() ([]savedPiece, []byte, error) {
	if !w.empty() {
		w.close()
	}
	return w.saved, w.bodies, w.z.Close()
}
