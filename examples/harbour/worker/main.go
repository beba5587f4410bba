// The worker walks along the quays now and then, and reports how many berths are free.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"harbour.example/harbour/internal/service"
)

func main() {
	every, err := time.ParseDuration(service.Setting("WALK_EVERY", "10s"))
	if err != nil || every <= 0 {
		slog.Error("WALK_EVERY must be a duration such as 10s", "error", err)
		os.Exit(1)
	}
	w := &walker{api: service.Setting("API_URL", "http://api:8080"), token: os.Getenv("REPORT_TOKEN")}
	service.Main(&service.Service{Name: "worker", Job: func(ctx context.Context) { w.walk(ctx, every) }})
}
