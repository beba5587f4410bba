package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/workflow"
)

// Nodes are all there, oldest first, however many pages they take; afterwards only what changed is read.
func TestNodes(t *testing.T) {
	ctx := context.Background()
	l, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "ledger.db"), Synchronous: sqlite.Off})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	put := func(run string, numbers ...int) {
		t.Helper()
		err := l.Write(ctx, ledger.On("run/"+run), func(tx ledger.Tx) error {
			if _, err := tx.Append(ledger.Draft{Actor: "test", Kind: "test", Subject: "run/" + run}); err != nil {
				return err
			}
			for _, i := range numbers {
				id := fmt.Sprintf("%05d", i)
				body, err := json.Marshal(workflow.Node{ID: id})
				if err != nil {
					return err
				}
				row := ledger.Row{Table: "node", Key: run + "/" + id, Owner: run, Time: time.Unix(int64(i), 0), Body: body}
				if err := tx.Put(row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var all []int
	var want []string
	for i := range 2*rowPage + 5 {
		all = append(all, len(all))
		want = append(want, fmt.Sprintf("%05d", i))
	}
	put("default/w", all...)
	put("default/other", 1, 2, 3)
	read := func(after int64, most int) ([]string, int64) {
		t.Helper()
		nodes, seq, err := Nodes(ctx, l, "default/w", after, most)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, n := range nodes {
			ids = append(ids, n.ID)
		}
		return ids, seq
	}
	got, seq := read(0, math.MaxInt)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, _ := read(0, 10); len(got) != rowPage {
		t.Errorf("%d nodes, want the first page", len(got))
	}
	if got, again := read(seq, math.MaxInt); len(got) != 0 || again != seq {
		t.Errorf("nothing has changed, and %v are new after %d", got, again)
	}
	put("default/w", 7)
	put("default/other", 8)
	put("default/w", 3)
	got, seq = read(seq, math.MaxInt)
	if diff := cmp.Diff([]string{"00007", "00003"}, got); diff != "" {
		t.Error(diff)
	}
	if got, _ := read(seq, math.MaxInt); len(got) != 0 {
		t.Errorf("%v again", got)
	}
}
