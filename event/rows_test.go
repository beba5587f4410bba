package event_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
)

// memory is rows in a map.
type memory map[string]ledger.Row

func (m memory) Get(table, key string) (ledger.Row, error) {
	if r, ok := m[table+" "+key]; ok {
		return r, nil
	}
	return ledger.Row{}, ledger.ErrNotFound
}
func (m memory) Put(r ledger.Row) (err error) {
	if r.Stamp.Field != "" {
		r.Body, err = r.Stamp.Write(r.Body, 1) // the only row of the story that is stamped is made by its first entry
	}
	m[r.Table+" "+r.Key] = r
	return err
}

func (m memory) Delete(table, key string) error { delete(m, table+" "+key); return nil }

type story struct {
	t    *testing.T
	rows memory
	// again are the rows as a replay makes them: from what was written, where rows come from the values.
	again memory
	seq   int64
}

func (s *story) add(kind string, body any) {
	s.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	s.seq++
	if !(event.Rows{}).Wants(kind) {
		s.t.Fatalf("%s is not wanted", kind)
	}
	e := ledger.Entry{Seq: s.seq, Time: time.Unix(s.seq, 0), Kind: kind, Body: raw}
	if err := (event.Rows{}).Apply(e, s.again); err != nil {
		s.t.Fatal(err)
	}
	e.Value = body
	if err := (event.Rows{}).Apply(e, s.rows); err != nil {
		s.t.Fatal(err)
	}
	if diff := cmp.Diff(s.again, s.rows); diff != "" {
		s.t.Errorf("%s: a replay gives other rows (-replay +appended):\n%s", kind, diff)
	}
}

func (s *story) state(table, key, want string) ledger.Row {
	s.t.Helper()
	r, err := s.rows.Get(table, key)
	if err != nil {
		s.t.Fatalf("%s %s: %v", table, key, err)
	}
	if r.State != want {
		s.t.Errorf("%s %s is %s, want %s", table, key, r.State, want)
	}
	return r
}

func TestRowsOfAnEventsLife(t *testing.T) {
	s := &story{t: t, rows: memory{}, again: memory{}}
	big := json.RawMessage(`"` + strings.Repeat("x", 20_000) + `"`)
	s.add(event.KindReceived, event.Received{Event: event.Event{ID: "e1", Type: "gitlab", Source: "in", Subject: "lab", Namespace: "ports", Data: big,
		Git: &event.Git{Branch: "main", Repo: event.Repo{FullName: "o/r"}, PR: &event.PullRequest{Number: 7}}}})
	row := s.state(event.TableEvent, "e1", "")
	var body event.EventRow
	if err := json.Unmarshal(row.Body, &body); err != nil {
		t.Fatal(err)
	}
	if body.Seq != 1 || body.Data != nil || body.DataBytes != len(big) || row.Labels["repo"] != "o/r" || row.Labels["mr"] != "7" {
		t.Errorf("row %s with labels %v", row.Body, row.Labels)
	}
	decision := event.Decision{Sensor: "ports/s", Trigger: "t", EventSeq: 1, Dependency: "a", Outcome: "waiting"}
	other := decision
	other.Dependency, other.Outcome = "b", "fired"
	s.add(event.KindDecided, event.Decided{EventID: "e1", Decisions: []event.Decision{decision, other}, States: []event.StateRow{
		{Sensor: "ports/s", Trigger: "t", TriggerState: event.TriggerState{Fired: 1}},
		{Sensor: "ports/s", Trigger: "u", TriggerState: event.TriggerState{Saved: map[string]event.SavedEvent{"a": {Event: 1}}}},
	}})
	var short event.DecisionRow
	if err := json.Unmarshal(s.state(event.TableDecision, "e1", "").Body, &short); err != nil || len(short.Decisions) != 2 || short.Decisions[1].Outcome != "fired" {
		t.Errorf("%+v %v", short, err)
	}
	s.state(event.TableSensorState, "ports/s/t", "idle")
	s.state(event.TableSensorState, "ports/s/u", "waiting")

	s.add(event.KindFired, event.Fired{Key: "k", EventID: "e1", Sensor: "ports/s", Trigger: "t", Number: 1})
	s.state(event.TableFiring, "k", "pending")
	s.state(event.TableEvent, "e1", "fired")
	s.add(event.KindFailed, event.Settled{Key: "k", Attempt: 1, Error: "refused"})
	s.state(event.TableFiring, "k", "pending")
	s.add(event.KindFailed, event.Settled{Key: "k", Attempt: 2, Error: "refused", Dead: true})
	s.state(event.TableFiring, "k", "dead")
	s.add(event.KindRedriven, event.Settled{Key: "k"})
	s.state(event.TableFiring, "k", "pending")
	s.add(event.KindDone, event.Settled{Key: "k", Attempt: 3, Result: "run ports/x"})
	if r := s.state(event.TableFiring, "k", "done"); !strings.Contains(string(r.Body), "run ports/x") {
		t.Errorf("body %s", r.Body)
	}
	s.add(event.KindDone, event.Settled{Key: "of a pruned firing"})
}

func TestReplayIsAnEventOfItsOwn(t *testing.T) {
	e := event.Event{ID: "e1", Seq: 7, Delivery: "d", Namespace: "n", Source: "s", Subject: "x"}
	if event.DeliveryKey(e) == "" || event.ContentKey(e) != "" {
		t.Error("a delivery needs a key")
	}
	r := event.Replay(e, "e2", time.Unix(1, 0))
	if r.ReplayOf != 7 || r.Seq != 0 || r.ID != "e2" || event.DeliveryKey(r) != "" {
		t.Errorf("replay %+v", r)
	}
}

// What is recorded has the data as it came, says what stands in it once, and is read as it was; ledgers of before, which said it
// twice, are read too.
func TestReceivedIsReadAsItWasWritten(t *testing.T) {
	git := &event.Git{Forge: "gitlab", Kind: "push", Branch: "main", SHA: "abc", Commits: []event.Commit{{SHA: "abc", Message: "tidy <up>"}},
		PR: &event.PullRequest{Number: 7, Labels: []string{"deploy:api"}}, ChangedFiles: []string{"a/b"}}
	text, err := json.Marshal(git)
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]event.Event{
		"git in the data":     {ID: "a", Time: time.Unix(5, 0).UTC(), Data: json.RawMessage(`{"body":{"x":[1, 2]},"git":` + string(text) + `}`), Git: git},
		"git beside the data": {ID: "b", Time: time.Unix(5, 0).UTC(), Data: json.RawMessage(`{"body":{"git":1}}`), Git: git},
		"a git of their own":  {ID: "c", Time: time.Unix(5, 0).UTC(), Data: json.RawMessage(`{"git":"init"}`)},
		"no data":             {ID: "d", Time: time.Unix(5, 0).UTC(), Git: git},
		"nothing":             {ID: "e", Time: time.Unix(5, 0).UTC()},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := event.Received{Event: e}.EncodeBody()
			if err != nil {
				t.Fatal(err)
			}
			if !json.Valid(raw) {
				t.Fatalf("not JSON: %s", raw)
			}
			if n := strings.Count(string(raw), `"tidy `); n > 1 {
				t.Errorf("git is recorded %d times", n)
			}
			back, err := event.FromEntry(ledger.Entry{Kind: event.KindReceived, Seq: 9, Body: raw})
			want := e
			want.Seq = 9
			if diff := cmp.Diff(want, back); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			type before struct {
				Event event.Event `json:"event"`
			}
			old, err := json.Marshal(before{Event: e})
			if err != nil {
				t.Fatal(err)
			}
			back, err = event.FromEntry(ledger.Entry{Kind: event.KindReceived, Seq: 9, Body: old})
			if len(want.Data) > 0 { // encoding/json makes it compact
				want.Data = json.RawMessage(strings.ReplaceAll(string(want.Data), ", ", ","))
			}
			if diff := cmp.Diff(want, back); err != nil || diff != "" {
				t.Errorf("a ledger of before: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}
