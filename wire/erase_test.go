package wire

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
)

// A secret that a delivery has brought is in no file of the ledger any more and in no row after an administrator has erased the entry, and
// the ledger is whole.
func TestAnErasedBodyIsInNoFile(t *testing.T) {
	const leaked, token = "hunter2-swordfish", "of-the-test"
	data := t.TempDir()
	s := opened(t, Options{Data: data, Token: secret.New(token)})
	var made ledger.Ref
	for i := range 400 { // so that whole pages of the file become free
		e := event.Event{ID: fmt.Sprint("e", i), Source: "door", Subject: "bell", Namespace: "default", Time: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
			Data: []byte(`{"password": "none"}`)}
		if i == 200 {
			e.Data = []byte(`{"password": "` + leaked + `"}`)
		}
		err := s.ledger.Write(t.Context(), ledger.Anyone(event.Subject(e)), func(tx ledger.Tx) error {
			ref, err := tx.Append(ledger.Draft{Actor: "source:door", Kind: event.KindReceived, Subject: event.Subject(e), Body: event.Received{Event: e}})
			if i == 200 {
				made = ref
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	row := func() string {
		row, err := s.ledger.Row(t.Context(), event.TableEvent, "e200")
		if err != nil {
			return err.Error()
		}
		return string(row.Body)
	}
	if !strings.Contains(row(), leaked) {
		t.Fatalf("the row does not have it: %s", row())
	}
	ask := func(token, body string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://localhost/api/v1/entries/%d/erase", made.Seq()), strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		s.port.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		token, body string
		code        int
	}{
		{"", `{"reason": "leaked"}`, http.StatusUnauthorized},
		{token, `{}`, http.StatusBadRequest},
		{token, `{"reason": "leaked"}`, http.StatusOK},
		{token, `{"reason": "leaked"}`, http.StatusNotFound}, // there is nothing left to erase
	} {
		if code, answer := ask(c.token, c.body); code != c.code {
			t.Fatalf("%s is answered %d, want %d: %s", c.body, code, c.code, answer)
		}
	}
	if strings.Contains(row(), leaked) {
		t.Errorf("the row keeps it: %s", row())
	}
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(leaked)) {
			t.Errorf("%s has it still", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := s.ledger.Verify(t.Context(), ledger.Check{Rows: true})
	if err != nil || !report.Whole() {
		t.Errorf("the ledger is not whole: %+v, %v", report, err)
	}
}
