# Two commands: `make study` and `make test`. Both set up a virtual environment first. CI runs `make test-lowest` as well.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
# The tests that touch other packages: a study on Ray, the command line, specs, searches, records, MLflow, charts, machine code.
TOUCHING := tests/study/test_packages.py tests/study/test_compat.py tests/study/cli/test_cli.py::test_a_bad_spec_is_one_line_for_every_command \
	tests/study/spec/test_spec.py tests/study/search/test_search.py tests/study/search/test_pruning.py tests/study/records/test_records.py \
	tests/study/records/test_mirror.py tests/analysis/test_compat.py tests/analysis/records/test_reader.py tests/analysis/report \
	tests/analysis/figures/test_capacity.py tests/analysis/statistics/test_aggregate.py tests/analysis/scaling/test_studies.py \
	tests/analysis/statistics/questions/test_tuning.py tests/trainables/test_compat.py tests/trainables/least_squares/test_closed_form.py

.PHONY: study test test-lowest lint bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make study   set up, then run the study gap-vs-capacity"
	@echo "make test    set up, then lint and test"
	@echo "make test-lowest  test what touches other packages with the lowest versions that pyproject.toml promises"
	@echo "make bench   benchmarks against plain Ray Tune and JAX, printed as ratios"
	@echo "make docs    pictures and reference pages from code, and the documentation site (build/site)"

# uv installs in seconds what pip takes minutes for; pip is everywhere. Both say what they are at.
UV := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/pip install --disable-pip-version-check --progress-bar off)
SAYS := $(if $(UV),,| grep --line-buffered -E "^(Collecting|Downloading|Installing|Successfully|ERROR|WARNING)" | cut -c1-150)

$(VENV)/python:
	$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))
	touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/python
	@echo "Setting up $(VENV) with $(if $(UV),uv,pip): Ray, torch, MLflow and others; some minutes, once."
	@set -o pipefail; $(INSTALL) --constraint constraints.txt --editable . $(SAYS)
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	@set -o pipefail; $(INSTALL) --constraint constraints.txt --editable ".[test]" $(SAYS)
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	@set -o pipefail; $(INSTALL) --constraint constraints.txt --editable ".[bench]" $(SAYS)
	touch $@

study: $(VENV)/installed
	$(BIN)/gaplab run gap-vs-capacity

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy trainables search_spaces study analysis
	$(BIN)/lint-imports

# Tests that start Ray mostly wait for it: three processes fill two cores.
test: lint
	$(BIN)/pytest -q -n 3 --dist loadgroup

# An environment over the other one, in which only what is lower is installed.
$(LOWEST)/installed: $(VENV)/installed-test constraints-lowest.txt
	$(BIN)/python -m venv $(LOWEST)
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> "$$($(LOWEST)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/below.pth"
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement constraints-lowest.txt
	touch $@

test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -q -n 2 --dist loadgroup $(TOUCHING) -k "not killed and not beats"

bench: $(VENV)/installed-bench
	$(BIN)/python -m tests.benchmarks

docs: $(VENV)/installed-test
	$(BIN)/python -m docs.make
	$(BIN)/mkdocs build --quiet --site-dir build/site
	@echo "The documentation stands in build/site/index.html"

clean:
	rm -rf $(VENV) $(LOWEST) build *.egg-info
