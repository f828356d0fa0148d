# Postern. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Postern needs Python 3.11 or newer; set PYTHON=...")'
	@echo "Making $(VENV) and installing from requirements.lock (about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --progress-bar on -r requirements.lock 2>&1 | $(BIN)/python -u infra/quiet_pip.py
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Make .venv and install from the hashed lock file

.PHONY: run
run: $(STAMP) ## Run everything; with no tenant configured, the demo
	@exec $(BIN)/postern run all

.PHONY: reset
reset: $(STAMP) ## Remove the data of `make run`
	@$(BIN)/postern reset

.PHONY: test
test: $(STAMP) ## All tests, on a real database, real HTTP and (where installed) a real browser
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --benchmark-disable

.PHONY: check
check: $(STAMP) ## Lint, types, imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: pictures
pictures: $(STAMP) ## Take the pictures of the README from a running demo
	@$(BIN)/python -m tests.browser.pictures

.PHONY: lock
lock: ## Renew requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --generate-hashes --python-version 3.11 --universal --no-annotate --no-header -q --upgrade -o requirements.lock

.PHONY: bench-transform
bench-transform: $(STAMP) ## Transformer: messages/s and ratios (FOLDER=... for your own mail)
	@$(BIN)/python -m tests.bench.transform $(FOLDER)

.PHONY: bench-gateway
bench-gateway: $(STAMP) ## Gateway: requests/s against an empty FastAPI route in the same run
	@$(BIN)/python -m tests.bench.gateway

.PHONY: bench-outage
bench-outage: $(STAMP) ## Gateway: PostgreSQL stopped for a minute at 300 clicks/s, killed with -9 in the middle
	@$(BIN)/python -m tests.bench.outage

.PHONY: bench-feeds
bench-feeds: $(STAMP) ## Feed store with ten million addresses: build time, memory, look-ups
	@$(BIN)/python -m tests.bench.gateway_feed_store

.PHONY: bench-protect
bench-protect: $(STAMP) ## Protect: CPU per message by layer, time from notification to verified
	@$(BIN)/python -m tests.bench.protect

.PHONY: bench-latency
bench-latency: $(STAMP) ## Protect: from notification to verified, through intake and worker
	@$(BIN)/python -m tests.bench.latency

.PHONY: bench-intake
bench-intake: $(STAMP) ## Intake: answers to notifications at 500/s
	@$(BIN)/python -m tests.bench.intake

.PHONY: bench-idle
bench-idle: $(STAMP) ## Subscriptions of many idle mailboxes over simulated days
	@$(BIN)/python -m tests.bench.idle

.PHONY: bench-fairness
bench-fairness: $(STAMP) ## One mail beside another tenant's flood
	@$(BIN)/python -m tests.bench.fairness

.PHONY: chaos
chaos: $(STAMP) ## Faults at every layer while mail is protected; prints what was injected and survived
	@$(BIN)/python -m tests.chaos.run

.PHONY: bench-qr
bench-qr: $(STAMP) ## QR codes: time per picture (FOLDER=... for your own pictures)
	@$(BIN)/python -m tests.bench.qr $(FOLDER)

.PHONY: fuzz
fuzz: $(STAMP) ## Fuzz the transformer for five minutes
	@$(BIN)/python -m tests.fuzz.transform --seconds $(or $(SECONDS_TO_RUN),300)
