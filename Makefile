# `make run` and `make test` are all that is ever typed; the rest is for those who change relay.

.DEFAULT_GOAL := help
.PHONY: run test coverage test-transformers bench check lock format clean help chromium nginx
.DELETE_ON_ERROR:

SHELL := /bin/sh
BIN := .venv/bin

# A machine that keeps no bytecode would compile every library once a process; tests start thousands.
unexport PYTHONDONTWRITEBYTECODE

AT_ONCE := --numprocesses 4 --dist loadfile --no-loadscope-reorder
LOCKS := requirements/run.txt requirements/smollm2.txt

run: .venv/run.stamp ## install what is missing and start relay on http://127.0.0.1:8000 (ARGS="--port 9000")
	@exec $(BIN)/relay serve $(ARGS)

test: .venv/test.stamp chromium nginx ## install what the tests need and run them all (ARGS=tests/test_layers.py)
	@$(BIN)/python -m pytest $(AT_ONCE) $(ARGS)

coverage: .venv/test.stamp chromium nginx ## the same, and which branches of relay/ they take; twice as long
	@$(BIN)/python -m pytest $(AT_ONCE) --cov --cov-report=term --cov-fail-under=95 $(ARGS)

test-transformers: .venv/transformers.stamp ## the tests of what needs torch, which `make test` leaves out
	@$(BIN)/python -m pytest tests/hf --cov --cov-config=tests/hf/coverage.ini --cov-report=term --cov-fail-under=95 $(ARGS)

bench: .venv/bench.stamp ## measure relay, beside nginx where it is installed, into bench/results (ARGS=--quick)
	@$(BIN)/python -m bench.run $(ARGS)

check: .venv/test.stamp ## formatting, lint, types, layers, locks: nothing is changed
	@$(BIN)/ruff format --check --quiet --diff .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest --quiet --no-header tests/test_layers.py
	@$(BIN)/python requirements/lock.py --check

format: .venv/test.stamp ## format the code, sort the imports
	@$(BIN)/ruff check --quiet --fix --select I .
	@$(BIN)/ruff format --quiet .

lock: .venv/test.stamp ## lock the requirements of pyproject.toml (ARGS=--upgrade), write .env.example
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python requirements/lock.py $(ARGS)
	@$(BIN)/python -c 'import relay.settings as s; print(s.env_example(), end="")' >.env.example

clean: ## remove what was made here, .venv included
	@rm -rf .venv build dist .coverage .coverage.* coverage.xml htmlcov
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find relay tests -name __pycache__ -prune -exec rm -rf {} +

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.venv/run.stamp: $(LOCKS) pyproject.toml scripts/venv
	@scripts/venv $(LOCKS)
	@touch $@

.venv/test.stamp: .venv/run.stamp requirements/test.txt
	@scripts/venv requirements/test.txt
	@touch $@

.venv/transformers.stamp: .venv/test.stamp requirements/transformers.txt
	@scripts/venv requirements/transformers.txt
	@touch $@

.venv/bench.stamp: .venv/run.stamp requirements/bench.txt
	@scripts/venv requirements/bench.txt
	@touch $@

# The browser tests drive a real Chromium.
chromium:
	@command -v chromium >/dev/null || scripts/debian chromium

# Replicas stand behind a real nginx. Debian has it where only root's path leads.
nginx:
	@PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null || scripts/debian nginx-light
