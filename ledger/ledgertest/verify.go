package ledgertest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tiphys/tiphys/ledger"
)

func testVerify(t *testing.T, s Suite) {
	for _, c := range []struct {
		name, statement string
		since           int64
		faults          string
	}{
		{"untouched", "", 0, ""},
		{"untouched, since a head", "", 4, ""},
		{"untouched, since the last", "", 10, ""},
		{"changed actor", "UPDATE entries SET actor = 'user:eve' WHERE seq = 5", 0, "5 hash does not match"},
		{"changed first", "UPDATE entries SET kind = 'x.y' WHERE seq = 1", 0, "1 hash does not match"},
		{"changed last", "UPDATE entries SET subject = 'x/y' WHERE seq = 10", 0, "10 hash does not match"},
		{"changed time", "UPDATE entries SET time = time + 1 WHERE seq = 10", 0, "10 hash does not match"},
		{"changed cause", "UPDATE entries SET cause = 2 WHERE seq = 5", 0, "5 hash does not match"},
		{"changed body", "UPDATE entries SET body = '{\"n\":99}' WHERE seq = 5", 0, "5 body does not match its digest"},
		{"body made large", "UPDATE entries SET place = 2, body = NULL WHERE seq = 5", 0, "5 body is missing"},
		{"changed large body", "UPDATE contents SET body = '1'", 0, "3 body does not match its digest"},
		{"removed large body", "DELETE FROM contents", 0, "3 body is missing"},
		{"changed hash", "UPDATE entries SET hash = digest WHERE seq = 5", 0, "5 hash does not match; 6 hash does not match"},
		{"body erased in secret", "UPDATE entries SET body = NULL, place = 3 WHERE seq = 5", 0, "5 body is gone, and no entry says that it was erased"},
		{"removed from the middle", "DELETE FROM entries WHERE seq = 5", 0, "5 entry is missing"},
		{"removed from the start", "DELETE FROM entries WHERE seq < 3", 0, "1 entry is missing; 2 entry is missing"},
		{"cut tail", "DELETE FROM entries WHERE seq > 7", 9, "9 ledger ends at entry 7, before the given head"},
		{"the head itself removed", "DELETE FROM entries WHERE seq = 9", 9, "9 entry is missing"},
		{"the head itself changed", "UPDATE entries SET actor = 'user:eve' WHERE seq = 9", 9, "9 hash does not match"},
		{"the head's hash changed", "UPDATE entries SET hash = digest WHERE seq = 9", 9, "9 hash does not match; 9 entry is not the one that the given head names: the ledger was rewritten; 10 hash does not match"},
		{"changed before the head", "UPDATE entries SET actor = 'user:eve' WHERE seq = 2", 9, "2 hash does not match"},
		{"changed behind the head", "UPDATE entries SET actor = 'user:eve' WHERE seq = 10", 9, "10 hash does not match"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, s)
			var heads []ledger.Head
			for i := 1; i <= 10; i++ {
				var body any = map[string]int{"n": i}
				if i == 3 {
					body = strings.Repeat("long", 5000)
				}
				heads = append(heads, ledger.HeadOf(f.append(ledger.Draft{Body: body, Cause: ledger.At(int64(i / 3))})))
			}
			var since ledger.Head
			if c.since > 0 {
				since = heads[c.since-1]
			}
			if c.statement != "" {
				s.Exec(t, f.Ledger, c.statement)
			}
			r := f.verify(since)
			var faults []string
			for _, fault := range r.Faults {
				faults = append(faults, fmt.Sprint(fault.Seq, " ", fault.What))
			}
			f.same(strings.Join(faults, "; "), c.faults)
			if c.faults == "" {
				f.same([]any{r.Entries, r.Head}, []any{int64(10), heads[9]})
			}
		})
	}
}

func testErase(t *testing.T, s Suite) {
	f := open(t, s, things{})
	long := thing{State: "Running", Owner: strings.Repeat("secret", 1000)}
	short := thing{State: "Running", Owner: "secret"}
	for i, body := range []thing{short, long, long, short} {
		f.append(ledger.Draft{Kind: "thing.made", Subject: fmt.Sprint("object/", i+1), Body: body})
	}
	eraser, ok := f.Ledger.(ledger.Eraser)
	if !ok {
		f.Fatal("the ledger cannot erase")
	}
	for _, seq := range []int64{1, 2} {
		erasure, err := eraser.Erase(f.ctx, seq, "user:ada", "a leaked password")
		f.must(err)
		f.same(erasure, ledger.Entry{Seq: seq + 4, Time: f.clock.Now(), Actor: "user:ada", Kind: ledger.KindErased, Subject: fmt.Sprint("entry/", seq), Cause: seq,
			Body: raw(map[string]any{"seq": seq, "reason": "a leaked password"})}, cmpopts.IgnoreFields(ledger.Entry{}, "Hash"))
		e, err := f.Entry(f.ctx, seq)
		f.must(err)
		f.same([]any{string(e.Body), e.Pruned}, []any{"", true})
		_, err = eraser.Erase(f.ctx, seq, "user:ada", "again")
		f.wantError(err, ledger.ErrNotFound)
	}
	_, err := eraser.Erase(f.ctx, 99, "user:ada", "nothing there")
	f.wantError(err, ledger.ErrNotFound)
	f.wholeWith(6, 2)
	// The same body in another entry is not touched.
	e, err := f.Entry(f.ctx, 3)
	f.must(err)
	f.same(e.Body, raw(long))

	f.must(f.Rebuild(f.ctx))
	rows, err := f.List(f.ctx, ledger.Query{Table: "thing", Oldest: true})
	f.must(err)
	var states []string
	for _, r := range rows {
		states = append(states, r.State)
	}
	f.same(states, []string{"Erased", "Erased", "Running", "Running"})
	f.same(string(rows[0].Body)+rows[0].Owner, "")
	f.append(ledger.Draft{Kind: "other.noted"})
	f.wholeWith(7, 2)
}

func testBackup(t *testing.T, s Suite) {
	if s.Restore == nil {
		t.Skip("this implementation cannot open its backups by itself")
	}
	f := open(t, s, counting{})
	for range 20 {
		f.append(ledger.Draft{Kind: "count.up", Body: strings.Repeat("x", 20_000)})
	}
	dest := filepath.Join(t.TempDir(), "copy.db")
	f.must(f.Backup(f.ctx, dest))
	if err := f.Backup(f.ctx, dest); err == nil {
		f.Fatal("a backup was overwritten")
	}
	want := f.all()
	f.append(ledger.Draft{})
	copied := s.Restore(t, dest)
	defer func() { f.must(copied.Close()) }()
	got, err := copied.Entries(f.ctx, ledger.EntryQuery{})
	f.must(err)
	f.same(got, want)
	row, err := copied.Row(f.ctx, "count", "all")
	f.must(err)
	f.same(string(row.Body), "20")
	r, err := copied.Verify(f.ctx, ledger.Check{Since: ledger.HeadOf(want[10])})
	f.must(err)
	f.same([]any{r.Entries, len(r.Faults)}, []any{int64(20), 0})
}
