package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/server/feed"
)

// streamLedger is a ledger with the tables of the rooms whose rows go away.
func streamLedger(t *testing.T) ledger.Ledger {
	t.Helper()
	l, err := sqlite.Open(context.Background(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "ledger.db"), Synchronous: sqlite.Off,
		Projections: []ledger.Projection{runs.Projection{}, definitions.Projection{}, deploy.Projection()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func appendEntry(t *testing.T, l ledger.Ledger, kind, subject string, body any) int64 {
	t.Helper()
	var e ledger.Ref
	err := l.Write(context.Background(), ledger.On(subject), func(tx ledger.Tx) (err error) {
		e, err = tx.Append(ledger.Draft{Actor: "test", Kind: kind, Subject: subject, Body: body})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return e.Seq()
}

// reader reads a stream's rows, as "table key", with a minus before those that are gone, and "at SEQ".
type reader struct {
	t     *testing.T
	lines *bufio.Scanner
}

func openStream(t *testing.T, l ledger.Ledger, query string) reader {
	t.Helper()
	hub := NewFeed(feed.Options{Ledger: l})
	t.Cleanup(hub.Close)
	a := &API{Policy: access.BuiltIn(), Ledger: l, Feed: hub}
	handle := a.stream
	if strings.HasPrefix(query, "argo&") {
		handle = a.argoWatch
	}
	s := httptest.NewServer(as(access.Admin, handle))
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return reader{t, bufio.NewScanner(resp.Body)}
}

// as has somebody of a role ask.
func as(role access.Role, handle http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(w, r.WithContext(access.With(r.Context(), access.Identity{Actor: "user:ada", Verified: true, Role: role})))
	})
}

// untilAt gives what comes up to the next place.
func (r reader) untilAt() []string {
	r.t.Helper()
	var got []string
	for r.lines.Scan() {
		line := r.lines.Text()
		if at, ok := strings.CutPrefix(line, "id: "); ok {
			return append(got, "at "+at)
		}
		data, ok := strings.CutPrefix(line, "data: {")
		if !ok {
			continue
		}
		var row feed.Row
		if err := json.Unmarshal([]byte("{"+data), &row); err != nil {
			r.t.Fatal(err)
		}
		word := row.Table + " " + row.Key
		if row.Deleted {
			word = "-" + word
		}
		got = append(got, word)
	}
	r.t.Fatalf("the stream ended after %v: %v", got, r.lines.Err())
	return nil
}

func setDefinition(t *testing.T, l ledger.Ledger, name string) int64 {
	return appendEntry(t, l, "definition.set", "definition/ConfigMap/default/"+name, map[string]string{
		"kind": "ConfigMap", "namespace": "default", "name": name, "origin": "api",
	})
}

// What is deleted while somebody looks, and while their connection was away, is told; what is there again stays.
func TestStreamTellsOfDeletions(t *testing.T) {
	l := streamLedger(t)
	setDefinition(t, l, "one")
	start := setDefinition(t, l, "two")
	live := openStream(t, l, "tables=definition,run,node,application")
	gone := appendEntry(t, l, definitions.KindDeleted, "definition/ConfigMap/default/one", struct{}{})
	want := []string{"-definition ConfigMap/default/one", fmt.Sprint("at ", gone)}
	if diff := cmp.Diff(want, live.untilAt()); diff != "" {
		t.Error(diff)
	}
	appendEntry(t, l, definitions.KindDeleted, "definition/ConfigMap/default/two", struct{}{})
	last := setDefinition(t, l, "two") // deleted and declared again
	late := openStream(t, l, fmt.Sprint("tables=definition&since=", start))
	want = []string{
		"-definition ConfigMap/default/one", "-definition ConfigMap/default/two", "definition ConfigMap/default/two", fmt.Sprint("at ", last),
	}
	if diff := cmp.Diff(want, late.untilAt()); diff != "" {
		t.Error(diff)
	}
	fresh := openStream(t, l, "tables=definition&since=0")
	if diff := cmp.Diff([]string{"definition ConfigMap/default/two", fmt.Sprint("at ", last)}, fresh.untilAt()); diff != "" {
		t.Error(diff)
	}
}

// Runs go with their nodes and attempts, applications and objects alone; a stream tells of the tables that it was asked for.
func TestStreamTellsWhoseRowsAreGone(t *testing.T) {
	l := streamLedger(t)
	start := setDefinition(t, l, "one")
	application := deploy.ApplicationRow{Namespace: "default", Name: "harbour"}
	appendEntry(t, l, deploy.KindApplicationSet, "application/"+application.Key(), deploy.ApplicationEntry{Application: application})
	appendEntry(t, l, runs.KindDeleted, "run/default/w", map[string]any{"tables": map[string]any{"node": []string{"default/w/w-1"}}})
	appendEntry(t, l, runs.KindDeleted, "run/default/w", map[string]any{"tables": map[string]any{"run": []string{"default/w"}}})
	appendEntry(t, l, "node.removed", "run/default/v", map[string]string{"id": "v-1"})
	appendEntry(t, l, deploy.KindObjectDeleted, "object/v1/ConfigMap/default/x", struct{}{})
	last := appendEntry(t, l, deploy.KindApplicationDeleted, "application/"+application.Key(), struct{}{})
	at := fmt.Sprint("at ", last)
	for query, want := range map[string][]string{
		"tables=run,node":                  {"-node default/w/w-1", "-run default/w", "-node default/v/v-1", at},
		"tables=node&owner=default/v":      {"-node default/v/v-1", at},
		"tables=application,object":        {"-object v1/ConfigMap/default/x", "-application " + application.Key(), at},
		"tables=run&owner=nobody,x":        {"-run default/w", at},
		"tables=run,node&owner=default/w":  {"-node default/w/w-1", "-run default/w", at},
		"tables=definition,run,attempt,mr": {"-run default/w", at},
	} {
		got := openStream(t, l, fmt.Sprint(query, "&since=", start)).untilAt()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}

// Argo's watch says DELETED of a run that is taken out of the lists, as a Kubernetes watch does.
func TestArgoWatchTellsOfDeletions(t *testing.T) {
	l := streamLedger(t)
	start := setDefinition(t, l, "one")
	appendEntry(t, l, runs.KindDeleted, "run/default/w", map[string]any{"tables": map[string]any{"node": []string{"default/w/w-1"}}})
	appendEntry(t, l, runs.KindDeleted, "run/default/w", map[string]any{"tables": map[string]any{"run": []string{"default/w"}}})
	stream := openStream(t, l, fmt.Sprint("argo&since=", start))
	for stream.lines.Scan() {
		if stream.lines.Text() == "" {
			continue
		}
		want := `data: {"result":{"object":{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"name":"w","namespace":"default"}},"type":"DELETED"}}`
		if diff := cmp.Diff(want, stream.lines.Text()); diff != "" {
			t.Error(diff)
		}
		return
	}
	t.Fatal("the stream ended")
}

// banner is a text that changes under those who read it.
type banner struct{ atomic.Value }

func (b *banner) Shown() string { return b.Load().(string) }

// A full disk is told when a stream begins and when it ends to be so, once, however much is free; a server that is well says nothing.
func TestStreamTellsOfTrouble(t *testing.T) {
	l := streamLedger(t)
	var trouble banner
	trouble.Store("the disk is full (3 KiB are free)")
	hub := NewFeed(feed.Options{Ledger: l, Banner: &trouble})
	s := httptest.NewServer(as(access.Admin, (&API{Policy: access.BuiltIn(), Ledger: l, Feed: hub}).stream))
	t.Cleanup(s.Close)
	t.Cleanup(hub.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"?tables=definition", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() string {
		for lines.Scan() {
			if event, ok := strings.CutPrefix(lines.Text(), "event: "); ok && lines.Scan() {
				return event + " " + strings.TrimPrefix(lines.Text(), "data: ")
			}
		}
		t.Fatal("the stream ended", lines.Err())
		return ""
	}
	told := []string{next()}
	for i, text := range []string{"the disk is full (2 KiB are free)", "", "", "the disk is full (1 KiB are free)"} {
		trouble.Store(text)
		setDefinition(t, l, fmt.Sprint("d", i))
		for told = append(told, next()); !strings.HasPrefix(told[len(told)-1], "at "); {
			told = append(told, next())
		}
	}
	told = slices.DeleteFunc(told, func(s string) bool { return strings.HasPrefix(s, "at ") })
	want := []string{`trouble "the disk is full (3 KiB are free)"`, `trouble ""`, `trouble "the disk is full (1 KiB are free)"`}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}
