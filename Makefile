# `make run` and `make test` need Python 3.10 to 3.13 and make, nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# A Python of your choice: make run PYTHON=/path/to/python3.12
PYTHON ?=
# Processes of make test; each has servers of its own.
PROCESSES := 2
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.requirements
DEVELOPMENT := $(VENV)/.requirements-dev
PEERS := .venv-bench

.PHONY: help run test lint format bench soak lock clean

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

run: $(RUNTIME) ## Install if needed, start everything and serve; Ctrl-C stops it
	@exec $(BIN)/oversight up

test: lint ## Check everything, on temporary servers of the tests' own
	@exec $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --durations 15 $(ARGS)

lint: $(DEVELOPMENT) ## Style and types of Python, style of SQL
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/oversight openapi --check
	@$(BIN)/sqlfluff lint --disable-progress-bar --processes 0 models snapshots tests/generic tests/parity tests/integrity

format: $(DEVELOPMENT) ## Bring Python and SQL into the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/sqlfluff fix --disable-progress-bar --processes 0 models snapshots tests/generic tests/parity tests/integrity

bench: $(DEVELOPMENT) $(PEERS)/.requirements ## Measure speed and memory; prints figures, judges none
	@exec $(BIN)/python -m pytest -s tests/python/bench -o python_files='bench_*.py' $(ARGS)

soak: $(DEVELOPMENT) ## The long tests (about two hours): ten simulated days, load, hostile requests
	@exec $(BIN)/python -m pytest -s tests/python/soak -o python_files='soak_*.py' $(ARGS)

# The lock holds every package for every supported Python and system, with hashes.
lock: ## Write the lock files anew (needs uv)
	@lock() { \
		name=$$1; shift; \
		uv pip compile --quiet "$$@" --universal --python-version 3.10 --generate-hashes --no-annotate \
			--no-strip-extras --no-emit-index-url --no-emit-find-links \
			--custom-compile-command "make lock" --output-file $$name; \
	}; \
	lock requirements.txt pyproject.toml --extra install && \
	lock requirements-dev.txt pyproject.toml --extra install --extra dev && \
	lock requirements-bench.txt --group bench

clean: ## Remove what make installed; data in .oversight stays
	@rm -rf $(VENV) $(PEERS) target .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(RUNTIME): requirements.txt pyproject.toml
	@PYTHON="$(PYTHON)" sh .ci/install requirements.txt
	@touch $@

$(DEVELOPMENT): requirements-dev.txt pyproject.toml
	@PYTHON="$(PYTHON)" sh .ci/install requirements-dev.txt
	@touch $@ $(RUNTIME)

$(PEERS)/.requirements: requirements-bench.txt $(DEVELOPMENT)
	@printf 'making $(PEERS), the programs to compare with\n'
	@$(BIN)/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes --no-deps --requirement requirements-bench.txt
	@touch $@
