# make train: the whole thing on bundled data. make test: lint, types and the tests that take no long time.
# make test-all: every test, also those that start ranks, kill processes, or interpret kernels for minutes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export DS_ACCELERATOR ?= cpu

.PHONY: train test test-all coverage mutation packages audit lint format docs sanitize clean

train: $(VENV)/.installed
	$(BIN)/avil-fast train overwrite=true

# Two workers, each on one thread: threads that wait for a core of another process take ten times as long.
test test-all: export OMP_NUM_THREADS = 1
test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-all: $(VENV)/.installed lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of docs/ as a site, in site/.
docs: $(VENV)/.installed
	$(BIN)/python docs/settings_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Made again when what is installed changes: the metadata, the pinned versions, or the C++ sources.
$(VENV)/.installed: pyproject.toml setup.py constraints.txt $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.exit("avil-fast needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[zero,text,dev]'
	touch $@

# Lines of avil_fast/ that the tests of make test reach, in the processes that they start too.
coverage: export OMP_NUM_THREADS = 1
coverage: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" --cov --cov-report=term-missing:skip-covered

# Changes to methods/, deltas/ and ops/ that their tests do not notice; `mutmut show NAME` says what one was.
mutation: export OMP_NUM_THREADS = 1
mutation: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt 'mutmut>=3.8,<4'
	$(BIN)/mutmut run --max-children 2

# The sdist and the wheel, installed into empty environments with and without the extras.
packages: $(VENV)/.installed
	PYTHON=$(BIN)/python tests/packages.sh

# Known weaknesses of the packages in the environment, by the advisory database of their index.
audit: $(VENV)/.installed
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

# The extension's tests under the address and undefined-behaviour sanitizers.
sanitize: $(VENV)/.installed
	PYTHON=$(BIN)/python csrc/sanitize.sh

clean:
	rm -rf $(VENV) build *.egg-info
