# Python 3.11 or newer; `make PYTHON=python3.12 test` takes another one.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: help install demo app docs test lint types tests format build clean

help:  ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/installed  ## make .venv with everything that training, inference and tests need

$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install  ## find and name the lesion of a shipped sample, with the shipped weights
	$(BIN)/segpipe predict image=data/samples/synthetic_mel.jpg output=outputs/demo overwrite=true

app: install  ## open the web page on 127.0.0.1, port 8501 or PORT; OPTIONS are key=value, such as bundles=outputs
	$(BIN)/segpipe app port=$(PORT) $(OPTIONS)

docs: install  ## build the documentation as a site, outputs/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

test: lint types tests  ## everything that must hold

lint: install  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install  ## mypy, strict on segpipe/
	$(BIN)/mypy

tests: install  ## pytest
	$(BIN)/python -m pytest

format: install  ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: install  ## sdist and wheel in dist/, checked by twine
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

clean:  ## remove the environment and caches, never data or results
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
