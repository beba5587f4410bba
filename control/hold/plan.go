package hold

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Item is one thing that happens once the server is released.
type Item struct {
	// ID names it for who leaves it out: "run/default/hello-x7k2p". It begins with its kind.
	ID string `json:"id"`
	// What says for people what would happen.
	What string `json:"what"`
	// Since is when it was begun, asked for or due.
	Since time.Time `json:"since,omitzero"`
}

// Page is a part of a plan.
type Page struct {
	Items []Item `json:"items"`
	// Next is where the list goes on; empty at its end.
	Next string `json:"next,omitempty"`
}

// Planner knows what one room would do. What it tells is read from the record while nothing of the room runs.
type Planner interface {
	// Kind is the first part of the room's items: "run".
	Kind() string
	// Plan gives up to n items behind a place that an earlier page named.
	Plan(ctx context.Context, after string, n int) (Page, error)
	// Leave records that one item is not to be done. It may be repeated; an item that is not there is a NotFound.
	Leave(ctx context.Context, id, actor string) error
}

// Reason is what the record says of what was left out.
const Reason = "left out when the restored server was released"

// Planners are those of all rooms, in the order in which their items are left out.
type Planners []Planner

// Kinds are the kinds of items.
func (p Planners) Kinds() []string {
	kinds := make([]string, len(p))
	for i := range p {
		kinds[i] = p[i].Kind()
	}
	return kinds
}

// of finds the planner of an item or a kind.
func (p Planners) of(id string) (Planner, error) {
	kind, _, _ := strings.Cut(id, "/")
	i := slices.IndexFunc(p, func(p Planner) bool { return p.Kind() == kind })
	if i < 0 {
		return nil, failure.Invalidf("%q is nothing that can be left out: use what the plan shows, or one of %s for all of a kind", id, strings.Join(p.Kinds(), ", "))
	}
	return p[i], nil
}

// Plan gives a page of one kind.
func (p Planners) Plan(ctx context.Context, kind, after string, n int) (Page, error) {
	one, err := p.of(kind)
	if err != nil {
		return Page{}, err
	}
	page, err := one.Plan(ctx, after, n)
	if err != nil {
		return page, fmt.Errorf("plan what is done with each %s: %w", kind, err)
	}
	if page.Items == nil {
		page.Items = []Item{}
	}
	return page, nil
}

// leavePage is how many items are left out between two looks at the plan.
const leavePage = 100

// Check says whether each of a list can be an item or a kind.
func (p Planners) Check(list []string) error {
	for _, id := range list {
		if _, err := p.of(id); err != nil {
			return err
		}
	}
	return nil
}

// Leave leaves out what a list names: items, or kinds, which stand for all of their items. It goes by the order of the rooms, and may be
// repeated after an error.
func (p Planners) Leave(ctx context.Context, list []string, actor string) error {
	if err := p.Check(list); err != nil {
		return err
	}
	for _, one := range p {
		for _, id := range list {
			var err error
			switch {
			case id == one.Kind():
				err = leaveAll(ctx, one, actor)
			case strings.HasPrefix(id, one.Kind()+"/"):
				err = one.Leave(ctx, id, actor)
			}
			if err != nil {
				return fmt.Errorf("leave out %s: %w", id, err)
			}
		}
	}
	return nil
}

// leaveAll leaves out every item of a room. Those that are left out are in no later page.
func leaveAll(ctx context.Context, p Planner, actor string) error {
	after := ""
	for {
		page, err := p.Plan(ctx, after, leavePage)
		if err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := p.Leave(ctx, item.ID, actor); err != nil {
				return fmt.Errorf("%s: %w", item.ID, err)
			}
		}
		if page.Next == "" {
			return nil
		}
		after = page.Next
	}
}

// Rows makes a page of the rows of a query; item gives nil for a row that nothing happens to.
func Rows(ctx context.Context, l ledger.Reader, q ledger.Query, after string, n int, item func(ledger.Row) (*Item, error)) (Page, error) {
	var page Page
	q.Limit = n
	if after != "" {
		at, key, ok := strings.Cut(after, " ")
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil || !ok {
			return page, failure.Invalidf("%q is no place in a plan", after)
		}
		q.After = &ledger.Cursor{Time: t, Key: key}
	}
	rows, err := l.List(ctx, q)
	if err != nil {
		return page, err
	}
	for _, row := range rows {
		one, err := item(row)
		if err != nil {
			return page, err
		}
		if one != nil {
			page.Items = append(page.Items, *one)
		}
	}
	if len(rows) == n {
		last := rows[len(rows)-1]
		page.Next = last.Time.UTC().Format(time.RFC3339Nano) + " " + last.Key
	}
	return page, nil
}

// Work makes a page of the items of an outbox queue.
func Work(ctx context.Context, l ledger.Ledger, queue, after string, n int, item func(ledger.Work) Item) (Page, error) {
	var page Page
	var id int64
	if after != "" {
		if _, err := fmt.Sscan(after, &id); err != nil {
			return page, failure.Invalidf("%q is no place in a plan", after)
		}
	}
	works, err := l.Outbox().List(ctx, queue, id, n)
	if err != nil {
		return page, err
	}
	for _, w := range works {
		page.Items = append(page.Items, item(w))
	}
	if len(works) == n {
		page.Next = fmt.Sprint(works[len(works)-1].ID)
	}
	return page, nil
}
