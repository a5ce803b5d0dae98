# `make help` lists the targets. Variables that reach the command underneath:
#   DATA=path   images to work on, instead of those that `make data` simulates
#   RUN=path    the run's folder: the one to write, or for evaluate the one to read
#   ARGS="..."  more options, such as ARGS="--set train.epochs=5"
#   WINDOW=     the simulated images whole, instead of the central window of them
#   WORKERS=2   processes that run the tests side by side
#   VENV=path   an environment of your own, used as it is; without it .venv is made and kept true
#   PYTHON=...  the interpreter that makes .venv
#   PARITY_PYTHON=...  the one that makes .venv-parity; without it the first of 3.11, 3.10 and 3.9

PYTHON ?= python3
# TensorFlow 2.15 has wheels for these; without ensurepip no environment can be made.
SUITS_PARITY := import ensurepip, sys, venv; sys.exit(not (3, 9) <= sys.version_info < (3, 12))
PARITY_PYTHON ?= $(shell for python in python3.11 python3.10 python3.9 python3 $(PYTHON); do \
  $$python -c '$(SUITS_PARITY)' 2>/dev/null && echo $$python && break; done)
SIMULATED := data/model_ii
PARITY := build/parity
COUNT ?= 3000
TEST_COUNT ?= 1000
WORKERS ?= 2

ifdef VENV
ENVIRONMENT :=
else
VENV := .venv
ENVIRONMENT := $(VENV)/.installed
endif

RUN_PYTHON := $(VENV)/bin/python
RUN_DIR := $(if $(RUN),--run-dir '$(RUN)')
# What one module prepares for its tests is made once: they stay in one process.
PYTEST = $(RUN_PYTHON) -m pytest --numprocesses $(WORKERS) --dist loadscope

# Images of one's own are taken as they are; without them the stages wait for simulated ones.
ifdef DATA
IMAGES :=
DATA_DIR := --data '$(DATA)'
WINDOW :=
else
IMAGES := data
DATA_DIR :=
# The lens of Model II fills the central 32 of 64 pixels. Cut into patches of 4 they give as many
# tokens as the whole image in patches of 8, and the ring, 16 pixels wide, is no longer a blur.
WINDOW ?= --set data.image_size=32 --set data.fit=crop --set encoder.patch_size=4
endif

.DEFAULT_GOAL := help
.PHONY: help setup data pretrain-contrastive pretrain-byol pretrain-twin pretrain-simsiam \
        pretrain-inpainting finetune-classification \
        finetune-regression evaluate test test-fast test-faults parity parity-python notebooks \
        notebooks-check bench lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 26

setup: $(ENVIRONMENT)  ## make .venv and install the package in it

.venv/.installed: requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
	  "Python 3.11 to 3.13 is needed, not " + sys.version.split()[0] + ": name one with PYTHON=")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,notebooks]'
	@touch $@

data: $(ENVIRONMENT)  ## simulate training and test images in data/model_ii
	$(RUN_PYTHON) -m deeplens_tf.simulate --preset model_ii --count $(COUNT) \
	  --out $(SIMULATED) --seed 0
	$(RUN_PYTHON) -m deeplens_tf.simulate --preset model_ii --count $(TEST_COUNT) \
	  --out $(SIMULATED) --seed 1 --split test

pretrain-contrastive: $(ENVIRONMENT) $(IMAGES)  ## pretrain an encoder by contrastive learning
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config contrastive $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-byol: $(ENVIRONMENT) $(IMAGES)  ## pretrain an encoder by BYOL
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config byol $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-twin: $(ENVIRONMENT) $(IMAGES)  ## pretrain an encoder by a twin network (Barlow Twins)
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config twin $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-simsiam: $(ENVIRONMENT) $(IMAGES)  ## pretrain an encoder by SimSiam
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config simsiam $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

pretrain-inpainting: $(ENVIRONMENT) $(IMAGES)  ## pretrain an encoder by inpainting (masked autoencoder)
	$(RUN_PYTHON) -m deeplens_tf.pretrain --config inpainting $(DATA_DIR) $(WINDOW) $(RUN_DIR) $(ARGS)

finetune-classification: $(ENVIRONMENT) $(IMAGES)  ## fine-tune the newest encoder on the classes
	$(RUN_PYTHON) -m deeplens_tf.finetune --head classification $(DATA_DIR) $(RUN_DIR) $(ARGS)

finetune-regression: $(ENVIRONMENT) $(IMAGES)  ## fine-tune the newest encoder on the axion's mass
	$(RUN_PYTHON) -m deeplens_tf.finetune --head regression $(DATA_DIR) $(RUN_DIR) $(ARGS)

evaluate: $(ENVIRONMENT)  ## score the newest fine-tuned model on the test images
	$(RUN_PYTHON) -m deeplens_tf.evaluate $(DATA_DIR) $(if $(RUN),--run '$(RUN)') $(ARGS)

test: $(ENVIRONMENT)  ## run all tests but those of test-faults
	$(PYTEST) -m "not faults" $(ARGS)

test-fast: $(ENVIRONMENT)  ## run the tests that take seconds
	$(PYTEST) -m "not slow and not faults" $(ARGS)

test-faults: $(ENVIRONMENT)  ## kill runs, fill disks, damage files; root for the disks (8 minutes)
	$(PYTEST) -m faults $(ARGS)

# Our weights go to the original's stack, its numbers come back, and the tests compare them.
parity: export TF_CPP_MIN_LOG_LEVEL := 3
parity: $(ENVIRONMENT) .venv-parity/.installed  ## compare with Keras 2 and TensorFlow Addons (2.2 GB)
	rm -rf $(PARITY)
	$(RUN_PYTHON) -m tests.parity.given $(PARITY)
	.venv-parity/bin/python -W ignore -m parity.reference $(PARITY)
	DEEPLENS_PARITY=$(PARITY) $(RUN_PYTHON) -m pytest tests/parity

parity-python:  ## say which Python `parity` takes; fails only where there is none
	@if python='$(PARITY_PYTHON)' && $${python:-false} -c '$(SUITS_PARITY)' 2>/dev/null; \
	then echo "parity: $$python"; \
	else echo "parity: TensorFlow 2.15 needs Python 3.9 to 3.11 with venv, not" \
	  "$${python:-what is found here}: name one with PARITY_PYTHON=" >&2; \
	  exit 1; fi

.venv-parity/.installed: requirements-parity.txt
	@$(MAKE) --no-print-directory parity-python
	$(PARITY_PYTHON) -m venv --clear .venv-parity
	.venv-parity/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements-parity.txt
	@touch $@

notebooks: $(ENVIRONMENT)  ## execute the tutorials and rewrite their outputs (10 minutes)
	$(RUN_PYTHON) notebooks/run.py $(ARGS)
	$(RUN_PYTHON) notebooks/run.py --pictures docs

notebooks-check: $(ENVIRONMENT)  ## execute the tutorials, write nothing, fail on a stale one
	$(RUN_PYTHON) notebooks/run.py --check $(ARGS)

bench: $(ENVIRONMENT)  ## measure speed: simulation, training, checkpoints (2 minutes)
	$(RUN_PYTHON) benchmarks/speed.py
	$(RUN_PYTHON) benchmarks/checkpoint_cost.py

lint: $(ENVIRONMENT)  ## check style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:  ## remove what can be made again, but never data, runs or .venv
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
