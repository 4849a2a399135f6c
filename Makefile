# Each target does all its set-up in .venv; Python 3.11 and make are all that is needed.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test soak check bench clean

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml hatch_build.py | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/.installed-dev: pyproject.toml hatch_build.py | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ .venv/.installed

demo: .venv/.installed
	$(BIN)/waybridge demo

test: .venv/.installed-dev
	$(PYTEST) -n 2 --dist loadfile $(ARGS)

soak: .venv/.installed-dev
	SOAK_TESTS=1 $(PYTEST) -m 'soak or counted' --timeout 7200 -s $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

bench: .venv/.installed-dev
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf .venv build dist gateway/waybridge/web/dist
