# Two commands on a fresh machine: `make demo` and `make test`. Both need Python 3.11 or later, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test clean

demo: $(VENV)/installed
	$(BIN)/python -m ottla.cli.demo

test: $(BIN)/tox
	$(BIN)/tox

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/tox: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "tox>=4.23,<5"

# Installed again whenever a source file is newer than the last installation.
SOURCES := setup.cfg pyproject.toml $(shell find log wire raft broker client cli -name '*.py')
$(VENV)/installed: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check .
	touch $@

clean:
	rm -rf $(VENV) .tox build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
