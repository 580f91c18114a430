# make lab    the queue and JupyterLab, to learn with; PORT=8890 chooses JupyterLab's port, BROWSER=no opens no browser
# make test   lint and all tests
# make bench  how fast it is, beside Postgres itself and other queues; BENCH="publish --rounds 9" chooses,
#             BENCH_BASE=<checkout> runs another checkout beside this one
# make stress half a minute of publishers, subscribers and workers, then a verdict;
#             STRESS="--workers 8 --seconds 600 --kill --resets" kills servers and database, too
# the rest: setup, lint, notebooks, compose-test, openapi-test, clean
# PYTHON=python3.12 chooses the Python for .venv

PYTHON ?= python3
BIN := .venv/bin
STRESS ?= --seconds 30 --publishers 4 --subscribers 4 --workers 4 --topics 2 --resets

# pip is silent for a minute or two: a dot every two seconds says that it is at work
define install
	@printf 'installing what is needed, a minute or two: '; \
	(while sleep 2; do printf .; done) & dots=$$!; \
	$(BIN)/pip install --quiet --disable-pip-version-check $(1); ended=$$?; \
	kill $$dots; echo; exit $$ended
endef

.PHONY: setup lab test lint notebooks stress bench compose-test openapi-test clean

setup: .venv/ready

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	@echo 'making .venv …'
	@$(PYTHON) -m venv .venv
	$(call install,-r requirements.txt)
	@touch $@

.venv/tests-ready: .venv/ready tests/requirements.txt
	$(call install,-r requirements.txt -r tests/requirements.txt)
	@touch $@

lab: .venv/ready
	@exec $(BIN)/python -m qlib.lab $(if $(PORT),--port $(PORT)) $(if $(filter no,$(BROWSER)),--no-browser)

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
	$(call install,-r tests/bench/requirements.txt)
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
