# make lab    the queue and JupyterLab, to learn with
# make test   lint and all tests
# make bench  how fast it is, beside Postgres itself and other queues; BENCH="publish --rounds 9" chooses,
#             BENCH_BASE=<checkout> runs another checkout beside this one
# the rest: setup, lint, notebooks, stress, compose-test, openapi-test, clean
# PYTHON=python3.12 chooses the Python for .venv

PYTHON ?= python3
BIN := .venv/bin
STRESS ?= --seconds 30 --publishers 4 --subscribers 4 --topics 2 --resets

.PHONY: setup lab test lint notebooks stress bench compose-test openapi-test clean

setup: .venv/ready

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/tests-ready: .venv/ready tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt
	@touch $@

lab: .venv/ready
	exec $(BIN)/python -m qlib.lab

lint: .venv/tests-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n 2

notebooks: .venv/ready
	$(BIN)/python -m qlib.lab.course.notebooks

stress: .venv/ready
	$(BIN)/python -m qlib.lab.stress $(STRESS)

.venv/bench-ready: .venv/ready tests/bench/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/bench/requirements.txt
	@touch $@

bench: .venv/bench-ready
	$(BIN)/python -m tests.bench $(BENCH)

compose-test: .venv/tests-ready
	$(BIN)/python -m tests.compose

openapi-test: .venv/tests-ready
	$(BIN)/python -m tests.openapi

clean:
	rm -rf .venv .openapi .queue .queue.log .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
