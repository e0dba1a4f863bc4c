# make demo   set up, and run the first study: a minute or two once the packages are there
# make test   set up, and run the tests
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := orchestrate.py sweeps models data measures benchmarks tests

.PHONY: demo test test-faults test-hosts setup check format bench lock clean

demo: setup
	$(RUN) orchestrate.py run quickstart

test: setup
	$(RUN) -m pytest

# The faults at full size: 20 kills of the driver and 20 of workers (docs/reliability.md).
test-faults: setup
	ENGRAM_TEST_KILLS=20 $(RUN) -m pytest -m faults tests/reliability

# Several hosts as network namespaces, three nodes and their faults, PostgreSQL (docs/cluster.md). As root.
test-hosts: setup
	$(RUN) -m pytest -m hosts tests/cluster

setup: $(VENV)/.ready

# One lock file; a stamp, so that a second call costs nothing.
$(VENV)/.ready: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	touch $@

check: setup
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m mypy orchestrate.py sweeps models data measures
	$(RUN) -m pytest -q tests/test_import_arrow.py

format: setup
	$(RUN) -m ruff format $(SOURCES)
	$(RUN) -m ruff check --fix $(SOURCES)

bench: setup
	$(RUN) -m benchmarks

# Resolve pyproject.toml afresh and write down what came of it.
lock:
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet ".[dev]"
	.lock-venv/bin/python -m pip freeze --exclude engram-studies | sed 's/+cpu$$//' > requirements.lock
	rm -rf .lock-venv build *.egg-info

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
