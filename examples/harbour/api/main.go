// The api knows the berths of the harbour and the ships in them.
package main

import (
	"log/slog"
	"os"

	"harbour.example/harbour/internal/service"
)

func main() {
	book, err := openBook(seed)
	if err != nil {
		slog.Error("read the berths", "error", err)
		os.Exit(1)
	}
	service.Main(&service.Service{Name: "api", Routes: routes(book, os.Getenv("REPORT_TOKEN"))})
}
