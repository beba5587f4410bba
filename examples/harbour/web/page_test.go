package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"harbour.example/harbour/internal/service"
)

func show(t *testing.T, api http.HandlerFunc, path string) *httptest.ResponseRecorder {
	t.Helper()
	other := httptest.NewServer(api)
	t.Cleanup(other.Close)
	p := &page{title: "Testhaven", others: map[string]string{"api": other.URL, "worker": "http://127.0.0.1:1"}, versions: newVersions()}
	w := httptest.NewRecorder()
	p.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func answers(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/version" {
		service.WriteJSON(w, map[string]string{"version": "v7"})
		return
	}
	service.WriteJSON(w, []map[string]string{{"berth": "North quay 1", "ship": "<Alcyone>"}, {"berth": "North quay 2"}})
}

func TestPageShowsBerthsAndVersions(t *testing.T) {
	body := show(t, answers, "/").Body.String()
	for _, want := range []string{"Testhaven", "North quay 1", "&lt;Alcyone&gt;", "free", "api v7", "worker away"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
}

func TestVersionsOfAll(t *testing.T) {
	var got map[string]string
	if err := json.Unmarshal(show(t, answers, "/versions").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"api": "v7", "web": "development", "worker": "away"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPageSaysThatTheAPIIsAway(t *testing.T) {
	w := show(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "/")
	if w.Code != http.StatusBadGateway {
		t.Errorf("answered %d", w.Code)
	}
}
