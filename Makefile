# Everything runs in .venv, which the first target makes; nothing but Python 3.11 or newer and make is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check bench clean

demo: .venv/ready-to-run          ## sample jobs of every ending, watched live
	$(BIN)/milvaion-trio demo

test: .venv/ready-to-develop check  ## all tests, lint, types and architecture
	$(BIN)/python -m pytest -n 2 -q

check: .venv/ready-to-develop     ## lint, types and architecture, without running tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8 --select ASYNC --enable ASYNC1,ASYNC2 --max-line-length 120 src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready-to-develop     ## figures of the embedded worker on this machine
	$(BIN)/python benchmarks/embedded.py

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv

.venv/ready-to-run: pyproject.toml .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/ready-to-develop: pyproject.toml .venv/ready-to-run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@
