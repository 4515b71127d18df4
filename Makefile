# `make help` lists the targets. Needed: Python 3.11 or newer with venv and pip; name one with PYTHON=/path/to/python3.

.SILENT:
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.stamp-runtime
DEV := $(VENV)/.stamp-dev
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help quickstart test test-slow test-browser coverage check format lock clean

help:  ## this list
	sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

quickstart: $(RUNTIME)  ## a first dataset from the embedded endpoint: no key, nothing leaves this computer
	$(BIN)/synth-async run configs/quickstart.yaml

# PYTEST_ARGS='-k journal -x' reaches pytest.
test: $(DEV)  ## the test suite, without the slow tests
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

# 5 is pytest's answer where no test is marked slow.
test-slow: $(DEV)  ## the tests that kill real processes or take long
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-browser: $(DEV)  ## the report in a headless Chromium, where there is one
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS) || [ $$? -eq 5 ]

coverage: $(DEV)  ## the test suite, and what it does not reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(DEV)  ## lint, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports

format: $(DEV)  ## put the code into its format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

$(BIN)/python:
	python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
	  for candidate in python3 python3.11 python3.12 python3.13 python3.14; do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      python="$$candidate"; break; \
	    fi; \
	  done; \
	fi; \
	if [ -z "$$python" ]; then \
	  echo 'No Python 3.11 or newer with the venv module was found.' >&2; \
	  echo 'Install one, or name it: make PYTHON=/path/to/python3' >&2; \
	  exit 1; \
	fi; \
	"$$python" -m venv $(VENV)

# The stamps say what was installed when: a newer list of requirements, or a new version, installs again.
$(RUNTIME): requirements.txt requirements-build.txt pyproject.toml synth_async/__init__.py | $(BIN)/python
	echo 'Installing into $(VENV) ...'
	$(PIP_INSTALL) --require-hashes -r requirements.txt -r requirements-build.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q synth_async # so that the first command answers as fast as the second
	touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	echo 'Installing the development tools into $(VENV) ...'
	$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	touch $@

# Pins that still fit stay. LOCK_ARGS=--upgrade takes the newest; LOCK_ARGS='--upgrade-package openai' only that one.
UV_COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --custom-compile-command 'make lock' $(LOCK_ARGS)

lock: | $(BIN)/python  ## compile the requirements files from pyproject.toml again
	[ -x .venv-lock/bin/uv ] || { $(BIN)/python -m venv .venv-lock && .venv-lock/bin/pip install --quiet 'uv>=0.9'; }
	$(UV_COMPILE) pyproject.toml --output-file requirements.txt
	$(UV_COMPILE) pyproject.toml --extra dev --constraint requirements.txt --output-file requirements-dev.txt
	$(UV_COMPILE) --group build --constraint requirements-dev.txt --output-file requirements-build.txt

clean:  ## remove environments, caches and built distributions; runs/ stays
	rm -rf $(VENV) .venv-lock build dist htmlcov .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find synth_async tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
