package clients

import (
	"testing"
	"time"
)

// A body of a request without a timeout may take long if enough of it comes: what comes bit by bit is waited for two minutes and a second for each
// kibibyte, and what does not come two minutes.
func TestSlowBodies(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := &Body{paid: began.Add(quiet)}
	now := began
	for range 1000 { // a byte each second
		if until := m.until(now); !until.After(now) {
			break
		}
		now = now.Add(time.Second)
		m.came(1)
	}
	if took := now.Sub(began); took > quiet+5*time.Second {
		t.Errorf("a byte each second is waited for %s", took)
	}
	m, now = &Body{paid: began.Add(quiet)}, began
	for range 10_000 { // 64 KiB each second
		now = now.Add(time.Second)
		m.came(64 << 10)
		if until := m.until(now); until.Sub(now) != quiet {
			t.Fatalf("after %s what comes quickly is waited for %s", now.Sub(began), until.Sub(now))
		}
	}
}
