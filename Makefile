# make install    what trains, exports and scores, into .venv
# make demo       train, export, verify and run on embedded data
# make test       lint, types, and the tests of every module
# make test-all   the same with whole roads, the pages' commands, and tests that need minutes
# make site       the pages of docs/ as HTML, in site/
# All make .venv first where it is missing. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# As many processes as there are cores, four at most; each holds PyTorch, half a gigabyte.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

.PHONY: install demo test test-all lint site clean

install: $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/edge-aae demo

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(VENV)/.dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) demo-out dist build site .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Stamps: an install runs again only when the pins or the project's dependencies changed.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.demo $@
