package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/cli"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// What is said of a whole ledger is what was looked at: everything, what came after a head, or that nothing did.
func TestLedgerVerifySays(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ledger.db")
	note := func(n int) ledger.Head {
		t.Helper()
		l, err := sqlite.Open(t.Context(), sqlite.Options{Path: file})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		for range n {
			err := l.Write(t.Context(), ledger.On("thing/1"), func(tx ledger.Tx) error {
				_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "thing.noted", Subject: "thing/1"})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		e, err := l.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ledger.HeadOf(e)
	}
	verify := func(head *ledger.Head) (string, int) {
		t.Helper()
		args := []string{"ledger", "verify", "--file", file}
		if head != nil {
			raw, err := json.Marshal(head)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "head.json"), raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, "--since", filepath.Join(dir, "head.json"))
		}
		var out bytes.Buffer
		code := cli.Main(context.Background(), args, cli.IO{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }})
		return out.String(), code
	}
	head := note(5)
	other := head
	other.Hash = strings.Repeat("0", len(head.Hash))
	for _, c := range []struct {
		what string
		head *ledger.Head
		code int
		want []string
	}{
		{"all of it", nil, 0, []string{"whole: 5 entries checked (0 pruned), up to 5 " + head.Hash[:16]}},
		{"since now", &head, 0, []string{"whole: 5 entries checked (0 pruned), up to 5", "entry 5 is the one of the given head"}},
		{"since another ledger's head", &other, 1, []string{"entry 5", "rewritten"}},
	} {
		out, code := verify(c.head)
		for _, want := range c.want {
			if code != c.code || !strings.Contains(out, want) {
				t.Errorf("%s: %d %q, want %d and %q", c.what, code, out, c.code, want)
			}
		}
		if c.head != nil && strings.Contains(out, " 0 entries") {
			t.Errorf("%s: %q tells of nothing", c.what, out)
		}
	}
	note(2)
	if out, code := verify(&head); code != 0 || !strings.Contains(out, "7 entries checked (0 pruned), up to 7") {
		t.Errorf("since before: %d %q", code, out)
	}
}
