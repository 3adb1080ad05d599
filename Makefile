# Two commands: `make study` and `make test`. Both set up a virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: study test lint bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make study   set up, then run the study gap-vs-capacity"
	@echo "make test    set up, then lint and test"
	@echo "make bench   benchmarks against plain Ray Tune and JAX, printed as ratios"
	@echo "make docs    pictures and reference pages from code"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	touch $@

study: $(VENV)/installed
	$(BIN)/gaplab run gap-vs-capacity

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy trainables search_spaces study analysis
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -q -n 2 --dist loadgroup

bench: $(VENV)/installed-bench
	$(BIN)/python -m tests.benchmarks

docs: $(VENV)/installed-test
	$(BIN)/python -m docs.make

clean:
	rm -rf $(VENV) build *.egg-info
