# Penstock: everything that a person or CI calls. `make help` lists it.

PYTHON ?= python3
JOBS ?= 2
BACKENDS := airflow prefect dagster kubeflow dask
ONLY ?= $(BACKENDS)
EXTRAS := serve sql duckdb excel postgres s3 pandera mlflow
PY := .venv/bin/python
STAMP := .venv/.penstock-stamp

# Byte code is part of what is measured and of what makes a second start fast.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv mlflow backends peers lock test test-backends format lint types imports docstrings doctest unit campaign \
	demo bench bench-peers changelog clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv from the hashed lock (uv, or venv and pip)

$(STAMP): requirements/dev.txt pyproject.toml tools/venv.py
	@$(PYTHON) tools/venv.py
	@touch $@

mlflow: .venv-mlflow/.penstock-stamp ## make .venv-mlflow, a real MLflow server for the tests, from its own lock

.venv-mlflow/.penstock-stamp: requirements/mlflow.txt tools/venv.py
	@$(PYTHON) tools/venv.py mlflow
	@touch $@

backends: $(ONLY:%=.venv-%/.penstock-stamp) ## make .venv-airflow, .venv-dask, …, an engine each; ONLY="dask airflow" for some

.venv-%/.penstock-stamp: requirements/backends/%.txt pyproject.toml tools/venv.py
	@$(PYTHON) tools/venv.py $*
	@touch $@

peers: .venv-dagster/.penstock-stamp .venv-prefect/.penstock-stamp .venv-airflow-peer/.penstock-stamp ## make what bench-peers needs

.venv-airflow-peer/.penstock-stamp: requirements/airflow-peer.txt tools/venv.py
	@$(PYTHON) tools/venv.py airflow-peer
	@touch $@

COMPILE := uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	--custom-compile-command "make lock"

# XGBoost asks for a GPU library of 300 MB and does without it on a machine that has no GPU.
# An engine's lock starts from the first: what both hold keeps its version there, for digests must be equal.
lock: ## write requirements/*.txt and requirements/backends/*.txt anew (needs uv)
	$(COMPILE) --no-emit-package nvidia-nccl-cu12 --no-emit-package nvidia-nccl-cu13 --upgrade \
		pyproject.toml $(EXTRAS:%=--extra %) --group dev -o requirements/dev.txt
	$(COMPILE) --upgrade requirements/mlflow.in -o requirements/mlflow.txt
	$(COMPILE) --upgrade requirements/backends/airflow.in -o requirements/backends/airflow.txt
	cp requirements/backends/airflow.txt requirements/airflow-peer.txt
	$(COMPILE) requirements/airflow-peer.in -o requirements/airflow-peer.txt
	for name in $(filter-out airflow,$(BACKENDS)); do \
		cp requirements/dev.txt requirements/backends/$$name.txt && \
		$(COMPILE) pyproject.toml --extra serve --extra sql --extra postgres requirements/backends/$$name.in \
			-o requirements/backends/$$name.txt || exit 1; \
	done

test: venv ## the whole truth: format, lint, types, imports, docstrings, doctests, tests
	@for part in lint types imports docstrings doctest unit; do \
		printf '\n── %s\n' $$part; $(MAKE) --no-print-directory $$part || exit 1; \
	done

empty :=
space := $(empty) $(empty)

# The tests of one engine stay in one process, which starts it once.
test-backends: venv backends ## the tests that need the engines themselves; ONLY="dask airflow" for some
	$(PY) -m pytest -n $(JOBS) --dist loadscope \
		$(if $(filter file,$(origin ONLY)),-m backends tests/backends packages,-m "$(subst $(space), or ,$(strip $(ONLY)))" tests/backends)

format: venv ## rewrite the code in the one format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lint: venv ## format and style, changing nothing
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: venv ## mypy --strict
	$(PY) -m mypy

imports: venv ## the import contracts
	.venv/bin/lint-imports

docstrings: venv ## every public name has a docstring
	.venv/bin/interrogate --quiet src

doctest: venv ## the examples in docstrings
	$(PY) -m pytest -q --doctest-modules src

ifdef PENSTOCK_CI
unit: mlflow
endif

# Fits inside the tests take one thread each, as in a run's own workers: JOBS of them share the cores already.
unit: venv ## the tests, JOBS at once
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadscope

campaign: venv ## the long fault and fuzz campaigns, by hand
	$(PY) -m pytest -m campaign --timeout 0

demo: venv ## one model from raw data to production and back, under a minute
	@$(PY) examples/demo.py

bench: venv ## the figures, ours against the bare script, measured here
	$(PY) -m benchmarks.orchestration

bench-peers: venv peers ## the same work by Dagster, Prefect and Airflow too
	$(PY) -m benchmarks.orchestration --peers

changelog: venv ## show what the fragments in changes/ would say
	.venv/bin/towncrier build --draft --version next

clean: ## remove every environment and every cache
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find src tests tools examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
