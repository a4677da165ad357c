# `make demo` and `make test` are the two doors. Each makes what it needs: a virtual environment with
# the locked packages, in the first call only.
#   make demo OPEN=1             show the demo's page in the browser
#   make test PYTHON=python3.12  another interpreter than python3

PYTHON := python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint docs lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo   run the whole loop on the bundled workload, offline, and write its page'
	@echo 'make test   everything that has to hold: lint, then the tests'
	@echo 'make lint   format, lint, types, import contracts, docs'
	@echo 'make docs   write the generated pages of the docs again'
	@echo 'make lock   resolve the locked packages again (needs uv)'
	@echo 'make clean  remove the virtual environment, caches, builds and the demo'

demo: $(VENV)/.runtime
	@$(BIN)/stillhouse demo $(if $(OPEN),--open)

test: lint
	@$(BIN)/pytest

lint: $(VENV)/.dev
	$(call step,format,$(BIN)/ruff format --check .)
	$(call step,lint,$(BIN)/ruff check .)
	$(call step,types,$(BIN)/mypy)
	$(call step,contracts,$(BIN)/lint-imports)
	$(call step,docs,$(BIN)/python tools/check_docs.py)

docs: $(VENV)/.dev
	@$(BIN)/python tools/check_docs.py --write

lock:
	@$(COMPILE) pyproject.toml --group build -o requirements.lock
	@$(COMPILE) pyproject.toml --group build --extra dev -c requirements.lock -o requirements-dev.lock

clean:
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -rf build dist stillhouse-demo

# What is installed is remembered by a stamp. The dev lock holds the runtime lock, so it sets both.
$(VENV)/.runtime: requirements.lock pyproject.toml $(VENV)/pyvenv.cfg
	$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml $(VENV)/pyvenv.cfg
	$(call install,requirements-dev.lock)
	@touch $(VENV)/.runtime $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Stillhouse needs Python 3.11 or newer; name one with make PYTHON=...'; exit 1; }
	$(call step,venv,$(PYTHON) -m venv $(VENV))

# $(call step,NAME,COMMAND): one line where all is well, everything that was said where it is not.
step = @printf '%-10s ' '$(1)'; began=$$(date +%s); said=$$({ $(2); } 2>&1) \
	&& echo "ok, $$(($$(date +%s) - began)) s" || { echo failed; printf '%s\n' "$$said"; exit 1; }

# $(call install,LOCK): the locked packages by their hashes, then this one in place.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps
install = $(call step,install,$(PIP) --require-hashes -r $(1) \
	&& $(PIP) --no-build-isolation --editable .)

COMPILE := uv pip compile --quiet --upgrade --universal --fork-strategy fewest \
	--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock'
