# `make help` lists the targets. These variables change what a target does:
#   DATA=path      train or evaluate on these images instead of those that `make data` simulates
#   RUN=path       the run folder to write; for `evaluate`, `predict`, `embed`, `search` and `explain`, the
#                  one to read
#   ARGS="..."     further options of the command, for example ARGS="--set train.epochs=5"
#   VIEWS=1        simulate one image of each training lens instead of two
#   WINDOW=        train on the full simulated images instead of their central pixels
#   WORKERS=2      number of processes that run the tests
#   VENV_DIR=path  where make creates its environment and keeps it up to date (default: .venv)
#   VENV=path      an existing environment to use as it is; make creates and installs nothing
#   PYTHON=...     the interpreter that creates VENV_DIR
#   PARITY_PYTHON=...  the interpreter that creates .venv-parity (default: the first of 3.11, 3.10
#                  and 3.9 that is found)

PYTHON ?= python3
# TensorFlow 2.15 has wheels for these versions only. venv needs ensurepip.
SUITS_PARITY := import ensurepip, sys, venv; sys.exit(not (3, 9) <= sys.version_info < (3, 12))
PARITY_PYTHON ?= $(shell for python in python3.11 python3.10 python3.9 python3 $(PYTHON); do \
  $$python -c '$(SUITS_PARITY)' 2>/dev/null && echo $$python && break; done)
SIMULATED := data/model_ii
PARITY := build/parity
# Lenses per class, and images of each training lens. Each test image shows a lens of its own, so
# that their scores are independent.
COUNT ?= 3000
VIEWS ?= 2
TEST_COUNT ?= 1000
WORKERS ?= 2

VENV_DIR ?= .venv
PARITY_VENV := .venv-parity
BENCH := .venv-bench

# INSTALLED is the file that marks a complete installation. The targets depend on it.
ifdef VENV
INSTALLED :=
else
VENV := $(VENV_DIR)
INSTALLED := $(VENV_DIR)/.installed
endif

QUIETLY := --quiet --disable-pip-version-check
RUN_PYTHON := $(VENV)/bin/python
RUN_DIR := $(if $(RUN),--run-dir '$(RUN)')
# All tests of a module run in one process, so its fixtures are set up once. The modules keep the
# order of tests/conftest.py, the dearest first, so that the processes end together.
PYTEST = $(RUN_PYTHON) -m pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder
# WORKERS processes share the cores. What several threads might change is a matter of test-faults.
# A tutorial, too, keeps one core busy at most of its steps, so two of them run side by side.
ONE_THREAD := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1
# What XLA compiles is run for a few steps: to optimise the machine code takes longer.
BRIEFLY := XLA_FLAGS=--xla_backend_optimization_level=0

TUTORIALS = $(or $(ARGS),$(basename $(notdir $(sort $(wildcard notebooks/[0-9]*.py)))))

# With DATA the stages use those images; without it they depend on the simulated ones.
ifdef DATA
IMAGES :=
DATA_DIR := --data '$(DATA)'
WINDOW :=
else
IMAGES := data
DATA_DIR :=
# The lens of Model II lies in the central 32 x 32 of the 64 x 64 pixels. With patches of 4 pixels
# these give as many tokens as the full image with patches of 8, and resolve the ring (16 pixels
# wide) better.
WINDOW ?= --set data.image_size=32 --set data.fit=crop --set encoder.patch_size=4
endif

.DEFAULT_GOAL := help
.PHONY: help setup data pretrain-contrastive pretrain-byol pretrain-twin pretrain-simsiam \
        pretrain-inpainting finetune-classification \
        finetune-regression evaluate predict embed search map explain test test-fast test-faults parity parity-python notebooks \
        notebooks-check docs dist bench results-cpu lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 26

setup: $(INSTALLED)  ## create the environment and install the package in it

# constraints.txt fixes the tested version of every package.
$(VENV_DIR)/.installed: requirements.txt constraints.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
	  "Python 3.11 to 3.13 is needed, not " + sys.version.split()[0] + ": name one with PYTHON=")'
	$(PYTHON) -m venv '$(VENV_DIR)'
	'$(VENV_DIR)/bin/python' -m pip install $(QUIETLY) \
	  --constraint constraints.txt --editable '.[dev,docs,notebooks,all]'
	@touch $@

data: $(INSTALLED)  ## simulate training and test images in data/model_ii
	$(RUN_PYTHON) -m deeplens_tf.simulate --preset model_ii --count $(COUNT) \
	  --views-per-lens $(VIEWS) --out $(SIMULATED) --seed 0
	$(RUN_PYTHON) -m deeplens_tf.simulate --preset model_ii --count $(TEST_COUNT) \
	  --out $(SIMULATED) --seed 1 --split test

pretrain-contrastive: $(INSTALLED) $(IMAGES)  ## pretrain an encoder by contrastive learning
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config contrastive $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-byol: $(INSTALLED) $(IMAGES)  ## pretrain an encoder by BYOL
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config byol $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-twin: $(INSTALLED) $(IMAGES)  ## pretrain an encoder by Barlow Twins
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config twin $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-simsiam: $(INSTALLED) $(IMAGES)  ## pretrain an encoder by SimSiam
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config simsiam $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-inpainting: $(INSTALLED) $(IMAGES)  ## pretrain an encoder by inpainting (masked autoencoder)
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config inpainting $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

finetune-classification: $(INSTALLED) $(IMAGES)  ## fine-tune the newest encoder to predict the class
	$(RUN_PYTHON) -m deeplens_tf.finetune --head classification $(DATA_DIR) $(RUN_DIR) $(ARGS)

finetune-regression: $(INSTALLED) $(IMAGES)  ## fine-tune the newest encoder to predict the axion mass
	$(RUN_PYTHON) -m deeplens_tf.finetune --head regression $(DATA_DIR) $(RUN_DIR) $(ARGS)

evaluate: $(INSTALLED)  ## evaluate the newest fine-tuned model on the test images
	$(RUN_PYTHON) -m deeplens_tf.evaluate $(DATA_DIR) $(if $(RUN),--run '$(RUN)') $(ARGS)

predict: $(INSTALLED)  ## write the newest fine-tuned model's predictions for the images in DATA
	$(RUN_PYTHON) -m deeplens_tf.predict $(DATA_DIR) $(if $(RUN),--run '$(RUN)') $(ARGS)

embed: $(INSTALLED)  ## write the newest encoder's features for the images in DATA
	$(RUN_PYTHON) -m deeplens_tf.embed $(DATA_DIR) $(if $(RUN),--run '$(RUN)') $(ARGS)

search: $(INSTALLED)  ## list the images most like one (ARGS="--embeddings FILE.npz --like FILE")
	$(RUN_PYTHON) -m deeplens_tf.search $(if $(RUN),--run '$(RUN)') $(ARGS)

explain: $(INSTALLED)  ## draw what the newest model or encoder looks at in images of DATA
	$(RUN_PYTHON) -m deeplens_tf.explain $(DATA_DIR) $(if $(RUN),--run '$(RUN)') $(ARGS)

map: $(INSTALLED)  ## draw embeddings in two dimensions (ARGS="--embeddings FILE.npz --out DIR")
	$(RUN_PYTHON) -m deeplens_tf.map $(ARGS)

test: $(INSTALLED)  ## run all tests except those of test-faults
	$(ONE_THREAD) $(BRIEFLY) $(PYTEST) -m "not faults" $(ARGS)

test-fast: $(INSTALLED)  ## run the tests that take seconds
	$(ONE_THREAD) $(BRIEFLY) $(PYTEST) -m "not slow and not faults" $(ARGS)

test-faults: $(INSTALLED)  ## kill runs, fill disks, damage files (8 minutes; full disks need root)
	$(PYTEST) -m faults tests/faults $(ARGS)

# Exports weights and inputs, computes the original's results in its own environment, and compares.
parity: export TF_CPP_MIN_LOG_LEVEL := 3
parity: $(INSTALLED) $(PARITY_VENV)/.installed  ## compare with Keras 2 and TensorFlow Addons (2.2 GB)
	rm -rf $(PARITY)
	$(RUN_PYTHON) -m tests.parity.given $(PARITY)
	$(PARITY_VENV)/bin/python -W ignore -m parity.reference $(PARITY)
	DEEPLENS_PARITY=$(PARITY) $(RUN_PYTHON) -m pytest tests/parity

parity-python:  ## print the Python that `parity` uses; fails if none is found
	@if python='$(PARITY_PYTHON)' && $${python:-false} -c '$(SUITS_PARITY)' 2>/dev/null; \
	then echo "parity: $$python"; \
	else echo "parity: TensorFlow 2.15 needs Python 3.9 to 3.11 with venv; found" \
	  "$${python:-none}: name one with PARITY_PYTHON=" >&2; \
	  exit 1; fi

$(PARITY_VENV)/.installed: requirements-parity.txt
	@$(MAKE) --no-print-directory parity-python
	$(PARITY_PYTHON) -m venv --clear $(PARITY_VENV)
	$(PARITY_VENV)/bin/python -m pip install $(QUIETLY) -r requirements-parity.txt
	@touch $@

notebooks: $(INSTALLED)  ## execute the tutorials and rewrite their outputs (10 minutes)
	$(RUN_PYTHON) notebooks/run.py $(ARGS)
	$(RUN_PYTHON) notebooks/run.py --pictures docs

notebooks-check: $(INSTALLED)  ## execute the tutorials without writing; fails if one is stale
	printf '%s\n' $(TUTORIALS) | \
	  $(ONE_THREAD) xargs -n 1 -P $(WORKERS) $(RUN_PYTHON) notebooks/run.py --check

docs: $(INSTALLED)  ## build the site of the documentation in build/site; a warning is an error
	rm -rf build/site
	TF_CPP_MIN_LOG_LEVEL=3 $(RUN_PYTHON) -m sphinx --fail-on-warning --keep-going --quiet -c docs . build/site

dist: $(INSTALLED)  ## build the wheel and the source distribution of the last commit in dist/
	rm -rf build/package && mkdir -p build/package
	git archive HEAD | tar --extract --directory build/package
	$(RUN_PYTHON) docs/package_page.py build/package/README.md
	$(RUN_PYTHON) -m build --outdir dist build/package
	$(RUN_PYTHON) -m twine check --strict dist/*

bench: $(INSTALLED) $(BENCH)/.installed  ## measure speed, beside PyTorch (SHORT=1: 5 minutes)
	$(RUN_PYTHON) -m benchmarks.training_steps --peer $(BENCH)/bin/python $(if $(SHORT),--short) $(ARGS)
	$(if $(SHORT),,$(RUN_PYTHON) benchmarks/speed.py)
	$(if $(SHORT),,$(RUN_PYTHON) benchmarks/checkpoint_cost.py)

results-cpu: $(INSTALLED)  ## make rows of the study from nothing (ROWS="object", SEEDS=0, SKY=clean)
	$(RUN_PYTHON) -m results $(ROWS) --seeds $(or $(SEEDS),0) --sky $(or $(SKY),clean) $(ARGS)

$(BENCH)/.installed: benchmarks/requirements.txt
	$(PYTHON) -m venv '$(BENCH)'
	'$(BENCH)/bin/python' -m pip install $(QUIETLY) --requirement $<
	@touch $@

lint: $(INSTALLED)  ## check style, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/hadolint docker/Dockerfile docker/Dockerfile.gpu

clean:  ## remove build products and caches, but no data, runs or environments
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path './.venv*' -prune -o -path './$(VENV_DIR)' -prune -o \
	  -name __pycache__ -prune -exec rm -rf {} +
