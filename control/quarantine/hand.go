package quarantine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// handFile is the file of the data folder that says what is in hand.
	handFile = "in-hand"
	// slots is how many items may be in hand at a time; others wait. A slot has slotSize bytes.
	slots, slotSize = 256, 512
	// maxSuspects bounds how many slots suspects take from the others.
	maxSuspects = 64
	handSize    = slots*slotSize + slotSize
)

// state is what a slot says of its item.
type state byte

const (
	empty state = iota
	inHand
	suspectedState
	onTrial
)

// mark is what a slot holds.
type mark struct {
	state  state
	deaths int
	item   Item
}

// hand is memory that outlives the process: a file that is mapped, so that a note costs a copy and no system call. A machine that loses
// power may lose it, and then there are no suspects. The first slot is the file's own: 1 in its first byte while a process is at work.
//
// A slot has a byte of the state, one of deaths, two of the lengths of kind and key, and these.
type hand struct {
	mu    sync.Mutex // of writers; each slot has one owner, but a fault of this program must not tear one
	bytes []byte
}

// openHand maps the file, which is made with all its bytes: a disk that is full later must not end the process.
func openHand(path string) (*hand, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open what is in hand: %w", err)
	}
	defer func() { _ = f.Close() }() // the mapping stays
	info, err := f.Stat()
	if err == nil && info.Size() != handSize {
		if _, err = f.WriteAt(make([]byte, handSize), 0); err == nil {
			err = errors.Join(f.Truncate(handSize), f.Sync())
		}
		if err != nil {
			err = errors.Join(err, os.Remove(path)) // half a file would be a hole later
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, handSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &hand{bytes: data}, nil
}

func (h *hand) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	data := h.bytes
	h.bytes = nil
	if data == nil {
		return nil
	}
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("close what is in hand: %w", err)
	}
	return nil
}

// clean reports whether the last process ended cleanly, or there was none.
func (h *hand) clean() bool { return h.bytes[0] == 0 }

func (h *hand) begin() { h.bytes[0] = 1 }
func (h *hand) end()   { h.bytes[0] = 0 }

func (h *hand) slot(n int) []byte { return h.bytes[slotSize*(n+1) : slotSize*(n+2)] }

// set writes a mark. The state is written last, so that a mark that was cut off is none.
func (h *hand) set(n int, m mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes == nil {
		return // the process is about to end
	}
	s := h.slot(n)
	s[0] = byte(empty)
	kind, key := shorten(m.item.Kind, 60), shorten(m.item.Key, slotSize-5-60)
	s[1], s[2] = byte(min(m.deaths, 255)), byte(len(kind))
	binary.LittleEndian.PutUint16(s[3:], uint16(len(key)))
	copy(s[5:], kind)
	copy(s[5+len(kind):], key)
	s[0] = byte(m.state)
}

func (h *hand) clear(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes != nil {
		h.slot(n)[0] = byte(empty)
	}
}

// get reads a mark; what cannot be one is empty.
func (h *hand) get(n int) mark {
	s := h.slot(n)
	m := mark{state: state(s[0]), deaths: int(s[1])}
	kind, key := int(s[2]), int(binary.LittleEndian.Uint16(s[3:]))
	if m.state > onTrial || m.state == empty || 5+kind+key > slotSize {
		return mark{}
	}
	m.item = Item{Kind: string(s[5 : 5+kind]), Key: string(s[5+kind : 5+kind+key])}
	return m
}

// shorten keeps long names apart by their digest.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:most-34] + "…" + hex.EncodeToString(sum[:16])[:31]
}
