# Two commands are all: `make up` runs the pool, `make test` passes the tests.
# The environment lives in .venv and is made anew whenever what it is made from changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/pool.yaml
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help up down screenshots test test-slow test-examples test-native test-llama-cpp-python test-core lint format bench bench-compare bench-page router-eval native chaos simulate simulate-core soak rounds docs demo-model lock clean

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

# Libraries of engines, some of a gigabyte; a PyTorch that is there stays.
$(VENV)/.engines: $(VENV)/.dev requirements-engines.txt
	@echo "installing the engines that the slow tests try; some are big"
	@$(INSTALL) --requirement requirements-engines.txt
	@# Of it only the graphs that it brings are wanted, not the libraries that it needs.
	@$(INSTALL) --no-deps silero-vad
	@touch $@

$(VENV)/.docs: $(VENV)/.dev requirements-docs.txt
	@echo "installing what the pages are built with"
	@$(INSTALL) --requirement requirements-docs.txt
	@touch $@

up: $(VENV)/.server ## start the pool in the background and wait until its model is HOT
	@$(BIN)/modelpool up --config $(CONFIG)

down: ## stop the pool; its workers end their work first
	@test -x $(BIN)/modelpool || { echo "there is no pool: nothing was installed"; exit 0; }; \
	  $(BIN)/modelpool down --config $(CONFIG)

# Hundreds of processes are started, which would all compile the pool anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.dev ## run the tests
	@$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder \
	  --ignore tests/engines -m 'not slow and not native'

test-slow: export PYTHONDONTWRITEBYTECODE :=
test-slow: $(VENV)/.engines $(VENV)/.docs ## the tests that take long: real engines and loads
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m slow

test-examples: export PYTHONDONTWRITEBYTECODE :=
test-examples: $(VENV)/.dev ## the property tests again, with all of their examples
	@TEST_EXAMPLES=all $(BIN)/python -m pytest --numprocesses 2 --dist worksteal \
	  --ignore tests/engines --ignore tests/e2e -m 'hypothesis and not slow and not native'

test-native: $(VENV)/.dev native ## the tests of what native builds
	@$(BIN)/python -m pytest --numprocesses 2 -q -m native tests/worker

test-llama-cpp-python: export PYTHONDONTWRITEBYTECODE :=
test-llama-cpp-python: $(VENV)/.dev ## the engine llama-cpp-python with the real package (builds llama.cpp: ten minutes and more)
	@$(INSTALL) --editable '.[llama-cpp-python]'
	@$(BIN)/python -m pytest -q tests/engines/llama_cpp_python_real.py

test-core: $(VENV)/.dev ## only the core's tests, for whoever works on it
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -q tests/controlplane/pool \
	  tests/simulation/test_core.py tests/test_architecture.py tests/test_form.py

screenshots: $(VENV)/.dev ## the pictures of the docs, by the tests of the page (chromium)
	@mkdir -p docs/images
	@MODELPOOL_TEST_PICTURES=$(CURDIR)/docs/images $(BIN)/python -m pytest -q -m '' \
	  -k pictures_for_the_docs tests/e2e/test_web_page.py

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

router-eval: $(VENV)/.dev ## how good the router of auto is, on requests of known difficulty; writes docs/router/
	@$(BIN)/python scripts/router_eval --write

simulate: $(VENV)/.dev ## the pool on virtual time with every fault; one seed decides all (SEED=, STEPS=)
	@$(BIN)/python scripts/simulate $(if $(SEED),--seed $(SEED) --trace) $(if $(STEPS),--steps $(STEPS))

simulate-core: $(VENV)/.dev ## a million steps of the core's decisions, without an event loop
	@$(BIN)/python scripts/simulate --core

soak: $(VENV)/.dev ## whether the manager grows under a constant load (MINUTES=)
	@PYTHONPATH=tests $(BIN)/python -m chaos.soak $(if $(MINUTES),--minutes $(MINUTES))

rounds: $(VENV)/.engines ## load, ask and unload each engine fifty times: is all memory back? (ROUNDS=, ENGINE=)
	@PYTHONPATH=tests:scripts $(BIN)/python -m chaos.rounds $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(ENGINE),--engine "$(ENGINE)")

docs: $(VENV)/.docs ## build the pages of docs/ as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

demo-model: $(VENV)/.dev ## train the demo model anew (needs torch; a few minutes)
	@$(BIN)/python scripts/demo_model --out configs/models/pool-demo.gguf

lock: ## renew requirements.lock from the newest versions
	@scripts/lock

clean: ## remove the environment and the state of the pool
	@rm -rf $(VENV) .modelpool site .mypy_cache .ruff_cache .pytest_cache .hypothesis
