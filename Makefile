# The two commands of the README: `make serve` and `make test`. Both set up what they need in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BACKEND ?= fastpath
EXTRAS ?= test
ARGS ?=
SOURCES := pyproject.toml setup.py $(shell find fastpath -name "*.pyx" -o -name "*.pxd" -o -path "fastpath/kernels/*.[ch]")

.PHONY: serve test test-all lint clean

serve: $(VENV)/.ready
	$(BIN)/sanic server.app --backend $(BACKEND) $(ARGS)

test: $(VENV)/.ready-to-test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-all: $(VENV)/.ready-to-test lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready-to-test
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build dist src/*.egg-info; find fastpath -name "*.so" -delete

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "verbatim needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.ready: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.ready-to-test: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@ $(VENV)/.ready
