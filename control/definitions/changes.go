package definitions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// News is one change of the definitions.
type News struct {
	Kind, Namespace, Name string
	// Deleted says that it was taken away; otherwise it was declared, or declared anew.
	Deleted bool
	// Seq is the entry that says so, and Actor who did it.
	Seq   int64
	Actor string
}

// subjectPrefix begins the subjects of the entries about definitions.
const subjectPrefix = "definition/"

// newsOf reads an entry about a definition.
func newsOf(e ledger.Entry) (News, bool) {
	parts := strings.SplitN(strings.TrimPrefix(e.Subject, subjectPrefix), "/", 3)
	if len(parts) != 3 {
		return News{}, false
	}
	return News{Kind: parts[0], Namespace: parts[1], Name: parts[2], Deleted: e.Kind == KindDeleted, Seq: e.Seq, Actor: e.Actor}, true
}

// newsPage bounds how many entries are read at a time.
const newsPage = 1000

// Changes implements [Reader].
func (s *Store) Changes(ctx context.Context, after int64, kinds ...string) ([]News, int64, error) {
	var news []News
	for {
		entries, err := s.ledger.Entries(ctx, ledger.EntryQuery{After: after, Kinds: []string{kindSet, KindDeleted}, Limit: newsPage, Bare: true})
		if err != nil {
			return nil, after, fmt.Errorf("read changes of definitions: %w", err)
		}
		for _, e := range entries {
			after = e.Seq
			if n, ok := newsOf(e); ok && (len(kinds) == 0 || slices.Contains(kinds, n.Kind)) {
				news = append(news, n)
			}
		}
		if len(entries) < newsPage || len(news) >= newsPage {
			return news, after, nil
		}
	}
}

// Await implements [Reader].
func (s *Store) Await(ctx context.Context, after int64, kinds ...string) ([]News, int64, error) {
	for {
		changed := s.ledger.Changed()
		news, next, err := s.Changes(ctx, after, kinds...)
		if err != nil || len(news) > 0 {
			return news, next, err
		}
		after = next
		select {
		case <-ctx.Done():
			return nil, after, ctx.Err()
		case <-changed:
		}
	}
}
