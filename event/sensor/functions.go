package sensor

import (
	crypto "crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/budget"
)

// maxDrawn is the longest text that a template may draw, in characters.
const maxDrawn = 64 << 10

// functions are those of sprig that templates of sensors have beside budget's, which follow from their arguments: what depends on the time
// has the event's, so that a replay gives the same, and what is drawn is drawn once, since it is recorded with the firing.
func functions(b *budget.Budget, now time.Time) map[string]any {
	chance := budget.Chance{Now: now, Random: rand.New(unforeseeable{}), ASCII: printable(), Text: func(n int) error { return drawable(b, n, 4) }} //nolint:gosec // its source is the system's
	all := chance.Functions()
	all["seq"] = func(params ...int) (string, error) { return sequence(b, params) }
	all["randBytes"] = func(n int) (string, error) {
		if err := drawable(b, n, 2); err != nil {
			return "", err
		}
		raw := make([]byte, n)
		_, err := crypto.Read(raw)
		return base64.StdEncoding.EncodeToString(raw), err
	}
	all["shuffle"] = func(text string) (string, error) {
		if err := errors.Join(b.Step(int64(len(text))), drawable(b, len(text), 5)); err != nil {
			return "", err
		}
		runes := []rune(text)
		chance.Random.Shuffle(len(runes), func(i, j int) { runes[i], runes[j] = runes[j], runes[i] })
		return string(runes), nil
	}
	return all
}

// unforeseeable is chance from the system: what is drawn may be a secret.
type unforeseeable struct{}

// Uint64 implements [rand.Source].
func (unforeseeable) Uint64() uint64 {
	var raw [8]byte
	_, _ = crypto.Read(raw[:]) // it never fails (crypto/rand)
	return binary.NativeEndian.Uint64(raw[:])
}

// printable is ASCII as sprig has it, from the space to the tilde.
func printable() string {
	var text strings.Builder
	for c := ' '; c <= '~'; c++ {
		text.WriteRune(c)
	}
	return text.String()
}

// drawable takes what a text of n characters needs, each so many bytes on its way.
func drawable(b *budget.Budget, n, each int) error {
	if n < 0 || n > maxDrawn {
		return fmt.Errorf("draw %d characters: it can be 0 to %d", n, maxDrawn)
	}
	return b.TakeText(int64(each * n))
}

// sequence is sprig's seq, after the shell's: the numbers to the only one, from the first to the second, or with the second as the step.
func sequence(b *budget.Budget, params []int) (string, error) {
	start, step := 1, 1
	var end int
	switch len(params) {
	case 1:
		end = params[0]
	case 2:
		start, end = params[0], params[1]
	case 3:
		start, step, end = params[0], params[1], params[2]
	default:
		return "", nil
	}
	behind := 1
	if end < start {
		behind = -1
	}
	if len(params) < 3 {
		step = behind
	}
	list, err := b.Sequence(start, end+behind, step)
	if err != nil {
		return "", err
	}
	if len(list) > maxOutput {
		return "", errTooLarge
	}
	if err := errors.Join(b.Step(int64(len(list))), b.TakeText(20*int64(len(list)))); err != nil {
		return "", err
	}
	numbers := make([]string, len(list))
	for i, n := range list {
		numbers[i] = strconv.Itoa(n)
	}
	return strings.Join(numbers, " "), nil
}
