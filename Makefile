# Each target does all its set-up: Python 3.11 or newer is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=

.PHONY: run test faults interop check bench mutants dist clean

run: $(VENV)/.run
	$(BIN)/streaming-queue run -s 'mock.latency_ms={mean: 500, sigma: 0.5}' $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

faults: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m 'faults or not interop' tests/faults tests/crashpoints tests/unit/core/scheduling/test_interleavings.py $(ARGS)

interop: $(VENV)/.dev
	$(BIN)/python -m pytest -m interop $(ARGS)
	$(BIN)/python -m pytest tests/compat $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python bench/bench.py $(ARGS)

# One group at a time, a quarter of an hour and more: make mutants ARGS=pool
mutants: $(VENV)/.dev
	$(BIN)/python bench/mutants.py $(ARGS)

dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/python -m pytest -n 0 tests/dist $(ARGS)

clean:
	rm -rf $(VENV) .venv-interop dist build/mutants

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run
