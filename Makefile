# Two commands do everything: `make demo` and `make test`. All they install goes into .venv.
# `make PYTHON=/path/to/python3 ...` chooses another Python than the first usable one on the PATH.

SHELL := bash
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
PYTHON ?= $(or $(shell for python in $(CANDIDATES); do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done),python3)
BIN := .venv/bin
INSTALL = set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation
PROGRESS = | while read -r line; do if test -t 2; then printf '\r\033[K%.78s' "$$line" >&2; fi; done
ENGINE ?= docker

.DEFAULT_GOAL := help
.PHONY: help demo test chaos bench autoscale simulate check dashboards lock image clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: .venv/ready ## set up, then run the main job on servers of its own, in under a minute
	@$(BIN)/collector demo

# Tests that judge time first, alone. The others mostly wait for servers: six at a time keep two cores busy. They start
# hundreds of Python processes, none of which should compile all modules anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/dev ## set up, then run all tests on real servers
	@status=0; \
	$(BIN)/python -m pytest -m alone || status=$$?; \
	$(BIN)/python -m pytest -m "not alone" --numprocesses 6 || status=$$?; \
	exit $$status

ROUNDS ?= 60
chaos: .venv/dev ## break servers and replicas under load, count what is lost or twice (ROUNDS=60, ARGS=--help)
	@$(BIN)/python -m tests.chaos --rounds $(ROUNDS) $(ARGS)

bench: .venv/dev ## measure everything on servers of its own (ARGS=--quick: a few minutes; ARGS=--help: more)
	@$(BIN)/python -m bench $(ARGS)

autoscale: .venv/dev ## a tenfold burst, and the shipped scaling recipe at work on real replicas: two minutes (ARGS=--help)
	@$(BIN)/python -m bench.autoscale $(ARGS)

simulate: .venv/dev ## 100,000 random schedules of the time-series protocol in virtual time (ARGS=--help: more)
	@$(BIN)/python -m tests.simulation $(ARGS)

check: .venv/dev ## lint, formatting, types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

dashboards: .venv/dev ## write the Grafana dashboards, docs/metrics.md and docs/settings.md anew from the code
	@$(BIN)/python -m grafana

lock: ## write requirements/*.txt anew from pyproject.toml (ARGS=--upgrade: the newest version of everything)
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools"; "$$tools/bin/pip" install --quiet uv; \
	lock() { "$$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file "requirements/$$@" $(ARGS); }; \
	lock dev.txt --group dev --all-extras pyproject.toml; \
	lock demo.txt --extra service --extra local --constraint requirements/dev.txt pyproject.toml; \
	lock build.txt --group build --constraint requirements/dev.txt; \
	lock service.txt --extra service --constraint requirements/dev.txt pyproject.toml; \
	lock manifests.txt --group manifests --constraint requirements/dev.txt

# What the demo needs. Nothing is fetched without its hash. There are two steps, because nkeys has no wheel: it is built with
# the locked setuptools of the first one.
.venv/ready: pyproject.toml requirements/build.txt requirements/demo.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "expected Python 3.11 or newer, got $$($(PYTHON) -V 2>&1 | head -1) from $(PYTHON); install it (Debian 12 or newer:" \
			"apt-get install python3-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "expected $(PYTHON) to be able to make environments, its module ensurepip is missing; install it:" \
			"apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up .venv with $$($(PYTHON) -V): some 70 MB, half a minute, once"
	@$(PYTHON) -m venv --clear .venv
	@$(INSTALL) --require-hashes -r requirements/build.txt $(PROGRESS)
	@$(INSTALL) --require-hashes -r requirements/demo.txt $(PROGRESS)
	@$(INSTALL) --no-deps --editable . $(PROGRESS)
	@test ! -t 2 || printf '\r\033[K' >&2
	@touch $@

# What only tests, the benchmark and the checks need.
.venv/dev: .venv/ready requirements/dev.txt
	@echo "adding what only tests need to .venv: some 260 MB, a minute or two, once"
	@$(INSTALL) --require-hashes -r requirements/dev.txt $(PROGRESS)
	@test ! -t 2 || printf '\r\033[K' >&2
	@touch $@

image: ## build the container image (ENGINE=podman, buildah ...)
	$(ENGINE) build -t transfer-collector .

clean: ## remove what the other targets made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
