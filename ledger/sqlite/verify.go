package sqlite

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	sqlitelib "modernc.org/sqlite/lib"

	"github.com/tiphys/tiphys/ledger"
)

const (
	// verifyChunk is how many entries one query of Verify or Rebuild reads. A snapshot held for the whole ledger
	// would keep the log from being emptied.
	verifyChunk = 2000
	// maxFaults bounds a report: after so many it is clear enough.
	maxFaults = 100
)

// stored is an entry as the database has it, with what only verification looks at.
type stored struct {
	ledger.Entry
	digest ledger.Hash
	tag    int
	salt   []byte
	place  int
	body   []byte
	// erasure is the entry that erased the body; 0 if there is none.
	erasure int64
}

// verification goes along the chain and gathers what is wrong.
type verification struct {
	report ledger.Report
	last   place
	inside bool // it began within a gap
	// since must be the head of the ledger when it had that many entries; zero for none.
	since ledger.Head
	// gap finds a run of forgotten entries that begins with, or holds, the sequence.
	gap func(seq int64) (storedGap, bool, error)
	// committed says what is wrong with a gap's commitment; nil if nothing is.
	committed func(storedGap) error
}

// newVerification reads gaps as they are when they are met: entries may be forgotten meanwhile.
func (l *Ledger) newVerification(ctx context.Context) *verification {
	v := &verification{}
	v.gap = func(seq int64) (storedGap, bool, error) {
		list, err := readGaps(ctx, l.reads, "first = (SELECT max(first) FROM gaps WHERE first <= ?) AND last >= ?", seq, seq)
		if err != nil || len(list) == 0 {
			return storedGap{}, false, err
		}
		return list[0], true, nil
	}
	var public ed25519.PublicKey
	if l.key != nil {
		public, _ = l.key.Public().(ed25519.PublicKey) // it always is one
	}
	v.committed = func(g storedGap) error {
		e, err := l.Entry(ctx, g.entry)
		if errors.Is(err, ledger.ErrNotFound) {
			return errors.New("no entry says that they were forgotten")
		}
		if err != nil {
			return err
		}
		c, err := ledger.ReadCommitment(e)
		if err == nil {
			err = c.Covers(g.Gap, public)
		}
		return err
	}
	return v
}

// cross goes on behind the gaps that hold the next entries, if there are any.
func (v *verification) cross() error {
	for {
		g, ok, err := v.gap(v.last.seq + 1)
		if err != nil || !ok {
			return err
		}
		v.believe(g)
	}
}

// believe goes on behind a gap.
func (v *verification) believe(g storedGap) {
	if g.First != v.last.seq+1 && !v.inside {
		v.fault(v.last.seq+1, fmt.Sprintf("entries %d to %d are said to be forgotten, and some of them are there", g.First, g.Last))
	}
	if err := v.committed(g); err != nil {
		v.fault(g.First, fmt.Sprintf("entries up to %d are gone, and the record that they were forgotten does not hold: %v", g.Last, err))
	}
	hash, err := ledger.ParseHash(g.Hash)
	if err != nil {
		v.fault(g.First, err.Error())
	}
	if v.since.Seq == g.Last && v.since.Hash != g.Hash {
		v.fault(v.since.Seq, "the forgotten entry is not the one that the given head names: the ledger was rewritten")
	}
	v.report.Entries += g.Last - v.last.seq
	v.report.Pruned += g.Last - v.last.seq
	v.last, v.inside = place{seq: g.Last, time: g.Time, hash: hash}, false
}

// Verify implements [ledger.Ledger]. It reads in pieces while writes go on, and stops at what was the end when it began.
func (l *Ledger) Verify(ctx context.Context, check ledger.Check) (ledger.Report, error) {
	report, err := l.verify(ctx, check)
	if err != nil {
		return ledger.Report{}, fmt.Errorf("verify ledger: %w", l.explain(err))
	}
	return report, nil
}

func (l *Ledger) verify(ctx context.Context, check ledger.Check) (ledger.Report, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return ledger.Report{}, err
	}
	v := l.newVerification(ctx)
	if v.since = check.Since; v.since.Seq > head.Seq {
		v.fault(v.since.Seq, fmt.Sprintf("ledger ends at entry %d, before the given head", head.Seq))
	}
	if check.From.Seq > 0 {
		if err := v.start(ctx, l.reads, check.From, head); err != nil || len(v.report.Faults) > 0 && v.last.seq == 0 {
			return v.report, err
		}
	}
	tell := func(p ledger.Progress) {
		if check.Progress != nil {
			p.Total, p.Faults = head.Seq, len(v.report.Faults)
			check.Progress(p)
		}
	}
	for v.last.seq < head.Seq && len(v.report.Faults) < maxFaults {
		tell(ledger.Progress{Checked: v.last.head()})
		list, err := readStored(ctx, l.reads, v.last.seq, min(head.Seq, v.last.seq+verifyChunk))
		if err != nil {
			return ledger.Report{}, err
		}
		before := v.last.seq
		if len(list) == 0 || list[0].Seq != before+1 {
			if err := v.cross(); err != nil {
				return ledger.Report{}, err
			}
		}
		if len(list) == 0 && v.last.seq > before {
			continue
		}
		if len(list) == 0 {
			v.fault(v.last.seq+1, fmt.Sprintf("entries up to %d are missing", min(head.Seq, v.last.seq+verifyChunk)))
			v.last.seq = min(head.Seq, v.last.seq+verifyChunk)
			continue
		}
		for i := range list {
			if list[i].Seq != v.last.seq+1 {
				if err := v.cross(); err != nil {
					return ledger.Report{}, err
				}
			}
			if list[i].Seq <= v.last.seq {
				continue // it was forgotten meanwhile
			}
			v.check(&list[i])
		}
	}
	v.report.Head = v.last.head()
	tell(ledger.Progress{Checked: v.last.head()})
	if check.Rows {
		v.report.Rows, v.report.Differences, err = l.prove(ctx, func(seq int64) { tell(ledger.Progress{Checked: ledger.Head{Seq: seq}, Rows: true}) })
		if err != nil {
			return ledger.Report{}, err
		}
	}
	if check.Storage {
		tell(ledger.Progress{Checked: v.last.head(), Storage: true})
		if v.report.Damage, err = l.damage(ctx); err != nil {
			return ledger.Report{}, err
		}
	}
	return v.report, nil
}

// damage asks SQLite what is wrong with the file: pages, indexes that disagree with their tables, values of a wrong type.
func (l *Ledger) damage(ctx context.Context) ([]string, error) {
	var found []string
	err := each(ctx, l.reads, fmt.Sprintf("PRAGMA integrity_check(%d)", maxFaults), nil, func(r *sql.Rows) error {
		var text string
		err := r.Scan(&text)
		if text != "ok" {
			found = append(found, text)
		}
		return err
	})
	if code := resultCode(err); code == sqlitelib.SQLITE_CORRUPT || code == sqlitelib.SQLITE_NOTADB {
		return append(found, err.Error()), nil
	}
	return found, err
}

// head names the place; the zero place gives the zero Head.
func (p place) head() ledger.Head {
	if p.seq == 0 {
		return ledger.Head{}
	}
	return ledger.Head{Seq: p.seq, Time: p.time, Hash: p.hash.String()}
}

func (v *verification) fault(seq int64, what string) {
	if len(v.report.Faults) < maxFaults {
		v.report.Faults = append(v.report.Faults, ledger.Fault{Seq: seq, What: what})
	}
}

// start checks the entry that an earlier head names: it must be there with the hash that it had.
func (v *verification) start(ctx context.Context, from queryer, since ledger.Head, head ledger.Entry) error {
	if since.Seq > head.Seq {
		v.fault(since.Seq, fmt.Sprintf("ledger ends at entry %d, before the given head", head.Seq))
		return nil
	}
	// The entry before it, to compute the hash again: a changed entry may still carry the old one.
	list, err := readStored(ctx, from, max(0, since.Seq-2), since.Seq)
	if err != nil {
		return err
	}
	if len(list) == 0 || list[len(list)-1].Seq != since.Seq {
		g, ok, err := v.gap(since.Seq)
		switch {
		case err != nil:
			return err
		case !ok:
			v.fault(since.Seq, "entry is missing")
		default:
			v.startInGap(since, g)
		}
		return nil
	}
	e := &list[len(list)-1]
	if e.Hash.String() != since.Hash {
		v.fault(e.Seq, "entry is not the one that the given head names: the ledger was rewritten")
	} else if list[0].Seq == since.Seq-1 || since.Seq == 1 {
		if since.Seq > 1 {
			v.last = place{seq: since.Seq - 1, hash: list[0].Hash}
		}
		v.check(e)
		v.report.Entries, v.report.Pruned = 0, 0 // the count is of what comes after
	}
	v.last = place{seq: e.Seq, time: e.Time, hash: e.Hash}
	return nil
}

// startInGap takes an earlier head whose entry was forgotten since: it can be compared only where it was the last of its gap.
func (v *verification) startInGap(since ledger.Head, g storedGap) {
	if since.Seq == g.Last && since.Hash != g.Hash {
		v.fault(since.Seq, "the forgotten entry is not the one that the given head names: the ledger was rewritten")
	}
	hash, err := ledger.ParseHash(since.Hash)
	if err != nil {
		v.fault(since.Seq, err.Error())
	}
	v.inside = true
	v.last = place{seq: since.Seq, time: since.Time, hash: hash}
	if since.Seq == g.Last {
		v.last.time = g.Time
	}
}

// check compares one entry with what its own content and its predecessor say it must be. It goes on with the
// stored hash, so that one changed entry is one fault and not a fault in every later entry.
func (v *verification) check(e *stored) {
	if e.Seq != v.last.seq+1 {
		for seq := v.last.seq + 1; seq < e.Seq && len(v.report.Faults) < maxFaults; seq++ {
			v.fault(seq, "entry is missing")
		}
	} else if ledger.ChainHash(e.tag, v.last.hash, e.Entry, e.digest) != e.Hash {
		v.fault(e.Seq, "hash does not match")
	}
	if e.Seq == v.since.Seq && e.Hash.String() != v.since.Hash {
		v.fault(e.Seq, "entry is not the one that the given head names: the ledger was rewritten")
	}
	if e.Time.Before(v.last.time) {
		v.fault(e.Seq, "time runs backwards")
	}
	v.report.Entries++
	switch {
	case e.place == placeErased:
		v.report.Pruned++
		if e.erasure == 0 {
			v.fault(e.Seq, "body is gone, and no entry says that it was erased")
		}
	case e.place == placeContents && e.body == nil:
		v.fault(e.Seq, "body is missing")
	case ledger.BodyDigest(e.tag, e.salt, e.body) != e.digest:
		v.fault(e.Seq, "body does not match its digest")
	}
	v.last = place{seq: e.Seq, time: e.Time, hash: e.Hash}
}

// readStored reads the entries in (after, until].
func readStored(ctx context.Context, from queryer, after, until int64) ([]stored, error) {
	var list []stored
	text := "SELECT e.seq, e.time, e.actor, e.kind, e.subject, e.cause, e.place, e.digest, e.hash, e.tag, e.salt, coalesce(e.body, c.body)," +
		" CASE WHEN e.place = 3 THEN coalesce((SELECT max(x.seq) FROM entries x WHERE x.subject = 'entry/' || e.seq AND x.kind = '" + ledger.KindErased + "'), 0) ELSE 0 END" +
		" FROM entries e LEFT JOIN contents c ON e.place = 2 AND c.digest = e.content WHERE e.seq > ? AND e.seq <= ? ORDER BY e.seq"
	err := each(ctx, from, text, []any{after, until}, func(r *sql.Rows) error {
		var s stored
		var micros int64
		var digest, hash sql.RawBytes
		if err := r.Scan(&s.Seq, &micros, &s.Actor, &s.Kind, &s.Subject, &s.Cause, &s.place, &digest, &hash, &s.tag, &s.salt, &s.body, &s.erasure); err != nil {
			return err
		}
		s.Time = fromMicros(micros)
		s.Pruned = s.place == placeErased
		if s.place == placePacked {
			s.body, _ = unpack(s.body) // without it the digest does not match
		}
		copy(s.digest[:], digest)
		copy(s.Hash[:], hash)
		if len(s.body) > 0 && !s.Pruned {
			s.Body = s.body
		}
		list = append(list, s)
		return nil
	})
	return list, err
}

// erasedSubject names an entry as what was erased.
func erasedSubject(seq int64) string { return "entry/" + strconv.FormatInt(seq, 10) }
