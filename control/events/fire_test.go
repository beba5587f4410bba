package events

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// room is a controller with a real ledger, and time that the test moves. Nothing runs behind the test's back.
type room struct {
	*Controller
	t   *testing.T
	now time.Time
}

func newRoom(t *testing.T, secrets map[string]string) *room {
	t.Helper()
	r := &room{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	clock := func() time.Time { return r.now }
	l, err := sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "l.db"), Now: clock, Projections: []ledger.Projection{event.Rows{}, definitions.Projection{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r.Controller = New(Options{
		Ledger: l, Definitions: definitions.New(l, nil, nil), Now: clock, Log: slog.New(slog.DiscardHandler),
		Secrets: secretsOf(secrets), Egress: egress.Unrestricted(),
	})
	return r
}

// secretsOf are the Secrets of namespace ports, by name/key.
type secretsOf map[string]string

func (s secretsOf) Secret(_ context.Context, namespace, name, key string) (secret.Value, error) {
	v, ok := s[name+"/"+key]
	if !ok || namespace != "ports" {
		return secret.Value{}, fmt.Errorf("there is no %s in %s", key, name)
	}
	return secret.New(v), nil
}

// write records firings as a decision does.
func (r *room) write(list ...sensor.Firing) {
	r.t.Helper()
	err := r.o.Ledger.Write(r.t.Context(), ledger.On("event/x"), func(tx ledger.Tx) error {
		for _, f := range list {
			if err := writeFiring(tx, "event/x", "e1", f, ledger.Ref{}, lease); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// state tells where a firing stands: "state attempts error".
func (r *room) state(key string) string {
	r.t.Helper()
	row, err := r.o.Ledger.Row(r.t.Context(), event.TableFiring, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return "none"
	}
	var fr event.FiringRow
	if err != nil || json.Unmarshal(row.Body, &fr) != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", row.State, fr.Attempts, fr.Error))
}

// due carries out what is due after some time, and returns how long the next waits; -1 if nothing is left.
func (r *room) due(after time.Duration) time.Duration {
	r.t.Helper()
	ctx := r.t.Context()
	r.now = r.now.Add(after)
	works, err := r.o.Ledger.Outbox().Claim(ctx, queue, 100, lease)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, w := range works {
		var f sensor.Firing
		if err := json.Unmarshal(w.Body, &f); err != nil {
			r.t.Fatal(err)
		}
		r.fire(ctx, f)
	}
	return r.next()
}

func (r *room) next() time.Duration {
	r.t.Helper()
	next, err := r.o.Ledger.Outbox().Next(r.t.Context(), queue)
	if err != nil {
		r.t.Fatal(err)
	}
	if next.IsZero() {
		return -1
	}
	return next.Sub(r.now)
}

func httpFiring(key, url string) sensor.Firing {
	h := &manifest.HTTPTrigger{URL: url, Method: "PUT"}
	return sensor.Firing{
		Sensor: "ports/s", Trigger: key, Type: "http", Key: key, Template: &manifest.TriggerTemplate{Name: key, HTTP: h},
	}
}

func strategy(steps int32, duration, factor, jitter string) *manifest.EventBackoff {
	b := &manifest.EventBackoff{Steps: steps}
	for text, to := range map[*string]**manifest.AnyString{&duration: &b.Duration, &factor: &b.Factor, &jitter: &b.Jitter} {
		if *text != "" {
			*to = manifest.NewAnyString(*text)
		}
	}
	return b
}

// TestRetriesAndDeadLetters: a trigger is tried as often as its retryStrategy says; then its dlqTrigger fires, once
// (argo-events docs, "Trigger Retry" and "Dead Letter Queue Trigger"). A dead letter that is sent again has all its
// attempts.
func TestRetriesAndDeadLetters(t *testing.T) {
	asked := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked[q.URL.Path]++
		if q.URL.Path == "/bad" {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer s.Close()
	r := newRoom(t, nil)
	f, letter := httpFiring("f", s.URL+"/bad"), httpFiring("f", s.URL+"/letter")
	f.RetryStrategy, f.DLQ = strategy(3, "1m", "2", "0"), &letter
	r.write(f)
	r.fire(t.Context(), f)
	const failed = "answered 502 Bad Gateway"
	check := func(want string, wait, waits time.Duration) {
		t.Helper()
		got := strings.Replace(r.state("f"), "PUT "+s.URL+"/bad ", "", 1)
		if got != want || wait != waits {
			t.Errorf("the firing is %q and the next waits %s, want %q and %s", got, wait, want, waits)
		}
	}
	check("pending 1 "+failed, r.next(), time.Minute)
	check("pending 2 "+failed, r.due(time.Minute), 2*time.Minute)
	check("dead 3 "+failed, r.due(2*time.Minute), lease)
	if got := r.state("f/dlq"); got != "pending 0" {
		t.Errorf("the dead letter's trigger is %q", got)
	}
	r.fire(t.Context(), <-r.work)
	if got := r.state("f/dlq"); got != "done 1" || asked["/letter"] != 1 || r.next() != -1 {
		t.Errorf("the dead letter's trigger is %q, asked %v", got, asked)
	}
	if err := r.Redrive(t.Context(), "f", "user:ada"); err != nil {
		t.Fatal(err)
	}
	check("pending 1 "+failed, r.due(0), time.Minute)
	r.due(time.Minute)
	check("dead 3 "+failed, r.due(2*time.Minute), -1)
	if diff := cmp.Diff(map[string]int{"/bad": 6, "/letter": 1}, asked); diff != "" {
		t.Error(diff)
	}
	if err := r.Redrive(t.Context(), "f/dlq", "user:ada"); err == nil {
		t.Error("a firing that is done was sent again")
	}
}

// TestProblemsAreDeadLetters: parameters that cannot be resolved are a failure of the trigger (params.go of
// argo-events), so its dlqTrigger fires.
func TestProblemsAreDeadLetters(t *testing.T) {
	r := newRoom(t, nil)
	letter := sensor.Firing{Sensor: "ports/s", Trigger: "l", Type: "log", Template: &manifest.TriggerTemplate{Name: "l", Log: &manifest.LogTrigger{}}}
	r.write(sensor.Firing{Sensor: "ports/s", Trigger: "t", Type: "http", Key: "f", Problem: "no value", DLQ: &letter})
	if got := r.state("f") + ", " + r.state("f/dlq"); got != "dead 0 no value, pending 0" {
		t.Error(got)
	}
	if wait := r.due(0); r.state("f/dlq") != "done 1" || wait != -1 {
		t.Errorf("the dead letter's trigger is %s, the next waits %s", r.state("f/dlq"), wait)
	}
}

// TestRateLimit: requests are spread over the unit (argo-events docs, rateLimit), and nobody waits for a turn.
func TestRateLimit(t *testing.T) {
	r := newRoom(t, nil)
	var list []sensor.Firing
	for _, key := range []string{"a", "b", "c"} {
		f := sensor.Firing{Sensor: "ports/s", Trigger: "t", Type: "log", Key: key, Template: &manifest.TriggerTemplate{Name: "t", Log: &manifest.LogTrigger{}}}
		f.RateLimit = &manifest.RateLimit{Unit: "Minute", RequestsPerUnit: 2}
		list = append(list, f)
	}
	r.write(list...)
	for _, f := range list {
		r.fire(t.Context(), f)
	}
	states := func() string { return r.state("a") + ", " + r.state("b") + ", " + r.state("c") }
	if got := states(); got != "done 1, pending 0, pending 0" || r.next() != 30*time.Second {
		t.Errorf("%s, the next waits %s", got, r.next())
	}
	if wait := r.due(29 * time.Second); wait != time.Second {
		t.Errorf("the next waits %s", wait)
	}
	if wait := r.due(time.Second); states() != "done 1, done 1, pending 0" || wait != 30*time.Second {
		t.Errorf("%s, the next waits %s", states(), wait)
	}
	if wait := r.due(30 * time.Second); states() != "done 1, done 1, done 1" || wait != -1 {
		t.Errorf("%s, the next waits %s", states(), wait)
	}
}

// TestBackoff follows common.Convert2WaitBackoff of argo-events and wait.Backoff of apimachinery.
func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		b       *manifest.EventBackoff
		attempt int
		chance  float64
		want    time.Duration // -1 for the last attempt
	}{
		{nil, 1, 0, -1},
		{strategy(1, "", "", ""), 1, 0, -1},
		{strategy(0, "", "", ""), 4, 0, time.Second},
		{strategy(0, "", "", ""), 5, 0, -1},
		{strategy(9, "", "", ""), 1, 0.5, 1500 * time.Millisecond}, // jitter 1
		{strategy(9, "10s", "2", "0.1"), 3, 1, 44 * time.Second},
		{strategy(9, "10s", "0.5", "0"), 2, 1, 5 * time.Second},
		{strategy(9, "10s", "0", "0"), 2, 1, 10 * time.Second},
		{strategy(9, "2000000000", "1", "0"), 1, 0, 2 * time.Second}, // nanoseconds
		{strategy(9, "1h", "1000000", "0"), 8, 0, 24 * time.Hour},
	} {
		got, dead := nextTry(sensor.Firing{RetryStrategy: c.b}, c.attempt, errors.New("no"), c.chance)
		if dead {
			got = -1
		}
		if got != c.want {
			t.Errorf("%+v after attempt %d: %s, want %s", c.b, c.attempt, got, c.want)
		}
	}
	if _, dead := nextTry(sensor.Firing{RetryStrategy: strategy(9, "", "", "")}, 1, fmt.Errorf("x: %w", errFinal), 0); !dead {
		t.Error("what no repetition mends was to be tried again")
	}
}

func ref(name, key string) *corev1.SecretKeySelector {
	return &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}
}

// TestRequest: everything of an http trigger comes to the one that is asked (argo-events docs, "HTTP Trigger", and
// sensors/triggers/http/http.go).
func TestRequest(t *testing.T) {
	var got []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body) // without it the server does not notice that the asker has gone
		if q.URL.Path == "/slow" {
			<-q.Context().Done()
			return
		}
		user, password, _ := q.BasicAuth()
		got = append(got, fmt.Sprintf("%s %s %s:%s A=%s S=%s M=%s D=%s %s %s", q.Method, q.Host, user, password, q.Header.Get("A"),
			q.Header.Get("S"), q.Header.Get("M"), q.Header.Get("D"), q.Header.Get("Content-Type"), body))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	r := newRoom(t, map[string]string{"k/ca": ca, "k/user": "ada", "k/password": "p", "k/s": "sealed", "k/bad": "x"})
	objects, _ := manifest.Decode("", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: ports}\ndata: {m: mapped}\n"))
	if _, err := r.o.Definitions.Apply(t.Context(), "user:ada", definitions.OriginAPI, objects); err != nil {
		t.Fatal(err)
	}
	full := httpFiring("f", s.URL)
	full.Template.HTTP.TLS = &manifest.TLSConfig{CACertSecret: ref("k", "ca")}
	full.Template.HTTP.BasicAuth = &manifest.BitbucketBasic{Username: ref("k", "user"), Password: ref("k", "password")}
	full.Template.HTTP.Headers, full.Headers = map[string]string{"A": "1", "Host": "other.test"}, map[string]string{"D": "dynamic"}
	full.Template.HTTP.SecureHeaders = []manifest.SecureHeader{
		{Name: "S", ValueFrom: &manifest.HeaderSource{SecretKeyRef: ref("k", "s")}},
		{Name: "M", ValueFrom: &manifest.HeaderSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Key: "m"}}},
	}
	full.Payload, full.PlainPayload = json.RawMessage(`"a \"text\""`), true
	for _, c := range []struct {
		name  string
		edit  func(f *sensor.Firing)
		want  string
		fault string
	}{
		{"everything", func(*sensor.Firing) {}, `PUT other.test ada:p A=1 S=sealed M=mapped D=dynamic  a "text"`, ""},
		{"host", func(f *sensor.Firing) { f.Template.HTTP.Host = "third.test" }, `PUT third.test ada:p A=1 S=sealed M=mapped D=dynamic  a "text"`, ""},
		{"json", func(f *sensor.Firing) { f.Payload, f.PlainPayload = json.RawMessage(`{"a":1}`), false },
			`PUT other.test ada:p A=1 S=sealed M=mapped D=dynamic application/json {"a":1}`, ""},
		{"no check of the certificate", func(f *sensor.Firing) { f.Template.HTTP.TLS = &manifest.TLSConfig{InsecureSkipVerify: true} },
			`PUT other.test ada:p A=1 S=sealed M=mapped D=dynamic  a "text"`, ""},
		{"not trusted", func(f *sensor.Firing) { f.Template.HTTP.TLS = nil }, "", "certificate"},
		{"no certificate", func(f *sensor.Firing) { f.Template.HTTP.TLS.CACertSecret = ref("k", "bad") }, "", "holds no certificate in PEM: cannot be carried out"},
		{"no secret", func(f *sensor.Firing) { f.Template.HTTP.BasicAuth.Password = ref("k", "none") }, "", "password: read secret ports/k key none"},
		{"allowed", func(f *sensor.Firing) {
			f.Policy = &manifest.TriggerPolicy{Status: &manifest.StatusPolicy{Allow: []int32{202}}}
		},
			`PUT other.test ada:p A=1 S=sealed M=mapped D=dynamic  a "text"`, ""},
		{"not allowed", func(f *sensor.Firing) {
			f.Policy = &manifest.TriggerPolicy{Status: &manifest.StatusPolicy{Allow: []int32{200}}}
		},
			`PUT other.test ada:p A=1 S=sealed M=mapped D=dynamic  a "text"`, "answered 202 Accepted"},
		{"slow", func(f *sensor.Firing) { f.Template.HTTP.URL += "/slow"; f.Template.HTTP.Timeout = 1 }, "", "the trigger took longer than 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := json.Marshal(full)
			if err != nil {
				t.Fatal(err)
			}
			var f sensor.Firing
			if err := json.Unmarshal(raw, &f); err != nil {
				t.Fatal(err)
			}
			c.edit(&f)
			got = nil
			_, err = r.carryOut(t.Context(), f, 0)
			if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("got %v, want %q", err, c.fault)
			}
			if strings.Join(got, "\n") != c.want {
				t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), c.want)
			}
		})
	}
}
