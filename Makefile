# `make demo` and `make test` set up everything they need in .venv, from Python 3.11 to 3.13 and pip alone.
PYTHON ?= python3
BIN := .venv/bin
# Errors only: most warnings are about pip's index and cache. Python compiles what is imported, a third of what pip would.
PIP := $(BIN)/pip install -qq --no-compile --disable-pip-version-check --root-user-action=ignore --constraint constraints.txt
MAKEFLAGS += --jobs=2
# Where this is set, each of the tests' processes would compile NeMo again, in 40 seconds.
unexport PYTHONDONTWRITEBYTECODE
ifneq ($(filter clean,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

.PHONY: demo test test-oldest test-newest compiled javascript lint benchmarks docs clean

demo: .venv/usable
	$(BIN)/nemo-distill demo

# Two processes, since most tests use one core; the tests of a file share what they make.
test: lint compiled javascript
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# While lint uses one core, the other one compiles what both processes of the tests import.
compiled: .venv/ready
	@$(BIN)/python -c "import nemo_distill.models.mt_enc_dec_model, ctranslate2, onnxruntime, transformers.pipelines"

# The library of pages that translate in a browser. Without npm, their test is skipped and says so.
javascript:
	@test -f .venv/node_modules/.package-lock.json || ! command -v npm > /dev/null || \
		npm install --prefix .venv --no-save --ignore-scripts --omit=optional --silent @huggingface/transformers@4.3.1 || \
		echo "npm could not install transformers.js; the tests that need it will be skipped." >&2

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Each benchmark in short, which shows that it runs, and not what it measures.
benchmarks: .venv/ready
	for name in decode kd_loss kd_profile kd_step mbr prepare scale size; do \
		echo "$$name" && $(BIN)/python benchmarks/$$name.py --quick || exit 1; done

# The documentation, into site/; a warning, such as a broken link, is an error.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# What the demo needs, and no compiler. torch comes first, so that nothing else chooses a build of it.
.venv/usable: pyproject.toml setup.py constraints.txt
	@echo "Setting up .venv (about two minutes)"
	@$(PYTHON) -m venv .venv
	@$(PIP) torch
	@$(PIP) --editable ".[ctranslate2,plots,demo]"
	@touch $@

# What the tests need. youtokentome and eflomal are built here, and need Cython and numpy for it.
.venv/ready: pyproject.toml setup.py constraints.txt
	@echo "Setting up .venv (about two minutes)"
	@$(PYTHON) -m venv .venv
	@$(PIP) torch "Cython<3.1" numpy setuptools wheel
	@# pip uses one core; meanwhile Python compiles on the other what the tests import of torch.
	@$(BIN)/python -c "import torch._dynamo" & $(PIP) --no-build-isolation youtokentome && \
		$(PIP) --no-build-isolation --editable ".[dev,docs,plots]"; ended=$$?; wait; exit $$ended
	@touch .venv/usable $@

# The oldest versions that setup.py allows, and the newest that go together, each in an environment of its own.
test-oldest test-newest: test-%: .venv-%/ready
	.venv-$*/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.venv-oldest/ready .venv-newest/ready: .venv-%/ready: pyproject.toml setup.py constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --constraint constraints-$*.txt torch "Cython<3.1" numpy setuptools wheel
	.venv-$*/bin/pip install --quiet --constraint constraints-$*.txt --no-build-isolation youtokentome
	.venv-$*/bin/pip install --quiet --constraint constraints-$*.txt --no-build-isolation --editable ".[dev,docs,plots]"
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-newest demo_runs site
