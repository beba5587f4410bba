package story

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "modernc.org/sqlite" // to copy a ledger and to change the copy
)

func (w *World) trail(ctx context.Context) error {
	if err := w.trailOfPod(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := w.tried(ctx, "tiphys ledger verify", func(ctx context.Context) error {
		out, err := w.Tiphys(ctx, "ledger", "verify")
		if err == nil && !strings.Contains(out, "whole") {
			err = fmt.Errorf("tiphys ledger verify finds it whole: %s", out)
		}
		if err == nil {
			w.tell(began, "", "tiphys ledger verify: %s", out)
		}
		return err
	}); err != nil {
		return err
	}
	return w.changedCopies(ctx)
}

// trailOfPod follows a running container back to the push and the person, and the push forward to the container.
func (w *World) trailOfPod(ctx context.Context) error {
	began := time.Now()
	d, err := w.app(ctx, w.o.Names.Repo+"-prod", 10*time.Second, func(appPart) error { return nil })
	if err != nil {
		return err
	}
	pod := ""
	var created time.Time
	for _, r := range d.Resources {
		if r.Kind == "Pod" && strings.HasPrefix(r.Name, w.o.Names.API+"-") && r.CreatedAt.After(created) {
			pod, created = r.Name, r.CreatedAt
		}
	}
	if pod == "" {
		return fmt.Errorf("a pod of %s is among production's resources: it is not: %+v", w.o.Names.API, d.Resources)
	}
	var t struct {
		Up []struct {
			Seq     int64  `json:"seq"`
			Actor   string `json:"actor"`
			Kind    string `json:"kind"`
			Subject string `json:"subject"`
		} `json:"up"`
	}
	of := "pod/" + w.o.Names.Repo + "-prod/" + pod
	if err := w.tried(ctx, "ask for the trail", func(ctx context.Context) error {
		return w.Get(ctx, "", "/api/v1/trail?of="+url.QueryEscape(of), &t)
	}); err != nil {
		return err
	}
	var steps []string
	received, person := false, false
	for _, e := range slices.Backward(t.Up) {
		if len(steps) == 0 || steps[len(steps)-1] != e.Kind {
			steps = append(steps, e.Kind)
		}
		received = received || e.Kind == "event.received"
		// The first is what a person did: the push, or the merge on their behalf.
		person = person || strings.HasPrefix(e.Actor, "user:")
	}
	if !received || !person {
		return fmt.Errorf("the trail of %s leads to a push and a person: it is %s", of, strings.Join(steps, " → "))
	}
	if err := w.tried(ctx, "tiphys trail", func(ctx context.Context) error {
		out, err := w.Tiphys(ctx, "trail", of)
		if err == nil && (!strings.Contains(out, "event.received") || !strings.Contains(out, "user:")) {
			err = fmt.Errorf("tiphys trail %s names the event and the person:\n%s", of, out)
		}
		return err
	}); err != nil {
		return err
	}
	w.tell(began, w.screen("/trail?of="+of), "the trail of %s: %s", pod, strings.Join(steps, " → "))
	return nil
}

// changedCopies alters one row in a copy of the ledger, cuts the tail from another, and has both found.
func (w *World) changedCopies(ctx context.Context) error {
	began := time.Now()
	var head struct {
		Seq int64 `json:"seq"`
	}
	if err := w.tried(ctx, "tiphys ledger head", func(ctx context.Context) error {
		out, err := w.Tiphys(ctx, "ledger", "head")
		if err != nil {
			return err
		}
		w.head = filepath.Join(w.Dir, "head.json")
		return errors.Join(json.Unmarshal([]byte(out), &head), os.WriteFile(w.head, []byte(out), 0o600))
	}); err != nil {
		return err
	}
	for _, c := range []struct {
		name, what, change string
		args               []string
	}{
		{"whole", "", "", []string{"--since", w.head}},
		{"altered", "one row altered", fmt.Sprintf("UPDATE entries SET actor = 'user:eve' WHERE seq = %d", head.Seq/2), nil},
		// What is left of a cut ledger is whole: only a head that was kept elsewhere shows it.
		{"cut", "the tail cut off", fmt.Sprintf("DELETE FROM entries WHERE seq > %d", head.Seq-3), []string{"--since", w.head}},
	} {
		file := filepath.Join(w.Dir, c.name+".db")
		if err := w.tried(ctx, "copy the ledger", func(ctx context.Context) error { return w.copyLedger(ctx, file, c.change) }); err != nil {
			return err
		}
		out, err := w.Tiphys(ctx, append([]string{"ledger", "verify", "--file", file}, c.args...)...)
		switch {
		case c.change == "" && err != nil:
			return fmt.Errorf("an untouched copy is whole: %w", err)
		case c.change != "" && (err == nil || !strings.Contains(out, "entry ")):
			return fmt.Errorf("a copy with %s is found: it is not: %s %v", c.what, out, err) //nolint:errorlint // it may be nil
		case c.change != "":
			w.tell(began, "", "a copy with %s is found: %s", c.what, firstLine([]byte(out)))
		}
		began = time.Now()
	}
	return nil
}

// copyLedger writes a copy of the ledger as it is now, and changes the copy.
func (w *World) copyLedger(ctx context.Context, to, change string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	from, err := sql.Open("sqlite", filepath.Join(w.Data, "ledger.db"))
	if err != nil {
		return fmt.Errorf("copy the ledger: %w", err)
	}
	_, err = from.ExecContext(ctx, "VACUUM INTO ?", to)
	if err = errors.Join(err, from.Close()); err != nil {
		return fmt.Errorf("copy the ledger: %w", err)
	}
	if change == "" {
		return nil
	}
	db, err := sql.Open("sqlite", to)
	if err != nil {
		return fmt.Errorf("change the copy: %w", err)
	}
	result, err := db.ExecContext(ctx, change)
	if err == nil {
		if n, _ := result.RowsAffected(); n == 0 {
			err = errors.New("there was nothing to change")
		}
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("change the copy: %w", err)
	}
	return nil
}
