# Each target's comment after ## is its line in `make help`.

GO ?= go
# The packages where goroutines meet: their tests run a second time with the race detector.
RACE := ./internal/event ./internal/pipeline ./internal/queue/... ./internal/retry ./internal/throttle ./internal/checkpoint ./internal/script ./internal/app ./internal/executor ./internal/report ./internal/source/...
TESTRUN := $(GO) run ./internal/testrun
# A package may take long on a busy machine; go test gives it ten minutes.
BUSY := -timeout 30m
TOOL := $(GO) tool -modfile=tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help run check test bench docs test-chaos soak build lint fmt vuln

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

run: build ## the quickstart: four jobs at once on made-up events; stop with Ctrl-C
	@WEIR=./weir examples/quickstart/run.sh

build: ## build the static binary ./weir
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o weir ./cmd/weir

test: ## all tests against real engines, then the concurrent packages with the race detector
	@trap 'exit 130' INT TERM; failed=; \
	echo '$(TESTRUN) $(BUSY) ./...'; \
	$(TESTRUN) $(BUSY) ./... || failed='all tests'; \
	echo '$(TESTRUN) $(BUSY) -race $(RACE)'; \
	$(TESTRUN) $(BUSY) -race $(RACE) || failed="$${failed:+$$failed, }the race stage"; \
	test -z "$$failed" || { echo "failed: $$failed"; exit 1; }

check: ## what a change must pass: format, vet, lint, all tests with the race detector
	@unformatted=$$(gofmt -l cmd internal examples); test -z "$$unformatted" || { echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(TOOL) golangci-lint run
	$(TESTRUN) $(BUSY) -race ./...

test-chaos: ## kill the quickstart 50 times under load, then every test with hundreds of random runs
	WEIR_CHAOS_RUNS=50 $(TESTRUN) -v -timeout 30m ./internal/chaos
	WEIR_CHAOS_RUNS=300 WEIR_MODEL_RUNS=300 WEIR_FLIP_RUNS=50 $(TESTRUN) -timeout 90m ./...

soak: ## three processes on PostgreSQL with a standby for SECONDS (1800) at RATE events a second (1000), under faults
	WEIR_SOAK_SECONDS=$(or $(SECONDS),1800) WEIR_SOAK_RATE=$(or $(RATE),1000) $(TESTRUN) -v -timeout 4h -run '^TestSoak$$' ./internal/chaos

bench: ## benchmarks of whole pipelines and of the stores; arguments in BENCH (docs/bench/README.md)
	$(GO) run ./internal/bench $(BENCH)

docs: ## write the generated documentation and schemas again
	$(GO) generate ./...

lint: ## all linters, as in .golangci.yml
	$(TOOL) golangci-lint run

fmt: ## format the code
	$(TOOL) golangci-lint fmt

vuln: ## known vulnerabilities in what the binary links (needs vuln.go.dev)
	$(TOOL) govulncheck ./cmd/weir
