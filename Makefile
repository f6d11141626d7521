# `make study` runs the main job, `make test` one case of each quick test of the package, `make test-all` all cases and
# the tests of faults, whole studies, benchmarks and pages, `make test-long` the remaining ones, `make docs` builds the
# pages of docs/; each creates .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
# Each process runs whole files; tests/conftest.py says which come first.
PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: study test test-all test-long docs check lint scan audit bench format clean

study: .venv/study
	$(BIN)/python run_study.py --tasks glue --space mini

test: .venv/test
	$(BIN)/python -m pytest -m "not slow and not long" --first-case --ignore tests/benchmarks --ignore tests/docs $(PARALLEL)

test-all: .venv/test
	$(BIN)/python -m pytest -m "not long" $(PARALLEL) --durations 10

test-long: .venv/test
	$(BIN)/python -m pytest -m long
	$(BIN)/python -m pytest -m "hypothesis and not slow" --hypothesis-profile thousand $(PARALLEL)

# A warning, such as a link that leads nowhere, is an error. Links to other sites are not followed.
docs: .venv/docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

check: lint scan audit

lint: .venv/test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# File digests, the passwords in tests and the studies of an earlier version are not secrets.
scan: .venv/dev
	git ls-files -z --cached --others --exclude-standard | xargs -0 $(BIN)/detect-secrets-hook \
		--exclude-files '^tests/old_studies/' --exclude-lines '^DIGEST = ' --exclude-secrets '^([0-9a-f]{64}|hunter2|s3cret|correct-horse-7)$$'

# Asks the package index for known vulnerabilities of the installed packages, so it needs the network.
audit: .venv/dev
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

# Compares krona_tune with Ray Tune and PEFT's LoKr: make bench DATA=DIR, where DIR holds GLUE's official TSV files.
bench: .venv/test
	$(BIN)/python -m tests.benchmarks.peer.run --data $(DATA)

format: .venv/test
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:
	rm -rf .venv build docs/_build *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "krona_tune needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/study: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[peft]'
	touch $@

.venv/test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test,docs]'
	touch $@ .venv/study .venv/docs

.venv/docs: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

.venv/dev: .venv/test
	$(BIN)/python -m pip install --quiet --editable '.[test,docs,dev]'
	touch $@
