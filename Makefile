# Needs make, Python 3.11 or newer, and the network to the package index for the first run.
# Nothing here depends on a server of yours: what would point at one is taken out of the
# environment of every command.
unexport REDIS_URL REDISMR_URL REDISMR_SECRET REDISMR_SECRET_FILE REDISMR_NAMESPACE REDISMR_SERVER

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$p"; done))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := demo
.PHONY: demo test lint types compose chaos mutants bench bench-peers bench-report clean help

demo: .venv/installed ## count the words of Python's own library, one worker process per core
	@$(BIN)/python examples/stdlib.py

test: lint types compose ## run every check and every test
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile --ignore tests/chaos/test_cut.py
	$(BIN)/python -m pytest -q tests/chaos/test_cut.py # counts what happens in time: alone

lint: .venv/tested ## style (ruff) and the import rule (import-linter)
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-cache > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

types: .venv/tested ## types (mypy --strict)
	$(BIN)/mypy

compose: .venv/tested ## docker-compose.yml is valid; needs no Docker
	@REDISMR_SECRET=checked REDISMR_PASSWORD=checked $(BIN)/docker-compose config --quiet

chaos: .venv/tested ## the fault campaign, at most 30 minutes; ROWS="kills cuts" SEED=1 SCALE=0.1
	@cd tests && ../$(BIN)/python -m chaos $(ROWS) $(if $(SEED),--seed $(SEED)) --scale $(or $(SCALE),1)

mutants: .venv/tested ## seeded bugs, each of which the short campaign must catch; NAMES="'no fence'"
	@cd tests && ../$(BIN)/python -m chaos.mutants $(NAMES)

bench: .venv/installed ## compare with others, hours in all; ROWS="wordcount tiny" ROUNDS=5 SCALE=0.05
	$(BIN)/python -m benchmarks.bench $(ROWS) --rounds $(or $(ROUNDS),3) --scale $(or $(SCALE),1)

bench-peers: .venv-peers/installed ## what redismr is compared with, in an environment of its own

bench-report: .venv/installed ## put what bench has measured into docs/performance.md
	$(BIN)/python -m benchmarks.report --write

clean: ## remove what make has made, but not what bench has measured
	rm -rf .venv .venv-peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find redismr tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

.venv/made:
	@test -n "$(PYTHON)" || { echo "redismr needs Python 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/made pyproject.toml
	@echo "installing redismr into .venv"
	@$(PIP) install --editable .
	@touch $@

.venv/tested: .venv/installed pyproject.toml
	@echo "installing what the tests need into .venv"
	@$(PIP) install --editable '.[test]'
	@touch $@

.venv-peers/installed: .venv/made benchmarks/peers.txt
	@echo "installing what benchmarks/peers.txt lists into .venv-peers"
	@$(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip --quiet --disable-pip-version-check install -r benchmarks/peers.txt
	@touch $@
