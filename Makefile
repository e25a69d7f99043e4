# Two commands are all: `make up` runs the pool, `make test` passes the tests.
# The environment lives in .venv and is made anew whenever what it is made from changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/pool.yaml
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help up down test test-slow test-core lint format bench bench-compare bench-page native chaos simulate simulate-core soak demo-model lock clean

help: ## what can be done here
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.server: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed: make up PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the pool and llama.cpp into $(VENV)"
	@$(INSTALL) --editable '.[server,llama]'
	@touch $@

$(VENV)/.dev: $(VENV)/.server requirements-dev.txt
	@echo "installing what the tests need"
	@$(INSTALL) --requirement requirements-dev.txt
	@touch $@

up: $(VENV)/.server ## start the pool in the background and wait until its model is HOT
	@$(BIN)/modelpool up --config $(CONFIG)

down: ## stop the pool; its workers end their work first
	@test -x $(BIN)/modelpool || { echo "there is no pool: nothing was installed"; exit 0; }; \
	  $(BIN)/modelpool down --config $(CONFIG)

# Hundreds of processes are started, which would all compile the pool anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.dev ## run the tests
	@$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder -m 'not slow'

test-slow: export PYTHONDONTWRITEBYTECODE :=
test-slow: $(VENV)/.dev ## the tests that take long: real engines and loads
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m slow

test-core: $(VENV)/.dev ## only the core's tests, for whoever works on it
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -q tests/controlplane/pool \
	  tests/simulation/test_core.py tests/test_architecture.py tests/test_form.py

lint: $(VENV)/.dev ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## put the code in shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## measure speed against the bare parts and peers; wants an idle machine
	@$(BIN)/python scripts/bench

bench-compare: $(VENV)/.dev ## the newest run against a stored one, beyond noise (BASE=, RUN=)
	@$(BIN)/python scripts/bench compare $(or $(BASE),docs/benchmarks/results.json) $(RUN)

bench-page: $(VENV)/.dev ## make docs/benchmarks/ from the newest run (RUN=)
	@$(BIN)/python scripts/bench page $(RUN)

native: $(VENV)/.server ## build llama-server into .modelpool/native (ten minutes and more)
	@PYTHON=$(BIN)/python scripts/native

chaos: $(VENV)/.dev ## random faults on a real pool, each rule checked after each (SEED=, STEPS=)
	@PYTHONPATH=tests $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS))

simulate: $(VENV)/.dev ## the pool on virtual time with every fault; one seed decides all (SEED=, STEPS=)
	@$(BIN)/python scripts/simulate $(if $(SEED),--seed $(SEED) --trace) $(if $(STEPS),--steps $(STEPS))

simulate-core: $(VENV)/.dev ## a million steps of the core's decisions, without an event loop
	@$(BIN)/python scripts/simulate --core

soak: $(VENV)/.dev ## whether the manager grows under a constant load (MINUTES=)
	@PYTHONPATH=tests $(BIN)/python -m chaos.soak $(if $(MINUTES),--minutes $(MINUTES))

demo-model: $(VENV)/.dev ## train the demo model anew (needs torch; a few minutes)
	@$(BIN)/python scripts/demo_model --out configs/models/pool-demo.gguf

lock: ## renew requirements.lock from the newest versions
	@scripts/lock

clean: ## remove the environment and the state of the pool
	@rm -rf $(VENV) .modelpool .mypy_cache .ruff_cache .pytest_cache .hypothesis
