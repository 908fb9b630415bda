# Needs make, Python 3.11 or newer, and the network to the package index for the first run.
# Nothing here depends on a server of yours: what would point at one is taken out of the
# environment of every command.
unexport REDIS_URL REDISMR_URL REDISMR_SECRET REDISMR_SECRET_FILE REDISMR_PASSWORD \
	REDISMR_PASSWORD_FILE REDISMR_NAMESPACE REDISMR_SERVER REDISMR_NATIVE

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$p"; done))
OLDEST ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Versions that were tested together; without it (LOCK=) pip takes the newest that pyproject allows.
LOCK := requirements.lock
INSTALL := $(PIP) install $(LOCK:%=--constraint %)

.DEFAULT_GOAL := demo
.PHONY: demo test test-newest lock lint types compose sanitize chaos mutants bench bench-peers bench-report \
	clean help FORCE

demo: $(VENV)/installed ## count the words of Python's own library, one worker process per core
	@$(BIN)/python examples/stdlib.py

test: lint types compose ## run every check and every test; EVERY=1: whole jobs on every engine
	$(BIN)/python -m pytest -q --numprocesses 3 --dist loadfile --ignore tests/chaos/test_cut.py \
		$(if $(EVERY),--every-engine)
	$(BIN)/python -m pytest -q tests/chaos/test_cut.py # counts what happens in time: alone

test-newest: ## the same on the newest versions that the index has
	@rm -rf .venv-newest
	@$(MAKE) --no-print-directory test VENV=.venv-newest LOCK=

# On the oldest Python, as what runs there has wheels for newer ones too, and seldom the reverse.
# redis-py needs async-timeout before Python 3.11.3 only.
lock: ## renew requirements.lock: the newest of everything that runs on Python 3.11
	@rm -rf .venv-lock
	@$(OLDEST) -m venv .venv-lock
	@.venv-lock/bin/python -m pip --quiet --disable-pip-version-check install \
		--editable '.[test]' async-timeout
	@sed -n '/^#/p' requirements.lock > .venv-lock/renewed
	@.venv-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip >> .venv-lock/renewed
	@mv .venv-lock/renewed requirements.lock
	@rm -rf .venv-lock

lint: $(VENV)/tested ## style (ruff) and the import rule (import-linter)
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

types: $(VENV)/tested ## types (mypy --strict)
	$(BIN)/mypy

compose: $(VENV)/tested ## docker-compose.yml is valid; needs no Docker
	@REDISMR_SECRET=checked REDISMR_PASSWORD=checked $(BIN)/docker-compose config --quiet

sanitize: $(VENV)/tested ## the C extension under gcc's sanitizers; INPUTS=100000 SEED=1
	$(BIN)/python tests/native/sanitize.py --inputs $(or $(INPUTS),10000000) \
		$(if $(SEED),--seed $(SEED))

chaos: $(VENV)/tested ## the fault campaign, at most 30 minutes; ROWS="kills cuts" SEED=1 SCALE=0.1
	@cd tests && ../$(BIN)/python -m chaos $(ROWS) $(if $(SEED),--seed $(SEED)) --scale $(or $(SCALE),1)

mutants: $(VENV)/tested ## seeded bugs, each of which the short campaign must catch; NAMES="'no fence'"
	@cd tests && ../$(BIN)/python -m chaos.mutants $(NAMES)

bench: $(VENV)/installed ## compare with others, hours in all; ROWS="wordcount tiny" ROUNDS=5 SCALE=0.05
	$(BIN)/python -m benchmarks.bench $(ROWS) --rounds $(or $(ROUNDS),3) --scale $(or $(SCALE),1)

bench-peers: .venv-peers/installed ## what redismr is compared with, in an environment of its own

bench-report: $(VENV)/installed ## put what bench has measured into docs/performance.md
	$(BIN)/python -m benchmarks.report --write

clean: ## remove what make has made, but not what bench has measured
	rm -rf .venv .venv-newest .venv-peers .venv-lock build dist *.egg-info
	rm -f redismr/native/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find redismr tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

# What make installs is of the Python that make was told, or found: an environment of another one
# is made anew.
VERSION := import platform; print(platform.python_version())
OUTDATED := $(filter-out $(shell $(BIN)/python -c '$(VERSION)' 2>/dev/null), \
	$(shell $(PYTHON) -c '$(VERSION)' 2>/dev/null))

$(VENV)/made: $(OUTDATED:%=FORCE)
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' 2>/dev/null || \
		{ echo "redismr needs Python 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# setuptools first, as pip would build with the newest in an environment of its own
$(VENV)/installed: $(VENV)/made pyproject.toml $(LOCK) $(wildcard redismr/native/*.c redismr/native/*.h)
	@echo "installing redismr into $(VENV)"
	@$(INSTALL) setuptools
	@$(INSTALL) --no-build-isolation --editable .
	@$(BIN)/python -c 'from redismr import native; native.IS_LOADED or print("redismr works here", \
		native.DESCRIPTION + ", which needs a C compiler: slower, with the same results")'
	@touch $@

$(VENV)/tested: $(VENV)/installed pyproject.toml $(LOCK)
	@echo "installing what the tests need into $(VENV)"
	@$(INSTALL) --no-build-isolation --editable '.[test]'
	@touch $@

.venv-peers/installed: $(VENV)/made benchmarks/peers.txt
	@echo "installing what benchmarks/peers.txt lists into .venv-peers"
	@$(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip --quiet --disable-pip-version-check install -r benchmarks/peers.txt
	@touch $@
