package confine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// What a process of a pool and its parent say to each other is in frames, of a head and a body. A request's head is the length of its
// body, in four bytes. An answer's head has a byte of what it is, one that is 1 if the process should not be asked again, eight of the
// processor time that it has used since it was started, in nanoseconds, and then the length.

// word says what an answer is.
type word byte

const (
	ready    word = 'r' // the process has confined itself
	answered word = 'a' // the body is the answer
	failed   word = 'f' // the body says why there is none
	tooLong  word = 't' // it took more processor time than it may; the process ends
	tooLarge word = 'l' // the answer has more bytes than are taken
)

type reply struct {
	word word
	worn bool
	used time.Duration
	body []byte
}

const requestHead, replyHead = 4, 14

// encode writes JSON and leaves what is JSON already as it is.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return b.Bytes(), err
}

func writeRequest(w io.Writer, body []byte) error {
	frame := make([]byte, requestHead, requestHead+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body))) //nolint:gosec // it is bounded by maxRequest
	_, err := w.Write(append(frame, body...))
	return err
}

// readRequest gives io.EOF where there is no other request.
func readRequest(r io.Reader) ([]byte, error) {
	var head [requestHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	return readBody(r, binary.BigEndian.Uint32(head[:]), maxRequest)
}

func readBody(r io.Reader, size uint32, most int64) ([]byte, error) {
	if int64(size) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	return body, err
}

func writeReply(w io.Writer, a reply) error {
	frame := make([]byte, replyHead, replyHead+len(a.body))
	frame[0] = byte(a.word)
	if a.worn {
		frame[1] = 1
	}
	binary.BigEndian.PutUint64(frame[2:], uint64(a.used))       //nolint:gosec // time is not negative
	binary.BigEndian.PutUint32(frame[10:], uint32(len(a.body))) //nolint:gosec // it is bounded by the pool's limit of answers
	_, err := w.Write(append(frame, a.body...))
	return err
}

func readReply(r io.Reader, most int64) (reply, error) {
	var head [replyHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return reply{}, err
	}
	body, err := readBody(r, binary.BigEndian.Uint32(head[10:]), most)
	if err != nil {
		return reply{}, err
	}
	used := time.Duration(binary.BigEndian.Uint64(head[2:])) //nolint:gosec // what the process says of itself is compared only
	return reply{word: word(head[0]), worn: head[1] != 0, used: used, body: body}, nil
}
