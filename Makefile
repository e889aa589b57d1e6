SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo deps fetch test test-all race race-parts failpoints torture examples screenshots deploy lint vulncheck fuzz bench bench-chart release clean

GO       ?= go
FUZZTIME ?= 10s
GOVULNDB ?= https://vuln.go.dev
TORTURE_FOR   ?= 150s
TORTURE_SEEDS ?= 1 2

# The packages that need no real Kafka, where the race detector is cheap.
PARTS := $(addprefix ./,cdc/... checkpoint/... cmd/... decoder/... migrations/... sink/...)
# Those whose tests ask Postgres alone: what they say of a new major they say of an old one.
POSTGRES_PARTS := ./cdc ./checkpoint ./migrations
# The tests of the whole that send the most rows along every path, for the race detector to see the relay's binary.
FLOW := ^(TestRowsArriveInCommitOrderByteForByte|TestKillsRepeatOnlyWhatWasNotStored|TestCleanStopRepeatsNothing)$$
# -count=1: go test knows nothing of the binary that the tests in test/ start, and would show an old result.
# -p=1: a package at a time, since the tests of the whole fill a machine by themselves. Those of the parts do not.
TEST := $(GO) test -count=1 -p=1 -timeout=25m
TEST_PARTS := $(GO) test -count=1 -timeout=14m

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the relay: bin/outrider
	$(GO) build -o bin/outrider ./cmd/outrider

demo: ## watch rows turn into records, without a server of your own
	$(GO) run ./cmd/demo

test: fetch ## run all tests on the newest Postgres and Kafka, and a selection on the oldest Postgres
	$(TEST_PARTS) $(PARTS)
	$(TEST) ./test/... ./docs/...
	PGTEST_MAJOR=14 $(TEST_PARTS) $(POSTGRES_PARTS)
	PGTEST_MAJOR=14 $(TEST) -run '^TestCommittedRowsBecomeRecords$$' ./test

test-all: deps ## run all tests on Postgres 14 to 18, then on Kafka 3.9 (an hour and more)
	$(GO) run ./test/harness/fetch -postgres 14,15,16,17,18 -kafka 4.3.1,3.9.1
	for major in 14 15 16 17 18; do \
		echo "PostgreSQL $$major"; TEST_LONG=1 PGTEST_MAJOR=$$major $(GO) test -count=1 -p=1 -timeout=60m ./...; \
	done
	echo "Apache Kafka 3.9.1"; TEST_LONG=1 KAFKATEST_VERSION=3.9.1 $(GO) test -count=1 -p=1 -timeout=60m ./sink/... ./test/...

race: fetch ## run all tests with the race detector, in the relay's binary too
	RELAYTEST_RACE=1 $(GO) test -race -count=1 -p=1 -timeout=40m ./...

race-parts: fetch ## run the tests of the parts, and the flow of rows, with the race detector
	$(TEST_PARTS) -race $(PARTS)
	RELAYTEST_RACE=1 $(TEST) -run '$(FLOW)' ./test

failpoints: fetch ## kill the relay at every failpoint: first, second, last and a random hit
	FAILPOINTTEST=. $(GO) test -count=1 -v -timeout=90m -run=TestKillAtEveryFailpoint ./test

# It exits with 2 where what it needs has failed it, a server that does not start: that says nothing of the relay.
torture: fetch ## break whatever can be broken under load (TORTURE_FOR each of TORTURE_SEEDS), and check every event
	$(GO) build -o bin/torture ./test/torture
	for seed in $(TORTURE_SEEDS); do \
		code=0; bin/torture --for $(TORTURE_FOR) --seed $$seed || code=$$?; \
		if [[ $$code -eq 2 ]]; then echo "NOT CHECKED: the torture of seed $$seed has failed by itself"; elif [[ $$code -ne 0 ]]; then exit $$code; fi; \
	done

examples: fetch ## run docs/examples in every language, and compare what their consumers have applied
	@test/harness/deps.sh javac=openjdk-17-jdk-headless psql=postgresql-client kcat=kcat python3=python3-venv
	EXAMPLES=all $(GO) test -count=1 -v -timeout=30m ./test/examples

screenshots: deps ## take the pictures of the status page in docs/images
	mkdir -p docs/images
	SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -count=1 -run '^TestPageFitsEveryScreenAndCanBeRead$$' ./test

deploy: ## check docker-compose.yml and deploy/ with the tools that will read them
	cd test/deploy && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd test/deploy && $(GO) build -tags remove_all_sd -o ../../bin/promtool github.com/prometheus/prometheus/cmd/promtool
	bin/promtool check rules --lint=all deploy/prometheus/outrider.rules.yml
	bin/promtool test rules deploy/prometheus/outrider.test.yml
	bin/promtool check config --syntax-only deploy/compose/prometheus.yml

lint: ## vet, staticcheck, errcheck, gofumpt, and the modules in order
	$(GO) vet ./...
	$(GO) vet -tags failpoint ./...
	$(GO) tool staticcheck ./...
	$(GO) tool errcheck ./...
	@unformatted=$$($(GO) tool gofumpt -l .); \
		if [[ -n $$unformatted ]]; then echo "gofumpt -w has to format: $$unformatted"; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) mod verify

# Without a way to the database nothing can be said; that must not look like a fault of the code.
vulncheck: ## look for known vulnerabilities in what the programs call (GOVULNDB: another database)
	@if ! GOBIN=$(CURDIR)/bin $(GO) install golang.org/x/vuln/cmd/govulncheck@v1.9.0; then echo "NOT CHECKED: govulncheck cannot be had"; exit 0; fi; \
		code=0; found=$$(bin/govulncheck -db $(GOVULNDB) ./cmd/... 2>&1) || code=$$?; echo "$$found"; \
		if [[ $$code -eq 1 && $$found == *"fetching vulnerabilities"* ]]; then echo "NOT CHECKED: the database of vulnerabilities cannot be reached"; else exit $$code; fi

fuzz: ## fuzz every parser, FUZZTIME (10s) each
	for file in $$(grep -rl '^func Fuzz' --include='*_test.go' .); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$(dirname $$file); \
		done; \
	done

bench: ## run the Go benchmarks: time and allocations per row
	$(GO) test -run '^$$' -bench . -benchmem $(PARTS)

bench-chart: fetch ## measure the whole, on a quiet machine (7 min): docs/bench.json, docs/bench.svg, the tables of docs/speed.md
	$(GO) run ./test/bench --rounds 3 --transport unix,tcp --json docs/bench.json --svg docs/bench.svg --page docs/speed.md

release: ## build the release twice, and see that both are the same: bin/release (PLATFORMS: a choice)
	deploy/release.sh bin/release

deps: ## install what the tests need and is missing, or say what that is
	@test/harness/deps.sh

fetch: deps ## download the servers that the tests run on
	@$(GO) run ./test/harness/fetch -postgres 18,14 -kafka 4.3.1

clean: ## remove what the build has made
	rm -rf bin
