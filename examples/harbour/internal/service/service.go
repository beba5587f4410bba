// Package service is what the three services have in common: how they listen, say that they are well, name their
// version, and leave without dropping a request.
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// Version is the commit that the service was built from; the pipeline sets it.
var Version = "development"

// farewell is how long a service goes on serving after it was asked to stop: long enough for everybody in front of
// it to notice that it is not ready any more.
const farewell = 500 * time.Millisecond

// Service is one program of the harbour.
type Service struct {
	// Name is the service's name: "api", "web", "worker".
	Name string
	// Address to listen on; ":8080" if empty.
	Address string
	// Routes are the service's own.
	Routes http.Handler
	// Job, if any, runs beside the routes until its context ends.
	Job func(context.Context)

	leaving atomic.Bool
}

// Handler serves the service's routes, and /healthz, /readyz and /version.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.leaving.Load() {
			http.Error(w, "leaving", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, map[string]string{"service": s.Name, "version": Version})
	})
	if s.Routes != nil {
		mux.Handle("/", s.Routes)
	}
	return mux
}

// Run serves until the process is asked to stop, and then until the last request is answered.
func (s *Service) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	address := s.Address
	if address == "" {
		address = ":8080"
	}
	server := &http.Server{Addr: address, Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	if s.Job != nil {
		go s.Job(ctx)
	}
	slog.Info("serving", "service", s.Name, "version", Version, "address", address)
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", s.Name, err)
	case <-ctx.Done():
	}
	s.leaving.Store(true)
	slog.Info("leaving", "service", s.Name)
	time.Sleep(farewell)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("stop %s: %w", s.Name, err)
	}
	return nil
}

// Main runs the service and exits.
func Main(s *Service) {
	if err := s.Run(); err != nil {
		slog.Error("the service ended", "error", err)
		os.Exit(1)
	}
}

// WriteJSON answers with a JSON document.
func WriteJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// GetJSON reads a JSON document of another service.
func GetJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Setting is a variable of the environment, or a default.
func Setting(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
