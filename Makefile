# `make` lists the targets. Only Python 3.11+ and make are needed: .venv is made from the hashed lock files.
.DEFAULT_GOAL := help
.PHONY: help run test test-browser screenshots test-interop unit fault check style layout types imports generated format schemas lock bench bench-ledger bench-held bench-records bench-breaker load clean venv venv-dev
SHELL := /bin/sh
PY := .venv/bin/python
HOME_DIR ?= .assent
PORT ?= 8080
TESTS ?= tests
JOBS ?= 2
CHROMIUM ?= $(firstword $(wildcard /usr/bin/chromium) $(shell command -v chromium chromium-browser google-chrome 2>/dev/null))
HOST ?= http://127.0.0.1:8080
RATE ?= 200
DURATION ?= 60

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: venv ## run everything on this machine (assent up): PORT=8080 HOME_DIR=.assent
	@exec $(PY) -m gateway up --home "$(HOME_DIR)" --port $(PORT)

test: venv-dev ## every test, on real Valkey, Kafka and PostgreSQL: TESTS=tests/unit JOBS=1
ifeq ($(origin TESTS), file)
	@$(PY) -m pytest -q -n $(JOBS) --dist loadfile $(TESTS) --ignore=tests/fault; others=$$?; \
		$(PY) -m pytest -q tests/fault && exit $$others
else
	@exec $(PY) -m pytest -n $(JOBS) --dist loadfile $(TESTS)
endif

test-browser: venv-dev ## the consent pages and the console in a real Chromium: CHROMIUM=/usr/bin/chromium
	@test -n "$(CHROMIUM)" || { echo "make test-browser needs a Chromium: install one, or set CHROMIUM=/path/to/it" >&2; exit 1; }
	@CHROMIUM="$(CHROMIUM)" exec $(PY) -m pytest tests/browser

unit: venv-dev ## the tests that start nothing
	@exec $(PY) -m pytest tests/unit tests/properties tests/architecture

fault: venv-dev ## the fault tests with long seeds
	@ASSENT_LONG=1 exec $(PY) -m pytest tests/fault tests/ledger/test_tiles_killed.py

screenshots: venv-dev ## the console's pages as pictures in docs/screenshots: CHROMIUM=/usr/bin/chromium
	@test -n "$(CHROMIUM)" || { echo "make screenshots needs a Chromium: install one, or set CHROMIUM=/path/to/it" >&2; exit 1; }
	@ASSENT_SCREENSHOTS=docs/screenshots CHROMIUM="$(CHROMIUM)" exec $(PY) -m pytest -q tests/browser -k console

test-interop: venv-dev ## the ledger before programs of others: needs Go 1.26 and openssl
	@command -v go >/dev/null || { echo "make test-interop needs Go 1.26 or later: https://go.dev/dl" >&2; exit 1; }
	@command -v openssl >/dev/null || { echo "make test-interop needs the program openssl: install it" >&2; exit 1; }
	@exec $(PY) -m pytest tests/interop

check: style layout types imports generated ## style, types, import rules, generated files

style: venv-dev
	@$(PY) -m ruff check .

layout: venv-dev
	@$(PY) -m ruff format --check .

types: venv-dev
	@$(PY) -m mypy

imports: venv-dev
	@$(PY) .venv/bin/lint-imports --config pyproject.toml

generated: venv-dev
	@$(PY) schemas/generate.py --check

format: venv-dev ## let ruff lay the code out
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

schemas: venv-dev ## write the generated files in schemas/
	@$(PY) schemas/generate.py

bench: venv-dev ## cost per message of every step, as ratios and CPU: ARGS=--quick
	@exec $(PY) -m loadtests.bench $(ARGS)

bench-ledger: venv-dev ## events a second, their cost, rebuild and audit: ARGS='--quick --gate --write'
	@exec $(PY) -m loadtests.ledger $(ARGS)

bench-held: venv-dev ## what held messages cost, in memory, disk and time: ARGS='--rows 10000000 --gate'
	@exec $(PY) -m loadtests.held $(ARGS)

bench-records: venv-dev ## how fast contents are archived and exported, and at what cost: ARGS='--rows 2000000 --gate'
	@exec $(PY) -m loadtests.records $(ARGS)

bench-breaker: venv-dev ## how soon the breaker opens, and how seldom falsely: ARGS='--runs 2000 --good 20000 --gate'
	@exec $(PY) -m loadtests.breaker $(ARGS)

load: venv-dev ## load a running gateway: HOST=http://127.0.0.1:8080 RATE=1000 DURATION=30 P99_MS=250
	@LOAD_RATE=$(RATE) LOAD_SECONDS=$(DURATION) LOAD_P99_MS=$(P99_MS) exec $(PY) -m locust \
		-f loadtests/locustfile.py --headless --only-summary --loglevel WARNING --users 1 --host $(HOST)

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' --quiet
lock: ## pin every package by hash (needs uv)
	$(COMPILE) --extra local --extra console -o requirements.lock
	$(COMPILE) --extra local --extra console --extra dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --extra console -c requirements.lock -o deploy/requirements.lock

venv:
	@.ci/venv requirements.lock

venv-dev:
	@.ci/venv requirements-dev.lock

clean: ## remove what was made here, but not the data in .assent
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -not -path './.venv/*' -exec rm -rf {} +
