# The two commands of a fresh machine: `make demo` and `make test`. Both set up by themselves;
# setting up again costs nothing (a stamp file remembers pyproject.toml).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup demo test test-all lint clients torch bench bench-judge bench-sandbox bench-context bench-ui clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP)  ## a virtual environment with nightlab and its tools

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nightlab needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: $(STAMP)  ## the main job, for real, in about three minutes
	$(BIN)/nightlab demo $(DEMO)

test: $(STAMP) lint  ## types, style, and the whole test suite
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST)

test-all: $(STAMP) lint  ## the same, heavy suites included
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow or not slow" $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy --no-error-summary

clients:  ## real coding agents for the tests, pinned, into .clients (npm, about 1.2 GB)
	$(PYTHON) -m tests.clients.install $(CLIENTS)

# nightlab's own environment stays without torch; the examples that need it have this one.
TORCH := .torch
NEEDS := tests/nights/requirements.txt $(wildcard examples/*/requirements.txt)

torch: $(TORCH)/.ready  ## torch on a CPU for the tests of the examples, pinned, into .torch (1 GB)

$(TORCH)/.ready: $(NEEDS)
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install -qq --disable-pip-version-check --retries 1 $(NEEDS:%=-r %)
	@touch $@

bench: $(STAMP)  ## overhead per experiment beside a bare shell loop
	$(BIN)/python -m bench.overhead $(BENCH)

bench-judge: $(STAMP)  ## every decision rule in every world
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	$(BIN)/python -m bench.judge $(BENCH)

bench-context: $(STAMP)  ## tokens and time of what a researcher is given, at 10 to 10,000 experiments
	$(BIN)/python -m bench.context $(BENCH)

bench-ui: $(STAMP)  ## the dashboard's server on 20,000 experiments
	$(BIN)/python -m bench.ui $(BENCH)

bench-sandbox: $(STAMP)  ## what each sandbox costs beside a bare process
	$(BIN)/python -m bench.sandbox $(BENCH)

clean:
	rm -rf $(VENV) $(TORCH) .pytest_cache .mypy_cache .ruff_cache .hypothesis nightlab-demo
