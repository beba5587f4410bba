package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// Keys that are old, have the prefix and are not kept may be used again; all others may not, and no entry is touched.
func testExpire(t *testing.T, s Suite) {
	f := open(t, s)
	expirer, ok := f.Ledger.(ledger.Expirer)
	if !ok {
		t.Skip("this ledger forgets no keys")
	}
	old := []string{"delivery/a", "delivery/z\u00fc", "delivery/keep/a", "deliver", "delivery", "deliveryx", "firing/a"}
	for i := range 1200 { // more than one piece
		old = append(old, fmt.Sprintf("delivery/n%04d", i))
	}
	for _, key := range old {
		f.append(ledger.Draft{Unique: key})
	}
	f.clock.Move(30 * 24 * time.Hour)
	now := f.clock.Now()
	f.append(ledger.Draft{Unique: "delivery/young"})
	keep := func(key string) bool { return strings.HasPrefix(key, "delivery/keep/") }
	ended, cancel := context.WithCancel(f.ctx)
	cancel()
	if n, err := expirer.ExpireKeys(ended, "delivery/", now, keep); err == nil || n != 0 {
		t.Errorf("with an ended context: %d, %v", n, err)
	}
	if n, err := expirer.ExpireKeys(f.ctx, "delivery/", now, keep); err != nil || n != 1202 {
		t.Errorf("%d keys expired, want 1202: %v", n, err)
	}
	if n, err := expirer.ExpireKeys(f.ctx, "delivery/", now, keep); err != nil || n != 0 {
		t.Errorf("once more: %d, %v", n, err)
	}
	for _, key := range []string{"delivery/young", "delivery/keep/a", "deliver", "delivery", "deliveryx", "firing/a"} {
		if _, err := f.tryAppend(ledger.Draft{Unique: key}); !errors.Is(err, ledger.ErrExists) {
			t.Errorf("key %s may be used again: %v", key, err)
		}
	}
	f.append(ledger.Draft{Unique: "delivery/a"})
	f.append(ledger.Draft{Unique: "delivery/z\u00fc"})
	f.wholeWith(int64(len(old)+3), 0)
}
