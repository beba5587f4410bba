package service

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(t *testing.T, s *Service, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestServiceSaysHowItIs(t *testing.T) {
	s := &Service{Name: "crane"}
	for _, path := range []string{"/healthz", "/readyz"} {
		if w := get(t, s, path); w.Code != http.StatusOK {
			t.Errorf("%s answered %d", path, w.Code)
		}
	}
	if body := get(t, s, "/version").Body.String(); !strings.Contains(body, `"service":"crane"`) {
		t.Errorf("version is %s", body)
	}
}

func TestServiceThatLeavesIsAliveAndNotReady(t *testing.T) {
	s := &Service{Name: "crane"}
	s.leaving.Store(true)
	if w := get(t, s, "/readyz"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("readyz answered %d", w.Code)
	}
	if w := get(t, s, "/healthz"); w.Code != http.StatusOK {
		t.Errorf("healthz answered %d", w.Code)
	}
}
