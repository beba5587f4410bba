package main

import (
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"harbour.example/harbour/internal/service"
)

//go:embed berths.json
var seed []byte

// Berth is a place for one ship. A free one has no ship.
type Berth struct {
	Berth string `json:"berth"`
	Ship  string `json:"ship"`
	From  string `json:"from"`
}

// book is the harbour master's.
type book struct {
	berths []Berth

	mu     sync.Mutex
	report report
}

// report is what the worker last told.
type report struct {
	Free    int    `json:"free"`
	Taken   int    `json:"taken"`
	Version string `json:"version"`
}

func openBook(data []byte) (*book, error) {
	b := &book{}
	if err := json.Unmarshal(data, &b.berths); err != nil {
		return nil, fmt.Errorf("berths.json: %w", err)
	}
	seen := map[string]bool{}
	for _, x := range b.berths {
		if x.Berth == "" || seen[x.Berth] {
			return nil, fmt.Errorf("berths.json: berth %q has no name, or another's", x.Berth)
		}
		seen[x.Berth] = true
	}
	if len(b.berths) == 0 {
		return nil, errors.New("berths.json: a harbour needs berths")
	}
	return b, nil
}

// maxReport bounds a report, in bytes.
const maxReport = 4 << 10

// routes serves the book. Reports are taken from who knows the token.
func routes(b *book, token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /berths", func(w http.ResponseWriter, _ *http.Request) { service.WriteJSON(w, b.berths) })
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		service.WriteJSON(w, b.report)
	})
	mux.HandleFunc("PUT /report", func(w http.ResponseWriter, r *http.Request) {
		given := r.Header.Get("Authorization")
		if token == "" || subtle.ConstantTimeCompare([]byte(given), []byte("Bearer "+token)) != 1 {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		var next report
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReport)).Decode(&next); err != nil {
			http.Error(w, "this is no report", http.StatusBadRequest)
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.report = next
	})
	return mux
}
