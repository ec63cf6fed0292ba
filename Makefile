# Everything that is typed here often; `make help` lists it. Every target sets up what it needs in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BACKEND ?=
EXTRAS ?= test
LOCKED ?=
ARGS ?=
SOURCES := pyproject.toml setup.py build_fastpath.py $(shell find fastpath -name "*.pyx" -o -name "*.pxd" -o -path "fastpath/kernels/*.[ch]")
SOURCES += $(wildcard $(patsubst fastpath/%.pxd,reference/%.py,$(filter %.pxd,$(SOURCES))))  # those that are compiled, too
KERNELS := $(wildcard benchmarks/*.c cuda/*.cu cuda/*.cuh fastpath/kernels/*.[ch] tests/parity/*.c) \
           $(wildcard $(addprefix tests/gpu/emulator/*.,h cpp cu))
BUILD_REQUIRES := $(shell sed -n '/^requires = /{s/^[^[]*\[//; s/\].*//; s/", "/" "/g; p;}' pyproject.toml)
BUILD = $(BIN)/python setup.py build_ext --inplace  # pip shows nothing of this; it finds it done, and so it is quick
INSTALL = $(BIN)/python -m pip install --quiet
PYTEST := $(BIN)/python -m pytest
QUICK := test_architecture or test_words or (contract and reference and not test_speculation) \
         or test_logits_of_a_wider_model or (test_chat and fastpath and (test_shape or test_a_stream_equals))

.PHONY: help serve test test-quick test-all lint format lock page clean
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf "make %-11s %s\n" "$$name" "$$text"; done
	@echo "Settings: ARGS='...' for serve and tests, BACKEND=reference, PYTHON=python3.14, VENV=folder, EXTRAS=test,clients,"
	@echo "LOCKED=1 to install exactly what requirements/dev.txt says."

serve: $(VENV)/.ready ## serve the demo model on 127.0.0.1:8000
	$(BIN)/verbatim serve $(addprefix --backend ,$(BACKEND)) $(ARGS)

test: $(VENV)/.ready-to-test lint ## style, types and all tests but the exhaustive ones
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-quick: $(VENV)/.ready-to-test ## a minute: architecture, the reference's contract, a look at parity and at the server
	$(PYTEST) -q -n 2 --dist loadfile -m "not slow" -k "$(QUICK)" \
	  tests/test_architecture.py $(wildcard tests/test_words.py) tests/contract tests/parity/test_engines.py tests/server/test_chat.py $(ARGS)

test-all: $(VENV)/.ready-to-test lint ## style, types and all tests, for an hour or more
	$(PYTEST) $(ARGS)

lint: $(VENV)/.ready-to-test ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint .  # it looks for pycodestyle there
	$(BIN)/clang-format --dry-run -Werror $(KERNELS)
	$(BIN)/mypy

format: $(VENV)/.ready-to-test ## bring Python, C and CUDA sources into their form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNELS)

lock: $(VENV)/bin/python ## make requirements/dev.txt anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	env -u UV_INDEX -u UV_FIND_LINKS -u UV_DEFAULT_INDEX $(BIN)/uv pip compile --no-config --universal --generate-hashes --upgrade \
	  --python-version 3.11 --extra test --extra clients --default-index https://pypi.org/simple \
	  --custom-compile-command "make lock" --quiet --output-file requirements/dev.txt pyproject.toml

page: ## build the web page anew from server/page/src; needs Node 20.19 or newer
	cd server/page && npm ci --no-audit --no-fund && npm run build

clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist src/*.egg-info; find fastpath -name "*.so" -delete

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "verbatim needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) $(BUILD_REQUIRES)
	$(BUILD)
	$(INSTALL) --no-build-isolation --editable .
	touch $@

$(VENV)/.ready-to-test: $(SOURCES) | $(VENV)/bin/python
ifdef LOCKED
	$(INSTALL) --require-hashes --requirement requirements/dev.txt
endif
	$(INSTALL) $(BUILD_REQUIRES)
	$(BUILD)
ifdef LOCKED
	$(INSTALL) --no-build-isolation --no-deps --editable .
else
	$(INSTALL) --no-build-isolation --editable '.[$(EXTRAS)]'
endif
	touch $@ $(VENV)/.ready
