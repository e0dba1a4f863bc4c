# make demo   set up, and run the first study: a minute or two once the packages are there
# make test   set up, and run the tests
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := orchestrate.py engram sweeps models data measures benchmarks $(wildcard examples) tests
PACKAGES := sweeps models data measures

.PHONY: demo test test-faults test-hosts test-oldest mutants setup check types format bench lock clean

demo: setup
	$(RUN) orchestrate.py run quickstart

# Two files at a time: a study's own processes keep more cores than that busy.
test: setup
	$(RUN) -m pytest -n 2 --dist loadfile

# The faults at full size: 20 kills of the driver, 20 of workers and 20 starts beside busy processes (docs/reliability.md).
test-faults: setup
	ENGRAM_TEST_KILLS=20 ENGRAM_TEST_STARTS=20 $(RUN) -m pytest -m faults tests

# Several hosts as network namespaces, three nodes and their faults, PostgreSQL (docs/cluster.md). As root.
test-hosts: setup
	$(RUN) -m pytest -m hosts tests/cluster

# The lowest versions that pyproject.toml allows, in an environment of their own, and the tests at its heart.
# MLflow 2.22 takes any SQLAlchemy 2, and stops at the import of 2.1.
OLDEST := tests/test_import_arrow.py tests/test_study.py tests/test_search.py tests/test_run.py tests/test_leaderboard.py \
	tests/test_report.py tests/test_best_model.py tests/models tests/measures tests/data

test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest $(OLDEST)

.venv-oldest/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python $(PIP) $(UV)
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct \
	    --index-strategy unsafe-best-match $(PLACES) --requirement pyproject.toml --extra dev 'sqlalchemy>=2.0.40,<2.1'
	touch $@

# Small faults, made by mutmut and planted by hand, that no test sees (docs/measures.md).
mutants: .venv-mutants/.ready
	.venv-mutants/bin/python -m benchmarks.mutants --of 300

.venv-mutants/.ready: requirements.lock
	$(PYTHON) -m venv .venv-mutants
	$(call install,.venv-mutants,--requirement requirements.lock mutmut==3.8.1)
	touch $@

setup: $(VENV)/.ready

# Packages are installed with uv, which the environment gets from pip, and with pip where uv cannot be had or fails:
# it reads neither pip's settings nor its variables, so those that name places are handed on.
PLACES := $(foreach place,$(PIP_FIND_LINKS),--find-links $(place)) \
	$(foreach place,$(PIP_EXTRA_INDEX_URL),--extra-index-url $(place)) \
	$(if $(PIP_INDEX_URL),--index-url $(PIP_INDEX_URL))
PIP = -m pip --disable-pip-version-check --quiet install
# $(call install,ENVIRONMENT,WHAT): install into the environment of that folder.
define install
	@{ $(1)/bin/python $(PIP) $(UV) && $(1)/bin/uv pip install --quiet --python $(1)/bin/python \
	    --index-strategy unsafe-best-match $(PLACES) $(2); } || \
	{ echo 'uv cannot install the packages here: pip does, which takes minutes'; $(1)/bin/python $(PIP) $(2); }
endef
UV = $(shell grep '^uv==' requirements.lock)

# One lock file; a stamp, so that a second call costs nothing.
$(VENV)/.ready: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),--requirement requirements.lock)
	touch $@

check: setup types
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m ruff check $(SOURCES)
	MYPYPATH=build/types $(RUN) -m mypy --cache-dir=/dev/null -p engram  # a cache does not know the links again
	$(RUN) -m pytest -q tests/test_import_arrow.py

# The folders under the name by which they are imported.
types:
	rm -rf build/types && mkdir -p build/types/engram
	ln -s $(CURDIR)/engram/*.py $(CURDIR)/engram/py.typed $(addprefix $(CURDIR)/,$(PACKAGES)) build/types/engram/

format: setup
	$(RUN) -m ruff format $(SOURCES)
	$(RUN) -m ruff check --fix $(SOURCES)

bench: setup
	$(RUN) -m benchmarks

# Resolve pyproject.toml afresh and write down what came of it.
lock:
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python $(PIP) ".[dev]"
	.lock-venv/bin/python -m pip freeze --all --exclude pip --exclude engram-studies | sed 's/+cpu$$//' > requirements.lock
	rm -rf .lock-venv build *.egg-info

clean:
	rm -rf $(VENV) .venv-oldest .venv-mutants .pytest_cache .mypy_cache .ruff_cache build
