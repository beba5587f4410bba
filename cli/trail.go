package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// printTrail prints causes from the first on, then the entry, then what it led to as a tree.
func printTrail(w io.Writer, t ledger.Trail) {
	for i := range t.Up {
		mark := "  "
		if i == len(t.Up)-1 {
			mark = "▶ "
		}
		printEntry(w, mark+strings.Repeat("  ", i), t.Up[len(t.Up)-1-i])
	}
	depth := len(t.Up)
	for _, s := range t.Down {
		printEntry(w, "  "+strings.Repeat("  ", depth+s.Depth-1), s.Entry)
	}
	if t.Truncated {
		fmt.Fprintln(w, "  … and more")
	}
}

func printEntry(w io.Writer, indent string, e ledger.Entry) {
	fmt.Fprintf(w, "%s%d %s %s  %s  %s%s\n", indent, e.Seq, e.Time.Local().Format(time.DateTime), e.Kind, e.Subject, e.Actor, detail(e))
}

// detail adds what a reader wants to know of some kinds without opening the body.
func detail(e ledger.Entry) string {
	var b struct {
		Phase   string `json:"phase"`
		Message string `json:"message"`
		ID      string `json:"id"`
		Digest  string `json:"digest"`
		Outcome string `json:"outcome"`
	}
	if json.Unmarshal(e.Body, &b) != nil {
		return ""
	}
	var parts []string
	for _, s := range []string{b.Phase, oneLine(b.Message), b.Digest, b.Outcome} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "  (" + strings.Join(parts, ", ") + ")"
}
