# `make help` lists what there is. Every target sets up .venv by itself where it needs it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test wide soak reliability screens hosts oracles browser pictures lint docs hashes format backfill migrate simulate \
	package bench bench-full clean

VENV := .venv
BIN := $(VENV)/bin
# Settings for local runs may stand in .env; see .env.example.
WITH_ENV := set -a; if [ -f .env ]; then source ./.env; fi; set +a;
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; break; fi; done)

# Whoever runs the tests compiles them, and it takes a fifth of a minute: let it be kept.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest
# Two more than there are cores: tests wait for a lease, a quota or a server, and of three beside
# each other on two cores these had nothing to do for a fifth of the time.
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 2, 4))')
PARALLEL = --numprocesses $(WORKERS) --dist worksteal
# Of tests that run in two goes, ARGS may name some of one only (5: none was found).
NONE_SUCH = [ $$? -eq 5 ]
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate \
	--constraint constraints.txt --custom-compile-command 'make hashes'

# Before a command that is silent for long: a dot a second until it ends, however it ends.
ALIVE = while sleep 1 && kill -0 $$$$ 2>/dev/null; do printf .; done & dots=$$!; \
	trap 'kill '$$dots' 2>/dev/null; echo' EXIT;

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version): the packages of pyproject.toml, a Postgres" \
		"among them, go there and nowhere else; a minute or two, this once"
	@$(ALIVE) $(PYTHON) -m venv --clear $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed ## Backfill a simulated market into a real Postgres, and see what happens
	@$(BIN)/backfill demo

test: $(VENV)/installed ## Run the tests
	@$(PYTEST) $(PARALLEL) -m 'not soak and not wide and not browser'

wide: $(VENV)/installed ## Run what `make test` has no time for: all providers, more runs, many examples
	@$(PYTEST) $(PARALLEL) -m 'wide and not soak'
	@BACKFILL_TEST_EXAMPLES=many $(PYTEST) $(PARALLEL) -m 'not soak' tests/property

soak: $(VENV)/installed ## Run the slow tests
	@$(PYTEST) $(PARALLEL) -m 'soak and not timing'
	@$(PYTEST) -m 'soak and timing'
	@BACKFILL_TEST_EXAMPLES=others $(PYTEST) $(PARALLEL) -m 'not soak' tests/property

reliability: $(VENV)/installed ## Run the tests of faults and attacks, write docs/reliability.md
	@$(PYTEST) $(PARALLEL) --reliability=docs/reliability.md -m 'not timing' $(ARGS) || $(NONE_SUCH)
	@$(PYTEST) --reliability=docs/reliability.md -m timing $(ARGS) || $(NONE_SUCH)

screens: $(VENV)/installed ## Record anew what a terminal shows of the commands
	@$(PYTEST) $(PARALLEL) --screens=tests/screens

hosts: $(VENV)/installed ## Run the store's tests on other servers; needs npm, pgbouncer and pgpool
	@tests/hosts.sh $(BIN)/python

$(VENV)/oracles/installed: tests/oracles/requirements.txt
	@$(PYTHON) -m venv --clear $(VENV)/oracles
	@$(ALIVE) $(VENV)/oracles/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement tests/oracles/requirements.txt
	@touch $@

oracles: $(VENV)/installed $(VENV)/oracles/installed ## Compare with what real client libraries read
	@BACKFILL_ORACLES=$(VENV)/oracles/bin/python $(PYTEST) --numprocesses 1 tests/oracles

# Not beside the others: structlog loads greenlet wherever it finds it.
$(VENV)/browser/installed: tests/browser/requirements.txt $(VENV)/installed
	@$(ALIVE) $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade \
		--target $(VENV)/browser --requirement tests/browser/requirements.txt
	@touch $@

IN_BROWSER := PYTHONPATH=$(VENV)/browser $(PYTEST) --numprocesses 1 -m browser

browser: $(VENV)/browser/installed ## Look at the pages in the system's Chromium
	@$(IN_BROWSER) tests/browser

pictures: $(VENV)/browser/installed ## Take the pictures of docs/look.md anew
	@$(IN_BROWSER) --pictures docs/pictures tests/browser

$(VENV)/package/installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv --clear $(VENV)/package
	@$(ALIVE) $(VENV)/package/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt pipx twine uv
	@touch $@

package: $(VENV)/installed $(VENV)/package/installed ## Build the package, and try it on each Python, from the file alone
	@tests/package.sh $(VENV)/package/bin $(BIN)

lint: $(VENV)/installed ## Check style, types, workflows and the container
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/zizmor --offline --quiet .github
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

docs: $(VENV)/installed ## Write the pages that are made from the code
	@$(BIN)/python -m tests.documents

hashes: $(VENV)/installed ## Write requirements.txt: what ships, and the hash of each of its files
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(COMPILE) --extra build --extra embedded --extra notify --extra workers pyproject.toml --output-file requirements.txt
	@$(COMPILE) --group sbom --output-file requirements-sbom.txt

format: $(VENV)/installed ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

backfill: $(VENV)/installed ## Run: make backfill ARGS="--all --incremental"
	@$(WITH_ENV) $(BIN)/backfill run $(ARGS)

migrate: $(VENV)/installed ## Bring the database's schema up to date
	@$(WITH_ENV) $(BIN)/backfill migrate

simulate: $(VENV)/installed ## Serve the simulated provider on loopback
	@$(BIN)/backfill simulate $(ARGS)

$(VENV)/bench-installed: $(VENV)/installed
	@$(ALIVE) $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

bench: $(VENV)/bench-installed ## Measure loads beside those of other tools, in two minutes
	@$(BIN)/python -m bench quick $(ARGS)

bench-full: $(VENV)/bench-installed ## Measure at full size, in half an hour
	@$(BIN)/python -m bench full $(ARGS)

clean: ## Remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
