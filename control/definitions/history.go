package definitions

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
)

// Earlier gives what a definition was before its last change, newest first and at most n, back to where it was declared anew. What was
// erased is left out. It is for kinds that are not sealed.
func (s *Store) Earlier(ctx context.Context, d Definition, n int) ([]Definition, error) {
	entries, err := s.ledger.Entries(ctx, ledger.EntryQuery{
		Subject: "definition/" + d.Key(), Kinds: []string{kindSet, KindDeleted}, Before: d.Seq, Newest: true, Limit: n,
	})
	if err != nil {
		return nil, fmt.Errorf("read what %s was before: %w", d.Key(), err)
	}
	var out []Definition
	for _, e := range entries {
		if e.Kind == KindDeleted {
			break
		}
		var was Definition
		if e.Pruned || json.Unmarshal(e.Body, &was) != nil {
			continue // the next that can be read is what is asked for
		}
		was.Seq = e.Seq
		out = append(out, was)
	}
	return out, nil
}

// Latest is [Store.Get] for who has seen an entry and looks at what it changed: what Get keeps may be older than an entry whose writer
// was not told yet that it is on record.
func (s *Store) Latest(ctx context.Context, kind, namespace, name string) (Definition, error) {
	row, err := s.ledger.Row(ctx, table, key(kind, namespace, name))
	if err != nil {
		return Definition{}, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
	}
	return s.Open(row), nil
}
