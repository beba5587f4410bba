package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRoundCountsAndReports(t *testing.T) {
	var got struct{ Free, Taken int }
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet:
			_, _ = w.Write([]byte(`[{"ship":"Alcyone"},{"ship":""},{"ship":""}]`))
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_ = json.NewDecoder(r.Body).Decode(&got)
		}
	}))
	defer api.Close()
	free, taken, err := (&walker{api: api.URL, token: "secret"}).round(t.Context())
	if err != nil || free != 2 || taken != 1 || got.Free != 2 || got.Taken != 1 {
		t.Errorf("free %d, taken %d, reported %+v, %v", free, taken, got, err)
	}
	if _, _, err := (&walker{api: api.URL}).round(t.Context()); err == nil {
		t.Error("a refused report is a success")
	}
}
