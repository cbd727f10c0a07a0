# make        set up, then run the small experiment end to end
# make test   set up, then run the tests
# make ui     look at the runs in MLflow
.DEFAULT_GOAL := smoke
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
EXPERIMENT ?= smoke
PYTEST_WORKERS ?= 2  # processes that share the tests; 0: this one alone
SHARED_OUT := -n $(PYTEST_WORKERS) --dist loadscope --no-loadscope-reorder  # tests/conftest.py groups them

.PHONY: smoke setup test test-all ui server lint docs methods lock clean help

smoke: setup  ## set up and run the experiment (EXPERIMENT=smoke)
	@$(BIN)/snakemake --profile local --config experiment=$(EXPERIMENT)
	@echo
	@echo "The report: $(CURDIR)/results/$(EXPERIMENT)/report/index.html"

setup: $(VENV)/.installed  ## a virtual environment with the locked packages

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; give another: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "error: $(PYTHON) lacks venv; on Debian: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

test: setup  ## the tests, at most 10 minutes on two cores
	$(BIN)/python -m pytest -m "not slow" $(SHARED_OUT)

test-all: setup  ## the slow tests, half an hour: dvc; a browser (Debian: chromium chromium-driver); SLURM (docs/cluster.md)
	$(BIN)/python -m pytest -m slow $(SHARED_OUT)

ui: setup  ## the runs in MLflow, on this machine alone
	@MLFLOW_TRACKING_URI= $(BIN)/python -m kind track --experiment $(EXPERIMENT) --link || true
	@echo "(Ctrl-C ends it)"
	@MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	  $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --workers 1

server: setup  ## MLflow's server for several machines (ADDRESS=0.0.0.0, PORT=5000)
	@$(BIN)/python -m kind server --host $(or $(ADDRESS),127.0.0.1) --port $(or $(PORT),5000)

lint: setup  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: setup  ## numbers of finished experiments in README.md and docs/evidence.md
	@$(BIN)/python docs/fill.py

methods: setup  ## the list of methods in docs/methods.md
	@$(BIN)/python -m kind.reporting.methods_list

lock:  ## resolve the packages of pyproject.toml anew (needs uv)
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --no-annotate --no-header \
	  --upgrade --output-file requirements.lock

clean:  ## delete the results of EXPERIMENT
	rm -rf results/$(EXPERIMENT)

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10
