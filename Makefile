# Everything runs in .venv, which the first target makes; Python 3.11 or newer and make are needed;
# the tests also want RabbitMQ and Redis, which `servers` installs from Debian where it may.
PYTHON ?= python3
BIN := .venv/bin
# uv is put into .venv like everything else: with it a first `make test` has its packages in 10 s, with pip in 29.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
export UV_PYTHON_DOWNLOADS := never
# The tests start hundreds of Pythons: compiling everything anew costs each of them half a second, and each of pytest's
# processes ten for its assertions.
unexport PYTHONDONTWRITEBYTECODE
# All of flake8-async's rules but: 109 (time limits of jobs are data here), 114 and 128 (they misread functions that hand
# task_status on), 124 (a job may be async and never wait). Test jobs misbehave on purpose, hence more for tests.
# It takes a third of a second for a file, and one core.
ASYNC := xargs -P 2 -n 30 $(BIN)/flake8-async
ASYNC_RULES := --enable ASYNC1,ASYNC2 --disable ASYNC109,ASYNC114,ASYNC124,ASYNC128

.PHONY: demo test test-all servers check docs release-check bench clean

demo: .venv/ready-to-run          ## sample jobs of every ending, watched live
	$(BIN)/milvaion-trio demo

# Four at a time, on two cores too: tests on servers wait more than they compute.
test: .venv/ready-to-develop servers  ## all tests but the long ones of the torture suite
	$(BIN)/python -m pytest -n 4 --dist worksteal -q -m "not long"

test-all: .venv/ready-to-develop servers  ## all tests
	$(BIN)/python -m pytest -n 4 --dist worksteal -q

check: .venv/ready-to-develop     ## lint, types, architecture and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files 'src/*.py' 'benchmarks/*.py' 'docs/*.py' 'release/*.py' 'torture/*.py' | $(ASYNC) $(ASYNC_RULES)
	git ls-files 'tests/*.py' | $(ASYNC) $(ASYNC_RULES),ASYNC102,ASYNC103,ASYNC104,ASYNC112,ASYNC121
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell README.md RELIABILITY.md CHANGELOG.md CONTRIBUTING.md changelog.d docs src tests benchmarks release torture
	$(BIN)/towncrier build --draft --version next >/dev/null

docs: .venv/ready-to-develop      ## the documentation, into build/docs
	$(BIN)/python -m sphinx -q -W -n --keep-going docs build/docs

release-check: .venv/ready-to-release servers  ## wheel and sdist, tested as installed, on every Python from 3.11 to 3.13 that is here
	$(BIN)/python -m release

servers:                          ## RabbitMQ and Redis for the tests, where they may be installed
	.ci/servers

bench: .venv/ready-to-develop servers  ## figures of this machine: the embedded worker, the outbox on disk, and the worker on RabbitMQ beside its peers
	$(BIN)/python benchmarks/embedded.py
	$(BIN)/python benchmarks/outbox.py
	$(BIN)/python -m benchmarks.rabbitmq
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv

.venv/bin/uv:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

.venv/ready-to-run: pyproject.toml .venv/bin/uv
	$(INSTALL) --editable .
	touch $@

.venv/ready-to-develop: pyproject.toml .venv/ready-to-run
	$(INSTALL) --group dev
	touch $@

.venv/ready-to-release: .venv/ready-to-develop
	$(INSTALL) --group release
	touch $@
