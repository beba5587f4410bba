package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"harbour.example/harbour/internal/service"
)

type walker struct{ api, token string }

// walk makes rounds until the context ends. A round that fails is told and the next one tries again.
func (w *walker) walk(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		free, taken, err := w.round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			slog.Warn("the round was cut short", "error", err)
		default:
			slog.Info("walked the quays", "free", free, "taken", taken)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *walker) round(ctx context.Context) (free, taken int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var berths []struct{ Ship string }
	if err := service.GetJSON(ctx, w.api+"/berths", &berths); err != nil {
		return 0, 0, fmt.Errorf("look at the berths: %w", err)
	}
	for _, b := range berths {
		if b.Ship == "" {
			free++
		} else {
			taken++
		}
	}
	body, err := json.Marshal(map[string]any{"free": free, "taken": taken, "version": service.Version})
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, w.api+"/report", bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, fmt.Errorf("report: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("report: the api answered %s", resp.Status)
	}
	return free, taken, nil
}
