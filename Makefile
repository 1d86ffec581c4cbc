# What a person types. Everything lives in .venv; nothing outside the checkout is changed.
#   make demo         from a fresh checkout to worlds that can be walked through
#   make check        style, types, layers and the fast tests: under a minute once installed
#   make test         every test that this machine can run
#   make models       torch and what else the tests of the networks need; without it they are listed as NOT RUN
#   make benchmarks   the figures of the documentation, measured here
#   make images       container images, built and tried; needs Docker (ARGS="cpu", ARGS="--registry HOST/PATH")
#   make clean        removes .venv, caches and build results; output/ stays
# PYTHON=/path/to/python names the Python to build .venv with; ARGS=... adds flags to the demo, TESTS=... to pytest.

.DEFAULT_GOAL := help
.PHONY: help demo check lint fast-tests test models benchmarks images clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for name in python3 python3.12 python3.11; do \
	"$$name" -c "$(SUITABLE)" 2>/dev/null && { echo "$$name"; break; }; done)
DEMO := output/demo
# Those that a machine without a GPU can run.
BENCHMARKS := plan resume rasterizer preview transfer

help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/made:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c "$(SUITABLE)" || { \
		echo "error: Python 3.11 or 3.12 is needed$(if $(PYTHON), and $(PYTHON) is not one). What to do: install" \
			"it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

# The extras are installed again when pyproject.toml has changed; the code itself is used where it lies.
$(VENV)/preview: pyproject.toml | $(VENV)/made
	@echo "installing worldexplorer[preview] into $(VENV)"
	@$(PIP) -e ".[preview]"
	@touch $@

$(VENV)/test: pyproject.toml | $(VENV)/made
	@echo "installing worldexplorer[preview,gcs,kfp,test] into $(VENV)"
	@$(PIP) -e ".[preview,gcs,kfp,test]"
	@touch $@ $(VENV)/preview

# What the tests of the networks need besides: torch as the machine's package index has it, for the CPU if it can be had.
$(VENV)/models: $(VENV)/test
	@echo "installing the networks' libraries into $(VENV)"
	@$(PIP) torch==2.13.0
	@$(PIP) accelerate==1.15.0 diffusers==0.42.1 safetensors==0.8.0 sentencepiece==0.2.3 transformers==5.23.0
	@touch $@

models: $(VENV)/models

# In a terminal the run itself ends with the table; elsewhere it speaks JSON lines, and the table follows them.
demo: $(VENV)/preview
	@status=0; \
	$(BIN)/python run_batch_pipeline.py --dataset_dir examples/demo --output_base $(DEMO) --engine preview \
		--continue_on_error $(ARGS) || status=$$?; \
	test -t 1 || test $$status -eq 2 || $(BIN)/worldexplorer summary $(DEMO); \
	exit $$status

check: lint fast-tests

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fast-tests: $(VENV)/test
	$(BIN)/python -m pytest -q -n 2 -m "not slow" $(TESTS)

test: $(VENV)/test
	$(BIN)/python -m pytest $(TESTS)

benchmarks: $(VENV)/test
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

images: $(VENV)/test
	$(BIN)/python -m images.build $(ARGS)

clean:
	rm -rf $(VENV) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path "./.git/*" -exec rm -rf {} +
