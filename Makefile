# Python 3.11 or newer; `make PYTHON=python3.12 test` selects another one.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: help install demo app docs test lint types selftest tests format build clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/dev  ## create .venv with all requirements of inference, training and tests

# Markers in .venv: the base, and the extras that were added to it.
$(VENV)/base: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/app $(VENV)/dev: $(VENV)/base
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(@F)]"
	touch $@

demo: $(VENV)/base  ## find and classify the lesion of a sample with the shipped models
	$(BIN)/segpipe predict image=data/samples/synthetic_mel.jpg output=outputs/demo overwrite=true

app: $(VENV)/app  ## serve the web page on 127.0.0.1, port 8501 or PORT; OPTIONS are key=value, such as bundles=outputs
	$(BIN)/segpipe app port=$(PORT) $(OPTIONS)

docs: install  ## build the documentation site, outputs/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

test: lint types selftest tests  ## all checks: lint, types, self-test and tests

lint: install  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install  ## mypy, strict on segpipe/
	$(BIN)/mypy

selftest: install  ## the shipped models give the expected outputs in all runtimes
	$(BIN)/segpipe selftest

tests: install  ## pytest: tests with a browser one by one, the others in two processes
	$(BIN)/python -m pytest -m browser tests/integration
	$(BIN)/python -m pytest -m "not browser" --numprocesses 2 --dist loadfile --no-loadscope-reorder

format: install  ## fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: install  ## write sdist and wheel into dist/ and check them
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

clean:  ## remove the environment and caches, never data or results
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
