package local_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// An attempt that cannot be read keeps no other from being taken over. What runs of it ends, its folder is set aside, and if it can be
// known whose it is its end is told.
func TestAttemptsThatCannotBeRead(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, live string)
		why    string
		told   bool
	}{
		{"a torn record", func(t *testing.T, live string) {
			damage(t, filepath.Join(live, protocol.PodFile), `{"id": {"ow`)
		}, "unexpected end", false},
		{"a record that is gone", func(t *testing.T, live string) {
			if err := os.Remove(filepath.Join(live, protocol.PodFile)); err != nil {
				t.Fatal(err)
			}
		}, "gone", false},
		{"a folder of another name", func(t *testing.T, live string) {
			if err := os.Rename(live, live+"-moved"); err != nil {
				t.Fatal(err)
			}
		}, "another attempt", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, shared := t.TempDir(), t.TempDir()
			p := oncePod(t, shared)
			e := open(t, dir)
			if err := e.Start(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
			_, shim := shimOf(t, dir)
			bad := attemptFolder(t, dir)
			good := oncePod(t, t.TempDir())
			good.ID.Node = "good"
			if err := e.Start(t.Context(), good); err != nil {
				t.Fatal(err)
			}
			report(t, e, func(r executor.Report) bool { return r.ID == good.ID && r.Phase == executor.Running })
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			c.damage(t, bad)
			e = open(t, dir)
			list, err := e.List(t.Context())
			if err != nil || len(list) != 1 || list[0].ID != good.ID {
				t.Errorf("it knows %v, %v", list, err)
			}
			if c.told {
				if r := report(t, e, done); r.ID != p.ID || r.Phase != executor.Error || r.Reason != executor.ReasonLost {
					t.Errorf("%+v", r)
				}
			}
			for limit := time.Now().Add(patience); shim.Alive(); {
				if time.Now().After(limit) {
					t.Fatal("what cannot be read still runs")
				}
				<-time.After(time.Millisecond)
			}
			aside := e.SetAside()
			if len(aside) != 1 || !strings.Contains(aside[0].Why, c.why) {
				t.Errorf("set aside: %+v", aside)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = open(t, dir) // and is not found again, but still shown
			if again := e.SetAside(); len(again) != 1 || again[0] != aside[0] {
				t.Errorf("after another start: %+v", again)
			}
			if err := e.Stop(t.Context(), good.ID, 0); err != nil {
				t.Fatal(err)
			}
			if r := report(t, e, done); r.ID != good.ID || r.Reason != executor.ReasonStopped {
				t.Errorf("%+v", r)
			}
			if err := os.RemoveAll(aside[0].Folder); err != nil {
				t.Fatal(err)
			}
			settleAndCheck(t, e, dir, good.ID)
		})
	}
}

// A final report that was kept is told though the pod's record is damaged.
func TestAKeptReportOfAnUnreadableAttempt(t *testing.T) {
	needRoot(t)
	dir, shared := t.TempDir(), t.TempDir()
	p := oncePod(t, shared)
	p.Outputs.Result = true
	write(t, filepath.Join(shared, "go"))
	e := open(t, dir)
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, done)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	live := attemptFolder(t, dir)
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(live, protocol.ReportFile), string(data))
	damage(t, filepath.Join(live, protocol.PodFile), "nonsense")
	e = open(t, dir)
	// Which way in it came by was in the damaged file.
	if got := report(t, e.Container(), done); got.ID != p.ID || got.Phase != executor.Succeeded || got.Result == nil {
		t.Errorf("%+v", got)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func damage(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
