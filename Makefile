# Tiphys. `make demo` runs the main job, `make test` passes the tests; both install what they need.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

GO      ?= go
CACHE   ?= $(CURDIR)/.cache
BIN     := bin/tiphys
INIT    := executor/initbin/bin/tiphys-init
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/tiphys/tiphys/cli.Version=$(VERSION)
# Without the screens' build the program still works, and says so where a screen would be.
TAGS    ?=

.PHONY: build init init-https ui test test-race soak test-e2e lint fmt bench conformance demo clean need

build: init ui ## the program with its screens: bin/tiphys
	CGO_ENABLED=0 $(GO) build -tags "$(TAGS)" -trimpath -ldflags "$(LDFLAGS)" -o $(BIN) ./cmd/tiphys

init: $(INIT)

$(INIT): $(wildcard cmd/tiphys-init/*.go cmd/tiphys-init/*/*.go executor/protocol/*.go executor/fork/*.go executor/fork/*.s executor/podlog/*.go secret/mask/*.go)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $@ ./cmd/tiphys-init

init-https: ## the pod's side for pods of other machines, which speak HTTPS: bin/tiphys-init-https
	CGO_ENABLED=0 $(GO) build -tags https -trimpath -ldflags "-s -w" -o bin/tiphys-init-https ./cmd/tiphys-init

ui: web/dist/index.html

web/node_modules/.package-lock.json: web/package.json web/package-lock.json | need
	cd web && npm ci --no-audit --no-fund --ignore-scripts

web/dist/index.html: web/node_modules/.package-lock.json $(shell find web/src -type f 2>/dev/null) web/index.html web/vite.config.ts
	cd web && npm run build

need: ## install what a new machine lacks
	@command -v git >/dev/null || { echo "installing git"; apt-get update -q && apt-get install -y -q git; }
	@command -v node >/dev/null || { echo "installing node"; apt-get update -q && apt-get install -y -q nodejs npm; }

test: init ui ## every test that needs no cluster, forge or browser
	$(GO) vet ./...
	$(GO) test -timeout 9m ./...

test-race: init ui
	$(GO) test -race -timeout 25m ./...

SOAK ?= 1m

soak: init ui ## each fuzz target for SOAK (a minute): what reads bytes from outside must bear any
	@set -eo pipefail; grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file func; do \
	  echo "=== $$(dirname $$file) $${func#func }"; \
	  $(GO) test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(SOAK) "$$(dirname $$file)" </dev/null; \
	done

test-e2e: build ## the whole program, killed and restarted, and its screens in a real browser
	@command -v chromedriver >/dev/null || { apt-get update -q && apt-get install -y -q chromium chromium-driver; }
	@command -v newuidmap >/dev/null && command -v pasta >/dev/null || { apt-get update -q && apt-get install -y -q uidmap passt; }
	TIPHYS_E2E=1 $(GO) test -count=1 -timeout 25m ./test/...
	TIPHYS_TEST_PODS=1100 $(GO) test -count=1 -timeout 10m -run TestManyPodsWithNetworks ./executor/local

lint: init ui $(CACHE)/golangci-lint
	$(CACHE)/golangci-lint run --allow-parallel-runners ./...
	$(CACHE)/golangci-lint fmt --diff
	cd web && npm run check

fmt: $(CACHE)/golangci-lint
	$(CACHE)/golangci-lint fmt

$(CACHE)/golangci-lint: tools/go.mod
	mkdir -p $(CACHE)
	cd tools && $(GO) build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bench: build ## measurements, ours beside the anchor in one run
	$(GO) run ./test/bench -tiphys $(BIN)

conformance: build ## scores against the manifests and payloads of others, where they are
	TIPHYS_SCORES=1 $(GO) test -count=1 -timeout 25m -v ./test/conformance/...

demo: build ## the whole story on this machine; ONCE=1 plays it, checks each claim and stops
	$(GO) run ./test/demo -tiphys $(BIN) $(if $(ONCE),-once)

clean:
	rm -rf bin web/dist $(INIT)
