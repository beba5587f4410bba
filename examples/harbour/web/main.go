// The web shows the harbour to people.
package main

import (
	"harbour.example/harbour/internal/service"
)

func main() {
	p := &page{
		title: service.Setting("HARBOUR_NAME", "Harbour"),
		others: map[string]string{
			"api":    service.Setting("API_URL", "http://api:8080"),
			"worker": service.Setting("WORKER_URL", "http://worker:8080"),
		},
		versions: newVersions(),
	}
	service.Main(&service.Service{Name: "web", Routes: p.routes()})
}
