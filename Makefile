# `make` lists the targets.

CARGO ?= cargo
# Written once, never rebuilt: incremental compilation would only cost disk and time.
export CARGO_INCREMENTAL = 0

target := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where tests/e2e finds its Python programs, and what drives the browser.
export E2E_PYTHON_ENVIRONMENT = $(target)/e2e-venv
export E2E_BROWSER_ENVIRONMENT = $(target)/e2e-browser

# cargo-nextest runs every test in a process of its own, and all of them side by side.
nextest := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
ifdef nextest
run_tests = $(CARGO) nextest run --locked --no-fail-fast
else
run_tests = $(CARGO) test --locked --no-fail-fast
endif

.DEFAULT_GOAL := help
.PHONY: help run check lint test e2e-tools screenshots bench bench-peers fuzz image audit

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

run: ## the gate and a model server in one process
	$(CARGO) run --release --locked -- demo

check: lint ## formatting, lints, documentation, unit and integration tests: before each commit
	$(run_tests) --lib --bins --test it

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --locked --no-deps
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; fi

test: e2e-tools lint ## all of `check`, and real clients and model servers around the binary
	$(run_tests) --lib --bins --test it --test fuzz --test e2e

e2e-tools: ## installs what the end-to-end tests drive, where it is missing
	@tests/e2e/install-tools $(E2E_PYTHON_ENVIRONMENT) $(E2E_BROWSER_ENVIRONMENT)

screenshots: e2e-tools ## takes the pictures of docs/images anew
	UPDATE_SCREENSHOTS=1 $(CARGO) test --locked --test e2e -- token_page::every_state

bench: ## the cost of a decision, of reading a body, of a refusal
	$(CARGO) bench --locked

bench-peers: ## the gate beside other gateways under the same load
	benches/peers/run

fuzz: ## damaged input for every reader, FUZZ_SECONDS (60) each
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) $(CARGO) test --locked --test fuzz -- --nocapture

image: ## builds the container image with buildah, then runs it
	tests/image/build-and-run $(target)/image

audit: ## known vulnerabilities among the dependencies (downloads the list of them)
	$(CARGO) deny check advisories
