# The front door. `make` lists the targets; every target sets up .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
REGIMES := style valid correct

# One torch thread per process: results do not depend on the number of cores, and test processes do not compete.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help report report-quick test test-slow test-chromium mutation check format claims exact lrm pairs sgd-study coverage off-reference train-study figures figure-data notebooks docs bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run pyproject.toml
	$(RUN) -m pip install --quiet --editable '.[test,proofs]'
	touch $@

report: $(VENV)/.run  ## the main job: one report per preference regime, on the reasoning model in the box
	@set -e; for regime in $(REGIMES); do $(RUN) -m bvpo_analysis.report --regime $$regime; done

report-quick: $(VENV)/.run  ## the same on 64 pairs of one regime
	$(RUN) -m bvpo_analysis.report --quick

test: $(VENV)/.test  ## unit, property and doc tests
	$(RUN) -m pytest -m 'not slow and not gpu and not chromium' -n 2

test-slow: $(VENV)/.test  ## the tests marked slow
	$(RUN) -m pytest -m 'slow and not gpu and not chromium' -n 2

test-chromium: $(VENV)/.test  ## the report's pages in a headless Chromium: widths, console, requests, print
	$(RUN) -m pytest tests/report -m 'chromium'

mutation: $(VENV)/.test  ## do the tests notice wrong formulas? 300 small edits of theory/ and moments/
	$(RUN) tests/mutation/run.py -j 2

check: $(VENV)/.test  ## linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test  ## apply the formatter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

claims: $(VENV)/.run  ## measure every theorem again and rewrite the committed table of claims
	$(RUN) -m bvpo_analysis.claims --format json --output bvpo_analysis/claims/measured.json

exact: $(VENV)/.run  ## recompute the committed exact values by enumerating all traces of all shipped pairs
	$(RUN) -m bvpo_analysis.exact

lrm: $(VENV)/.run  ## retrain the reasoning model in the box from its seed
	$(RUN) -m bvpo_analysis.lrm.shipped.train

pairs: $(VENV)/.run  ## rebuild the shipped preference pairs
	$(RUN) -m bvpo_analysis.preferences.shipped.build

sgd-study: $(VENV)/.run  ## longer runs of SGD on the language model, resumable; rewrites what reports show of them
	$(RUN) -m bvpo_analysis.sgd.grid --output-dir runs/sgd-grid --summary bvpo_analysis/sgd/measured.json

coverage: $(VENV)/.run  ## how often the intervals hold the truth, an hour or so, resumable; rewrites the committed table
	$(RUN) -m bvpo_analysis.coverage --output-dir runs/coverage --table bvpo_analysis/coverage/measured.csv

off-reference: $(VENV)/.run  ## bias and weights at checkpoints of short runs, resumable; rewrites what reports show of them
	$(RUN) -m bvpo_analysis.off_reference --output-dir runs/off-reference --summary bvpo_analysis/off_reference/measured.json

train-study: $(VENV)/.run  ## train every method over seeds, an hour or so on two cores, resumable; rewrites the committed tables
	$(RUN) -m bvpo_analysis.training_study --output-dir runs/train-study --tables bvpo_analysis/training_study/measured

figures: $(VENV)/.run  ## redraw the paper figures from their committed results
	$(RUN) paper_figures/redraw.py

figure-data: $(VENV)/.run  ## compute the committed results behind the paper figures again, about six minutes
	@set -e; for part in studies estimators population sgd; do $(RUN) paper_figures/compute_$$part.py; done

notebooks: $(VENV)/.test  ## execute the notebooks and keep their outputs
	$(RUN) notebooks/execute.py

docs: $(VENV)/.run  ## write the pages in docs/ anew and refresh every number that the READMEs quote
	$(RUN) docs/build.py

$(VENV)/.bench: $(VENV)/.run pyproject.toml
	$(RUN) -m pip install --quiet --editable '.[bench]'
	touch $@

bench: $(VENV)/.bench  ## measure the score engines: CPU time, memory and growth, as ratios to plain passes
	$(RUN) benchmarks/run.py

clean:  ## remove the environment and caches; runs/ is kept
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
