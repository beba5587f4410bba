package sqlite

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// deriver is a projection with the tables that it may touch.
type deriver struct {
	ledger.Projection
	tables map[string]bool
}

func derivers(list []ledger.Projection) []deriver {
	out := make([]deriver, len(list))
	for i, p := range list {
		out[i] = deriver{Projection: p, tables: map[string]bool{}}
		for _, t := range p.Tables() {
			out[i].tables[t] = true
		}
	}
	return out
}

// wanting are the projections that want entries of a kind.
func (w *writer) wanting(kind string) []deriver {
	ps, ok := w.wants[kind]
	if !ok {
		for _, p := range w.ledger.projections {
			if p.Wants(kind) {
				ps = append(ps, p)
			}
		}
		w.wants[kind] = ps
	}
	return ps
}

func (d *deriver) apply(e ledger.Entry, t *tx) error { return d.Apply(e, derived{t, d}) }

// derived is what a projection sees of the rows.
type derived struct {
	t *tx
	d *deriver
}

func (r derived) check(table string) error {
	if r.d.tables[table] {
		return nil
	}
	return fmt.Errorf("table %q is none of those that the projection names (%s)", table, strings.Join(r.d.Tables(), ", "))
}

func (r derived) Get(table, key string) (ledger.Row, error) {
	if err := r.check(table); err != nil {
		return ledger.Row{}, err
	}
	return r.t.Get(table, key)
}

func (r derived) Put(row ledger.Row) error {
	if err := r.check(row.Table); err != nil {
		return err
	}
	return r.t.Put(row)
}

func (r derived) Delete(table, key string) error {
	if err := r.check(table); err != nil {
		return err
	}
	return r.t.Delete(table, key)
}

// saltsAtOnce is how many salts one read of the system's chance gives.
const saltsAtOnce = 256

// salt is a fresh salt of a body.
func (w *writer) salt() []byte {
	if len(w.salts) == 0 {
		w.salts = make([]byte, saltsAtOnce*ledger.SaltSize)
		_, _ = rand.Read(w.salts) // never fails (crypto/rand)
	}
	s := w.salts[:ledger.SaltSize:ledger.SaltSize]
	w.salts = w.salts[ledger.SaltSize:]
	return s
}

// deciderDepth is how many of the outermost frames are looked through for a decision.
const deciderDepth = 16

// outside refuses a call that comes from within a decision: it would wait for itself, or see what the decision does not. Looking
// costs little, and is done only while a decision runs.
func (w *writer) outside() error {
	if !w.deciding.Load() {
		return nil
	}
	pcs := make([]uintptr, 256)
	n := runtime.Callers(2, pcs)
	for _, pc := range pcs[max(0, n-deciderDepth):n] {
		if f := runtime.FuncForPC(pc - 1); f != nil && strings.HasSuffix(f.Name(), "/sqlite.(*writer).run") {
			w.trespassed = true
			return ledger.ErrWithinWrite
		}
	}
	return nil
}
