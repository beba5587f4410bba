package sensor

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/budget"
)

// Alphabets of the functions that draw text, as sprig's (github.com/Masterminds/goutils): ASCII from the space to the tilde.
const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// maxDrawn is the longest text that a template may draw, in characters.
const maxDrawn = 64 << 10

// functions are those of sprig that templates of sensors have beside budget's, which follow from their arguments: what depends on the time
// has the event's, so that a replay gives the same, and what is drawn is drawn once, since it is recorded with the firing.
func functions(b *budget.Budget, now time.Time) map[string]any {
	draw := func(from string) func(int) (string, error) {
		return func(n int) (string, error) { return drawText(b, from, n) }
	}
	return map[string]any{
		"now": func() time.Time { return now }, "seq": func(params ...int) (string, error) { return sequence(b, params) },
		"ago":         func(t time.Time) string { return now.Sub(t).Round(time.Second).String() },
		"randNumeric": draw(digits), "randAlpha": draw(letters), "randAlphaNum": draw(digits + letters), "randAscii": draw(printable()),
		"randInt": func(from, below int) (int, error) { return drawNumber(from, below) },
		"randBytes": func(n int) (string, error) {
			raw, err := drawBytes(b, n)
			return base64.StdEncoding.EncodeToString(raw), err
		},
		"uuidv4":  func() (string, error) { return drawUUID(b) },
		"shuffle": func(text string) (string, error) { return shuffle(b, text) },
	}
}

func printable() string {
	var text strings.Builder
	for c := ' '; c <= '~'; c++ {
		text.WriteRune(c)
	}
	return text.String()
}

func drawNumber(from, below int) (int, error) {
	if below <= from {
		return 0, fmt.Errorf("randInt: there is no number from %d to before %d", from, below)
	}
	n, err := rand.Int(rand.Reader, big.NewInt(0).Sub(big.NewInt(int64(below)), big.NewInt(int64(from))))
	if err != nil {
		return 0, fmt.Errorf("draw a number: %w", err)
	}
	return from + int(n.Int64()), nil
}

func drawBytes(b *budget.Budget, n int) ([]byte, error) {
	if n < 0 || n > maxDrawn {
		return nil, fmt.Errorf("draw %d bytes: it can be 0 to %d", n, maxDrawn)
	}
	if err := b.TakeText(int64(2 * n)); err != nil {
		return nil, err
	}
	raw := make([]byte, n)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("draw bytes: %w", err)
	}
	return raw, nil
}

func drawText(b *budget.Budget, from string, n int) (string, error) {
	raw, err := drawBytes(b, 2*n)
	if err != nil {
		return "", err
	}
	text := make([]byte, n)
	for i := range text {
		// Of 65,536 numbers each character has as many but for one: nobody can tell.
		text[i] = from[(int(raw[2*i])<<8|int(raw[2*i+1]))%len(from)]
	}
	return string(text), nil
}

// drawUUID draws a UUID of version 4 (RFC 9562).
func drawUUID(b *budget.Budget) (string, error) {
	raw, err := drawBytes(b, 16)
	if err != nil {
		return "", err
	}
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]), nil
}

func shuffle(b *budget.Budget, text string) (string, error) {
	if len(text) > maxDrawn {
		return "", fmt.Errorf("shuffle: the text has more than %d bytes", maxDrawn)
	}
	if err := errors.Join(b.Step(int64(len(text))), b.TakeText(int64(5*len(text)))); err != nil {
		return "", err
	}
	runes := []rune(text)
	for i := len(runes) - 1; i > 0; i-- {
		j, err := drawNumber(0, i+1)
		if err != nil {
			return "", err
		}
		runes[i], runes[j] = runes[j], runes[i]
	}
	return string(runes), nil
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
	if len(params) < 3 && end < start {
		step = -1
	}
	for _, n := range []int{start, step, end} {
		if n > math.MaxInt32 || n < math.MinInt32 {
			return "", fmt.Errorf("seq: %d is too large", n)
		}
	}
	if step == 0 || (end >= start) != (step > 0) {
		return "", nil
	}
	count := int64((end-start)/step) + 1
	if count > maxOutput {
		return "", errTooLarge
	}
	if err := errors.Join(b.Step(count), b.TakeText(20*count)); err != nil {
		return "", err
	}
	numbers := make([]string, 0, count)
	for i := range count {
		numbers = append(numbers, strconv.Itoa(start+int(i)*step))
	}
	return strings.Join(numbers, " "), nil
}
