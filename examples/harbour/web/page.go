package main

import (
	"context"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"harbour.example/harbour/internal/service"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// patience is how long the page waits for another service.
const patience = 5 * time.Second

type page struct {
	title string
	// others are the services beside this one, by name.
	others map[string]string
	versions
}

// versions remembers what a service last said, for the moments when it is away. The worker's absence is no reason
// to show no page.
type versions struct {
	mu   *sync.Mutex
	last map[string]string
}

func newVersions() versions { return versions{mu: &sync.Mutex{}, last: map[string]string{}} }

// of asks a service for its version.
func (v versions) of(ctx context.Context, name, url string) string {
	var answer struct {
		Version string `json:"version"`
	}
	err := service.GetJSON(ctx, url+"/version", &answer)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		slog.Warn("a service does not say its version", "service", name, "error", err)
		if v.last[name] == "" {
			return "away"
		}
		return v.last[name]
	}
	v.last[name] = answer.Version
	return answer.Version
}

func (p *page) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.show)
	mux.HandleFunc("GET /versions", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		all := map[string]string{"web": service.Version}
		for name, url := range p.others {
			all[name] = p.of(ctx, name, url)
		}
		service.WriteJSON(w, all)
	})
	return mux
}

func (p *page) show(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var berths []struct{ Berth, Ship, From string }
	if err := service.GetJSON(ctx, p.others["api"]+"/berths", &berths); err != nil {
		slog.Error("ask the api for berths", "error", err)
		http.Error(w, "the harbour master does not answer", http.StatusBadGateway)
		return
	}
	type version struct{ Name, Version string }
	shown := []version{
		{"api", p.of(ctx, "api", p.others["api"])},
		{"web", service.Version},
		{"worker", p.of(ctx, "worker", p.others["worker"])},
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pageTemplate.Execute(w, map[string]any{"Title": p.title, "Berths": berths, "Versions": shown}); err != nil {
		slog.Error("write the page", "error", err)
	}
}
