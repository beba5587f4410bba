package claims

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// acts draws what runs may act for.
func acts() *rapid.Generator[ActsFor] {
	return rapid.Custom(func(t *rapid.T) ActsFor {
		a := ActsFor{Nobody: rapid.IntRange(0, 5).Draw(t, "nobody") == 0}
		if rapid.IntRange(0, 4).Draw(t, "git") == 0 {
			return a
		}
		a.Forge = rapid.SampledFrom([]string{"", "ports/lab"}).Draw(t, "forge")
		a.Repo = rapid.SampledFrom([]string{"harbour", "fort", "protected"}).Draw(t, "repository")
		if a.MR = rapid.IntRange(Several, 3).Draw(t, "merge request"); a.MR == 0 && !a.Nobody {
			a.Protected = rapid.Bool().Draw(t, "protected")
		}
		return a
	})
}

// TestWhoReadsWhat: what a protected ref reads only protected refs wrote; a merge request reads its own first and then theirs, and nothing of
// another; what nobody wrote nobody else reads.
func TestWhoReadsWhat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := acts().Draw(t, "writer"), acts().Draw(t, "reader")
		writer, reader := a.Class("uid-a"), b.Class("uid-b")
		reads := slices.Contains(reader.Reads(), writer.Writes())
		same := a.Repo == b.Repo && a.Forge == b.Forge && a.MR == b.MR
		switch {
		case b.Protected && reads != a.Protected:
			t.Errorf("a protected ref reads %+v: %t", a, reads)
		case (a.Nobody || b.Nobody) && reads:
			t.Errorf("%+v reads %+v", b, a)
		case a.MR != 0 && reads && !same, a.MR < 0 && reads:
			t.Errorf("%+v reads of merge request %+v", b, a)
		case b.MR > 0 && !b.Nobody && a.Protected && !reads:
			t.Errorf("a merge request does not read what protected refs wrote: %+v", b)
		case b.MR > 0 && !b.Nobody && reader.Reads()[0] != reader.Writes():
			t.Errorf("a merge request does not read its own first: %+v", b)
		case writer.Shares() && (a.Nobody || a.MR != 0 || a.Repo != "" && !a.Protected):
			t.Errorf("%+v writes what others use", a)
		}
	})
}
