package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSeedIsAHarbour(t *testing.T) {
	if _, err := openBook(seed); err != nil {
		t.Fatal(err)
	}
}

func TestBookRefusesTwoBerthsOfOneName(t *testing.T) {
	for _, bad := range []string{`[]`, `{`, `[{"berth":"a"},{"berth":"a"}]`, `[{"ship":"Alcyone"}]`} {
		if _, err := openBook([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestBerthsAreListed(t *testing.T) {
	b, err := openBook([]byte(`[{"berth":"a","ship":"Alcyone"},{"berth":"b"}]`))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	routes(b, "").ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/berths", nil))
	var got []Berth
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got) != 2 || got[0].Ship != "Alcyone" {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestReportsNeedTheToken(t *testing.T) {
	b, err := openBook(seed)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, given string
		want         int
	}{{"t", "Bearer t", 200}, {"t", "Bearer x", 401}, {"t", "", 401}, {"", "Bearer ", 401}} {
		r := httptest.NewRequest(http.MethodPut, "/report", strings.NewReader(`{"free":1}`))
		r.Header.Set("Authorization", c.given)
		w := httptest.NewRecorder()
		routes(b, c.token).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("token %q, given %q: answered %d, want %d", c.token, c.given, w.Code, c.want)
		}
	}
	if b.report.Free != 1 {
		t.Errorf("report is %+v", b.report)
	}
}
