package budget

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Alphabets of sprig's functions that draw texts.
const (
	Letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	Digits  = "0123456789"
)

// Chance is what sprig's functions need that want a clock or chance: both are the caller's, so that the same chance gives the same.
type Chance struct {
	Now    time.Time
	Random *rand.Rand
	// ASCII is the alphabet of randAscii.
	ASCII string
	// Text is asked before a text of n characters is drawn.
	Text func(n int) error
}

// ChanceNames are the names of [Chance.Functions], in order.
func ChanceNames() []string {
	return []string{"now", "ago", "randAlpha", "randNumeric", "randAlphaNum", "randAscii", "randInt", "uuidv4"}
}

// Functions are sprig's functions that want a clock or chance, by name.
func (c Chance) Functions() map[string]any {
	draw := func(alphabet string) func(int) (string, error) {
		return func(n int) (string, error) {
			if err := c.Text(n); err != nil {
				return "", err
			}
			b := make([]byte, n)
			for i := range b {
				b[i] = alphabet[c.Random.IntN(len(alphabet))]
			}
			return string(b), nil
		}
	}
	return map[string]any{
		"now":       func() time.Time { return c.Now },
		"ago":       func(t time.Time) string { return c.Now.Sub(t).Round(time.Second).String() },
		"randAlpha": draw(Letters), "randNumeric": draw(Digits), "randAlphaNum": draw(Letters + Digits), "randAscii": draw(c.ASCII),
		"randInt": c.number, "uuidv4": c.uuid,
	}
}

func (c Chance) number(low, high int) (int, error) {
	if high <= low || high-low <= 0 { // the latter where they are so far apart that it cannot be counted
		return 0, errors.New("randInt: the end is not above the start")
	}
	return low + c.Random.IntN(high-low), nil
}

// uuid draws a UUID of version 4 (RFC 9562).
func (c Chance) uuid() (string, error) {
	if err := c.Text(36); err != nil {
		return "", err
	}
	high, low := c.Random.Uint64(), c.Random.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", high>>32, high>>16&0xffff, high&0xfff, low>>48&0x3fff|0x8000, low&0xffffffffffff), nil
}
