# `make demo` and `make test` set up everything they need in .venv, from Python 3.11 and pip alone.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint reference clean

demo: .venv/ready
	$(BIN)/python examples/nlp/machine_translation/compare_students.py --config-name demo

# Two processes, since most tests use one core; the tests of a file share what they make.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# docs/reference.md from the docstrings
reference: .venv/ready
	$(BIN)/python docs/reference.py

# torch comes first, so that nothing else chooses a build of it. youtokentome needs Cython to build and does not say so.
.venv/ready: setup.py constraints.txt
	@echo "Setting up .venv (about two minutes)"
	$(PYTHON) -m venv .venv
	$(PIP) torch "Cython<3.1" setuptools wheel
	$(PIP) --no-build-isolation youtokentome
	$(PIP) --editable ".[dev,plots]"
	touch $@

clean:
	rm -rf .venv demo_runs
